"""What a person has typed into a form, kept on this machine so that a reload or a restart finds it again.

A draft is a folder `.drafts/ID` beside the form's runs: the fields, and the uploaded file. The address holds the ID.
`place`, `folder`, `written`, `write`, `sweep`: such folders under any root; `Draft`: a form with fixed fields.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from at2_core.errors import At2Error
from at2_core.formats import READERS
from pages.ui import session

UPLOAD, PATH, HUB = "Upload a file", "A file on this machine", "A data set of the hub"
SEVERAL_DAYS = 14 * 86_400
MODEL = "model"  # begins with the server's


RANGES = {"examples": (1, 10**7), "new-tokens": (1, 1024), "seed": (0, 2**31 - 1)}


def fields_of_data(roles: tuple[str, ...]) -> dict[str, Any]:
    """What every form begins with: the model, and the examples with the columns that hold each role."""
    return {
        MODEL: "",
        "kind": UPLOAD,
        "path": "",
        "hub": "",
        "upload": "",  # name of the file in the draft's folder
        "columns-of": "",  # what the columns below were chosen for
        **{f"column-{role}": "" for role in roles},
        "examples": 0,  # 0 until there is data
    }


def place(root: Path, draft: str) -> Path:
    return root / ".drafts" / draft


def folder(root: Path, draft: str) -> Path | None:
    """Where the draft is; None for what is no draft."""
    if not re.fullmatch(r"[0-9a-f]{12}", draft):
        return None
    return place(root, draft) if place(root, draft).is_dir() else None


def written(root: Path, draft: str) -> dict[str, Any]:
    """What was written down; nothing where it cannot be read."""
    try:
        found = json.loads(place(root, draft).joinpath("draft.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(root: Path, draft: str, fields: Mapping[str, Any]) -> bool:
    """Write the fields down, and return whether it could be done: a full disk must not keep anybody from typing."""
    try:
        place(root, draft).mkdir(parents=True, exist_ok=True)
        part = place(root, draft) / "draft.part"
        part.write_text(json.dumps(fields), encoding="utf-8")
        part.replace(place(root, draft) / "draft.json")
    except OSError:
        return False
    return True


def sweep(root: Path) -> None:
    """Remove drafts that nobody has touched for long."""
    for old in root.glob(".drafts/*"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > SEVERAL_DAYS:
                shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True)
class Draft:
    """A form's fields in the session, in a folder and in the address.

    fields: with the value that they begin with. ranges: what a number may be. choices: what a text, or each of a list, may be.
    """

    prefix: str
    root: Callable[[], Path]
    ROLES: tuple[str, ...]
    fields: Mapping[str, Any]
    ranges: Mapping[str, tuple[int, int]]
    choices: Mapping[str, tuple[str, ...]]

    def key(self, field: str) -> str:
        return f"{self.prefix}-{field}"

    def usual(self, field: str) -> Any:
        return session.model() if field == MODEL else self.fields[field]

    def value(self, field: str) -> Any:
        """A field as it is now; where a box was emptied, what it began with."""
        found = st.session_state.get(self.key(field))
        return self.usual(field) if found is None else found

    def begin(self) -> str:
        """The draft's ID; the session knows all its fields afterwards."""
        state, at = st.session_state, self.key("draft")
        wished, known = st.query_params.get("draft", ""), state.get(at)
        if wished != known and folder(self.root(), wished) is not None:
            state[at] = wished
            for field, kept in self._read(wished).items():
                state[self.key(field)] = kept
        elif known is None:
            state[at] = secrets.token_hex(6)
        for field in self.fields:
            if self.key(field) not in state:
                state[self.key(field)] = self.usual(field)
        return str(state[at])

    def keep(self) -> None:
        """Write the fields down, once there is something to lose, and name the draft in the address."""
        state = st.session_state
        fields = {field: self.value(field) for field in self.fields}
        draft = state[self.key("draft")]
        empty = all(value == self.usual(field) for field, value in fields.items())
        if (
            empty and not place(self.root(), draft).joinpath("draft.json").exists()
        ):  # what was cleared is written down, too
            return
        if st.query_params.get("draft") != draft:
            st.query_params.from_dict({"draft": draft})
        if state.get(self.key("kept")) != (draft, fields) and write(self.root(), draft, fields):
            state[self.key("kept")] = (draft, fields)

    def end(self) -> None:
        """The draft has become a run; the next one begins with the same settings and without its file."""
        draft = st.session_state.pop(self.key("draft"), None)
        st.session_state[self.key("upload")] = ""
        st.session_state[self.key("columns-of")] = ""
        if draft:
            shutil.rmtree(place(self.root(), draft), ignore_errors=True)

    def uploaded(self) -> Path | None:
        """The file in the draft's folder."""
        home, name = folder(self.root(), st.session_state.get(self.key("draft"), "")), self.value("upload")
        if home is None or not name or Path(name).name != name:
            return None
        return home / name if home.joinpath(name).is_file() else None

    def take(self, name: str, content: bytes) -> None:
        """Keep an uploaded file. Raises At2Error where it is of no format that can be read, or the disk refuses."""
        plain = Path(name.replace("\\", "/")).name
        suffix = Path(plain).suffix.lower()
        if suffix not in READERS:
            raise At2Error(f"{plain} is none of {', '.join(READERS)}; save the examples as one of these.")
        plain = (re.sub(r"[^\w-]+", "_", Path(plain).stem)[:60] or "data") + suffix
        try:
            sweep(self.root())
            self.drop()
            home = place(self.root(), st.session_state[self.key("draft")])
            home.mkdir(parents=True, exist_ok=True)
            home.joinpath(plain).write_bytes(content)
        except OSError as error:
            raise At2Error(f"{plain} cannot be kept in {self.root()} ({error.strerror}).") from error
        st.session_state[self.key("upload")] = plain

    def drop(self) -> None:
        """Take the uploaded file away."""
        path = self.uploaded()
        if path is not None:
            path.unlink(missing_ok=True)
        st.session_state[self.key("upload")] = ""

    def _read(self, draft: str) -> dict[str, Any]:
        """The fields that were written down, without those that no widget would take."""
        given = written(self.root(), draft)
        return {
            field: given[field] for field in self.fields if field in given and self._fits(field, given[field])
        }

    def _fits(self, field: str, given: Any) -> bool:
        if type(given) is not type(self.fields[field]):
            return False
        if isinstance(given, list):
            allowed = self.choices.get(field)
            return all(isinstance(each, str) and (allowed is None or each in allowed) for each in given)
        low, high = self.ranges.get(field, (0, 0))
        return low <= given <= high if field in self.ranges else given in self.choices.get(field, (given,))
