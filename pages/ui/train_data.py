"""The examples of a form: where they come from, which column holds what, and a look at the first of them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import streamlit as st

from at2_core import formats
from at2_core.data import Example, Examples
from at2_core.errors import At2Error, DataError
from at2_core.prompts import without_surrogates
from pages.ui import frame
from pages.ui.draft import HUB, PATH, UPLOAD, Draft
from pages.ui.form_boxes import KEPT
from pages.ui.train_reading import Found, likely, look, of_columns, read_as, short

MOST_MB = 200  # and no more than the server takes
NONE = "none"
FORMATS = ", ".join(formats.READERS)
SHOWN = 240  # characters of an example
HELP = {
    "answer": "The answer that is known to be true: examples whose response gives it are reported apart.",
    "truth": "Pairs of document and sentence number, from 0, that support the answer; the documents come as sentences.",
}


def choose_data(form: Draft) -> Found | None:
    """Draw it; return what was found, also where it cannot be used yet, or None before anything was given."""
    kind = st.segmented_control("Examples", [UPLOAD, PATH, HUB], key=form.key("kind"), required=True, **KEPT)
    complaint = st.session_state.pop(form.key("upload-complaint"), "")
    if complaint:
        frame.complain(complaint, "train-upload")
    source = {UPLOAD: _upload, PATH: _path, HUB: _hub}[kind](form)
    if not source:
        return None
    with st.spinner("Reading the examples…", show_time=True):
        found = look(source, form.ROLES)
    above = st.container()  # what is wrong stands before the boxes that mend it
    if found.names or found.guess or of_columns(found.complaint):
        found = _columns(form, found)
    if found.complaint:
        with above:
            frame.complain(without_surrogates(found.complaint), "train-data")
    elif found.examples is not None:
        _preview(found.examples)
    return found


# ------------------------------------------------------------------------------------------------ where from


def _upload(form: Draft) -> str:
    path = form.uploaded()
    if path is not None:
        with st.container(horizontal=True, vertical_alignment="center", border=True):
            st.text(f"{path.name}, {_size(path.stat().st_size)}", width="stretch")
            st.button("Another file", icon=":material/close:", type="tertiary", key=form.key("drop"),
                      on_click=form.drop)  # fmt: skip
        return str(path)
    number = st.session_state.setdefault(form.key("uploads"), 0)
    upload = form.key(f"upload-{number}")
    most = min(MOST_MB, st.get_option("server.maxUploadSize"))
    st.file_uploader(
        "A file of examples", type=[suffix[1:] for suffix in formats.READERS], max_upload_size=most, key=upload,
        on_change=_take, args=(form, upload), label_visibility="collapsed",
    )  # fmt: skip
    st.caption(
        "Each row asks something about a text: a query, and a context or documents. "
        f"Of a file above {most} MB, give the path on this machine."
    )
    return ""


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1000:,.1f} KB"


def _take(form: Draft, upload: str) -> None:
    file = st.session_state[upload]
    if file is None:
        return
    try:
        form.take(file.name, file.getvalue())
    except At2Error as error:
        st.session_state[form.key("upload-complaint")] = str(error)
    st.session_state[form.key("uploads")] += 1


def _path(form: Draft) -> str:
    path = st.text_input(
        "Path", key=form.key("path"), label_visibility="collapsed", **KEPT,
        placeholder=f"a file ({FORMATS}), or a folder of saved explorations",
    )  # fmt: skip
    path = (path or "").strip().replace("\0", "")
    return str(Path(os.path.expanduser(path)).absolute()) if path else ""


def _hub(form: Draft) -> str:
    name = st.text_input(
        "Data set", key=form.key("hub"), label_visibility="collapsed", placeholder="owner/name@split", **KEPT,
        help="It is downloaded when you have entered it.",
    )  # fmt: skip
    name = (name or "").strip().removeprefix(formats.HUB)
    return formats.HUB + name if name else ""


# ------------------------------------------------------------------------------------------------ what it holds


def _columns(form: Draft, found: Found) -> Found:
    """Let the columns be changed; the examples as they are with that."""
    guess = found.guess or likely(found.names)
    names = list(found.names or guess.values())
    if form.value("columns-of") != f"{found.source} {names}":
        st.session_state[form.key("columns-of")] = f"{found.source} {names}"
        for role in form.ROLES:
            st.session_state[form.key(f"column-{role}")] = guess.get(role, "")
    with st.expander("Which column holds what", expanded=found.guess is None, key=form.key("columns")):
        picked = {}
        boxes = [box for _ in form.ROLES[::3] for box in st.columns(3, gap="small")]
        for role, box in zip(form.ROLES, boxes, strict=False):
            picked[role] = box.selectbox(
                role.capitalize(),
                names if role == "query" and role in guess else ["", *names],
                key=form.key(f"column-{role}"),
                help=HELP.get(role),
                format_func=lambda name: without_surrogates(name) or NONE,
                accept_new_options=not found.names,  # of a data set on the hub at most the guessed ones are known
                **KEPT,
            )
    asked = {role: name or "" for role, name in picked.items() if name or role in guess}
    if asked == (found.guess or {}):
        return found
    try:
        read = read_as(found.source, found.stamp, tuple(sorted(asked.items())))
    except DataError as error:
        return replace(found, examples=None, columns=asked, complaint=short(str(error), found))
    return replace(found, examples=read, columns=asked, complaint="")


def _preview(read: Examples) -> None:
    usable, unusable = len(read.examples), len(read.unusable)
    if not usable:
        frame.complain("None of the rows can be used; see why below.", "train-usable")
    else:
        st.text(f"{usable:,} of {usable + unusable:,} rows can be used.")
    if unusable:
        first = {u.reason: u.row for u in reversed(read.unusable)}
        rows = [
            {"rows": count, "why not": without_surrogates(reason), "for instance row": first[reason]}
            for reason, count in read.reasons().items()
        ]
        st.dataframe(pd.DataFrame(rows[:50]), hide_index=True, height=min(180, 36 * len(rows) + 38))
    if read.columns.response and any(e.response for e in read.examples[:100]):
        frame.remark(
            f"Responses are taken from the column {read.columns.response!r} as they stand; without it the model "
            "makes its own, which is what theta is about.",
            "train-response",
        )
    if usable:
        with st.expander("The first examples", expanded=True, key="train-first"):
            for number, example in enumerate(read.examples[:3]):
                _example(example, number)


def _example(example: Example, number: int) -> None:
    task = example.task
    context = task.context or "\n".join(f"{d.title}: {d.text}" if d.title else d.text for d in task.documents)
    with st.container(gap=None):
        st.text(_cut(task.query))
        with st.container(key=f"quiet-train-example-{number}"):
            st.text(_cut(context) + (f"\n→ {_cut(example.response)}" if example.response else ""))


def _cut(text: str) -> str:
    text = " ".join(without_surrogates(text).split())  # half a character, as JSON may hold, cannot be sent
    return text if len(text) <= SHOWN else f"{text[:SHOWN].rstrip()}…"
