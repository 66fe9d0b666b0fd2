"""The documents of a person's own text: a row each, with its title and length; its text is there to be edited when wanted.

`several()` draws them, `add_button()` the way to another one; `add` and `take` put some in. A document keeps the pages of its
file while its text is edited.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from at2_core.prompts import Document
from pages.ui import own_memory
from pages.ui.own_memory import MOST_DOCUMENTS, ONE, SEVERAL

KEPT: dict[str, Any] = {"persist_state": "session"}
ROW, TEXT, TALLEST = 46, 126, 400  # px: a row, its text, and all of them; more than that scrolls


def several() -> tuple[Document, ...]:
    """Draw a row for each document; return those with a text."""
    state, numbers = st.session_state, st.session_state["own-documents"]
    for number in numbers:
        if not _typed(f"own-text-{number}"):
            state[f"own-open-{number}"] = True  # and stays so while it is typed
    height = sum(ROW + TEXT * state.get(f"own-open-{number}", True) for number in numbers)
    tall = TALLEST if height > TALLEST else "content"
    with st.container(border=True, gap="xsmall", height=tall, autoscroll=True, key="own-documents-list"):
        documents = [_row(place, number) for place, number in enumerate(numbers, 1)]
        if not documents:
            st.caption("There is no document yet.")
    return tuple(document for document in documents if document.text.strip())


def add_button() -> None:
    full = len(st.session_state["own-documents"]) >= MOST_DOCUMENTS
    st.button("Add a document", icon=":material/add:", on_click=add, disabled=full, key="own-add")


def _row(place: int, number: int) -> Document:
    state, opened = st.session_state, f"own-open-{number}"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        title = st.text_input(
            f"Title of document {place}", key=f"own-title-{number}", label_visibility="collapsed",
            placeholder=f"Title of document {place} (may stay empty)", **KEPT,
        )  # fmt: skip
        length = st.empty()  # of the text, which may be edited below
        is_open = state.setdefault(opened, True)
        if not is_open or _typed(f"own-text-{number}"):
            label, icon = ("Done", ":material/check:") if is_open else ("Edit", ":material/edit:")
            st.button(
                label, icon=icon, type="tertiary", key=f"own-fold-{number}", on_click=_fold, args=(number,)
            )
        st.button(
            "Remove",
            icon=":material/close:",
            type="tertiary",
            key=f"own-remove-{number}",
            on_click=_remove,
            args=(number,),
        )
    if is_open:
        st.text_area(
            f"Text of document {place}", key=f"own-text-{number}", height=110,
            label_visibility="collapsed", placeholder="Its text", **KEPT,
        )  # fmt: skip
    text = state.get(f"own-text-{number}") or ""
    pages = own_memory.pages_of(number, text)
    if text.strip():
        length.caption(_length(text, len(pages)), width=160, text_alignment="right")
    return Document(title or "", text, pages)


def _length(text: str, pages: int) -> str:
    said = f"{len(text):,} character{'' if len(text) == 1 else 's'}"
    return f"{pages:,} page{'' if pages == 1 else 's'}, {said}" if pages else said


# ------------------------------------------------------------------------------------------- what its buttons do


def add(title: str = "", text: str = "", pages: own_memory.Pages = (), opened: bool = True) -> None:
    state = st.session_state
    number = state["own-next"]
    state["own-next"] = number + 1
    state["own-documents"] = [*state["own-documents"], number]
    own_memory.put_document(number, Document(title, text, pages), opened)


def _remove(number: int) -> None:
    state = st.session_state
    state["own-documents"] = [n for n in state["own-documents"] if n != number]
    own_memory.put_document(number, Document("", ""), True)


def _fold(number: int) -> None:
    st.session_state[f"own-open-{number}"] = not st.session_state[f"own-open-{number}"]


def take(documents: Sequence[Document]) -> list[str]:
    """Put them behind what is there, in place of boxes that are empty; a sentence for each that had no room."""
    state = st.session_state
    if state["own-kind"] == ONE:
        state["own-kind"] = SEVERAL
        if _typed("own-context"):
            add("", state["own-context"])
            state["own-context"] = ""  # it has become a document, and would become another one the next time
    blank = [n for n in state["own-documents"] if not (_typed(f"own-text-{n}") or _typed(f"own-title-{n}"))]
    state["own-documents"] = [n for n in state["own-documents"] if n not in blank]
    complaints = []
    for document in documents:
        if len(state["own-documents"]) < MOST_DOCUMENTS:
            add(document.title, document.text, document.pages, opened=False)
        else:
            complaints.append(f"{document.title} was left out: {MOST_DOCUMENTS} documents are the most.")
    return complaints


def _typed(key: str) -> str:
    return (st.session_state.get(key) or "").strip()
