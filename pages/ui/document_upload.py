"""Files as documents: the place to drop them on, and what is said about those that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import streamlit as st

from at2_core.documents import MOST_BYTES, SUFFIXES, read_document
from at2_core.errors import DocumentNotRead
from at2_core.prompts import Document
from pages.ui import frame

MOST_COMPLAINTS = 5
_readers = ThreadPoolExecutor(2)  # for all sessions: each file is read by a process of its own


def uploader() -> None:
    """Draw the place to drop files on, and what was wrong with the last ones."""
    state = st.session_state
    complaints = state.pop("upload-complaints", [])
    for i, complaint in enumerate(complaints[:MOST_COMPLAINTS]):
        frame.complain(complaint, f"upload-{i}")
    if len(complaints) > MOST_COMPLAINTS:
        frame.complain(
            f"{len(complaints) - MOST_COMPLAINTS} more files were not taken either.", "upload-more"
        )
    # Files of other kinds are let through: what the uploader itself says goes when it is emptied.
    kinds = ", ".join(suffix for suffix in SUFFIXES if suffix != ".htm")
    st.file_uploader(
        f"Drop files here as documents: {kinds}",
        accept_multiple_files=True,
        key=_key(),
        max_upload_size=MOST_BYTES // 2**20,
    )


def take_in(add: Callable[[Sequence[Document]], list[str]]) -> None:
    """Give newly dropped files to `add`, which returns a sentence for each that it left out.

    Called before any widget that `add` fills is drawn. The uploader empties itself, so that no file is taken twice.
    """
    state = st.session_state
    files = state.get(_key())
    if not files:
        return
    # Whoever types while files are read begins another run of the page: that one waits for the same reading.
    names = [file.file_id for file in files]
    if state.get("upload-work", ([], []))[0] != names:
        state["upload-work"] = names, [_readers.submit(_read, file.name, file.getvalue()) for file in files]
    work = state["upload-work"][1]
    with st.spinner("Reading the file…" if len(files) == 1 else f"Reading {len(files)} files…"):
        place = st.empty()
        while wait(work, timeout=0.2).not_done:
            place.empty()  # where the run can end
        found = [reading.result() for reading in work]
        documents = [document for result in found if not isinstance(result, str) for document in result]
        complaints = [result for result in found if isinstance(result, str)]
        state["upload-complaints"] = complaints + (add(documents) if documents else [])
        state["upload-round"] = state.get("upload-round", 0) + 1
        del state["upload-work"]


def _read(name: str, content: bytes) -> list[Document] | str:
    """The documents of a file, or the sentence that says why there are none."""
    try:
        return read_document(name, content)
    except DocumentNotRead as error:
        return str(error)


def _key() -> str:
    return f"upload-{st.session_state.get('upload-round', 0)}"
