"""What a person has typed for a new run, kept on this machine so that a reload or a restart finds it again.

A draft is a folder `.drafts/ID` beside the runs: the form's fields, and the uploaded file. The address holds the ID.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

import streamlit as st

from at2_core.errors import At2Error
from at2_core.formats import READERS
from at2_core.runs import Settings
from pages.ui import session, train_runs

UPLOAD, PATH, HUB = "Upload a file", "A file on this machine", "A data set of the hub"
ROLES = ("query", "context", "documents", "response", "id", "origin")
GRANULARITIES = ("token", "word", "sentence")
SEVERAL_DAYS = 14 * 86_400
USUAL = Settings()
# Fields with the value that they begin with, and what a number may be.
FIELDS: dict[str, Any] = {
    "model": session.MODEL,
    "kind": UPLOAD,
    "path": "",
    "hub": "",
    "upload": "",  # name of the file in the draft's folder
    "columns-of": "",  # what the columns below were chosen for
    **{f"column-{role}": "" for role in ROLES},
    "examples": 0,  # 0 until there is data
    "ablations": USUAL.num_ablations,
    "new-tokens": USUAL.max_new_tokens,
    "prompt-tokens": USUAL.max_prompt_tokens,
    "granularity": USUAL.granularity,
    "seed": 0,
    "fit-seed": 0,
    "name": "",
    "licence": "",
}
RANGES = {
    "examples": (1, 10**7),
    "ablations": (4, 1024),
    "new-tokens": (1, 1024),
    "prompt-tokens": (16, 131_072),
    "seed": (0, 2**31 - 1),
    "fit-seed": (0, 2**31 - 1),
}
CHOICES = {"kind": (UPLOAD, PATH, HUB), "granularity": GRANULARITIES}


def key(field: str) -> str:
    return f"train-{field}"


def value(field: str) -> Any:
    """A field as it is now; where a box was emptied, what it began with."""
    found = st.session_state.get(key(field))
    return FIELDS[field] if found is None else found


def begin() -> str:
    """The draft's ID; the session knows all its fields afterwards."""
    state = st.session_state
    wished = st.query_params.get("draft", "")
    known = state.get("train-draft")
    if wished != known and _folder(wished) is not None:
        state["train-draft"] = wished
        for field, kept in _read(wished).items():
            state[key(field)] = kept
    elif known is None:
        state["train-draft"] = secrets.token_hex(6)
    for field, usual in FIELDS.items():
        if key(field) not in state:
            state[key(field)] = session.MODEL if field == "model" else usual
    return state["train-draft"]


def keep() -> None:
    """Write the fields down, once there is something to lose, and name the draft in the address."""
    state = st.session_state
    fields = {field: value(field) for field in FIELDS}
    draft = state["train-draft"]
    empty = (
        all(v == FIELDS[f] for f, v in fields.items() if f != "model") and fields["model"] == session.MODEL
    )
    if empty and not _place(draft).joinpath("draft.json").exists():  # what was cleared is written down, too
        return
    if st.query_params.get("draft") != draft:
        st.query_params.from_dict({"draft": draft})
    if state.get("train-kept") != (draft, fields):
        with contextlib.suppress(OSError):  # a full disk must not keep anybody from typing
            folder = _place(draft)
            folder.mkdir(parents=True, exist_ok=True)
            part = folder / "draft.part"
            part.write_text(json.dumps(fields), encoding="utf-8")
            part.replace(folder / "draft.json")
            state["train-kept"] = (draft, fields)


def end() -> None:
    """The draft has become a run; the next one begins with the same settings and without its file."""
    draft = st.session_state.pop("train-draft", None)
    st.session_state[key("upload")] = ""
    st.session_state[key("columns-of")] = ""
    if draft:
        shutil.rmtree(_place(draft), ignore_errors=True)


def uploaded() -> Path | None:
    """The file in the draft's folder."""
    folder = _folder(st.session_state.get("train-draft", ""))
    name = value("upload")
    if folder is None or not name or Path(name).name != name:
        return None
    return folder / name if folder.joinpath(name).is_file() else None


def take(name: str, content: bytes) -> None:
    """Keep an uploaded file. Raises At2Error where it is of no format that can be read, or the disk refuses."""
    plain = Path(name.replace("\\", "/")).name
    suffix = Path(plain).suffix.lower()
    if suffix not in READERS:
        raise At2Error(f"{plain} is none of {', '.join(READERS)}; save the examples as one of these.")
    plain = (re.sub(r"[^\w-]+", "_", Path(plain).stem)[:60] or "data") + suffix
    try:
        _sweep()
        drop()
        folder = _place(st.session_state["train-draft"])
        folder.mkdir(parents=True, exist_ok=True)
        folder.joinpath(plain).write_bytes(content)
    except OSError as error:
        raise At2Error(f"{plain} cannot be kept in {train_runs.root()} ({error.strerror}).") from error
    st.session_state[key("upload")] = plain


def drop() -> None:
    """Take the uploaded file away."""
    path = uploaded()
    if path is not None:
        path.unlink(missing_ok=True)
    st.session_state[key("upload")] = ""


def _place(draft: str) -> Path:
    return train_runs.root() / ".drafts" / draft


def _folder(draft: str) -> Path | None:
    """Where the draft is; None for what is no draft."""
    if not re.fullmatch(r"[0-9a-f]{12}", draft):
        return None
    return _place(draft) if _place(draft).is_dir() else None


def _read(draft: str) -> dict[str, Any]:
    """The fields that were written down, without those that no widget would take."""
    try:
        found = json.loads(_place(draft).joinpath("draft.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    kept = {}
    for field, usual in FIELDS.items():
        given = found.get(field) if isinstance(found, dict) else None
        low, high = RANGES.get(field, (0, 0))
        if type(given) is not type(usual) or (field in RANGES and not low <= given <= high):
            continue
        if given in CHOICES.get(field, (given,)):
            kept[field] = given
    return kept


def _sweep() -> None:
    """Remove drafts that nobody has touched for long."""
    for folder in train_runs.root().glob(".drafts/*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > SEVERAL_DAYS:
                shutil.rmtree(folder, ignore_errors=True)
