"""The panel for a person's own text: documents, query, earlier turns, or a whole prompt; how the response comes about.

What is typed stays: in the session across pages and errors, and in the run behind the address across a reload.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from at2_core.prompts import ContextTask, Document, Turn
from pages.ui import document_upload, frame, own_memory
from pages.ui.jobs import Run, Settings
from pages.ui.mark_sources import mark_sources
from pages.ui.own_memory import GENERATE, GIVEN, LENGTHS, ONE, SEVERAL, WHOLE

MOST_DOCUMENTS, MOST_TURNS, MOST_CHARACTERS = 20, 4, 2_000_000
KEPT: dict[str, Any] = {"persist_state": "session"}


def own_text(run: Run | None) -> tuple[ContextTask, Settings] | None:
    """Draw the panel; return what to do when its button was pressed and nothing is missing."""
    own_memory.begin(run)
    document_upload.take_in(_take_documents)
    left, right = st.columns([1.35, 1], gap="medium")
    with left:
        given = _context()
    whole = "prompt" in given
    with right:
        if not whole:
            given["query"] = st.text_area(
                "Query", key="own-query", height=80, placeholder="What do you want to know?", **KEPT
            )
        way = st.segmented_control("Response", [GENERATE, GIVEN], key="own-way", required=True, **KEPT)
        settings = _settings() if way == GENERATE else _given()
        given |= _control_tokens() if whole else _conversation()
        busy = run is not None and run.active
        said = st.container()  # in sight of whoever presses the button
        pressed = st.button(
            "Generate" if way == GENERATE else "Attribute", type="primary", disabled=busy, key="own-go"
        )
    if not pressed:
        return None
    task = ContextTask(**given)
    missing = _missing(task, settings, whole)
    if missing:
        with said:
            frame.complain(missing, "own")
        return None
    return task, settings


def _missing(task: ContextTask, settings: Settings, whole: bool) -> str:
    """What a person has to add before anything can be asked, in one sentence."""
    if whole and not task.prompt.strip():
        return "The prompt is empty; paste the text that the model should go on from."
    if not whole and not (task.context.strip() or any(d.text.strip() for d in task.documents)):
        return "The context is empty; give the text that the response should come from."
    if not whole and not task.query.strip():
        return "The query is empty; ask something about the context."
    if settings.response is not None and not settings.response.strip():
        return "The response is empty; paste the text that should be attributed."
    size = len(task.prompt) + len(task.context) + sum(len(d.text) for d in task.documents)
    if size > MOST_CHARACTERS:
        what = "prompt" if whole else "context"
        return f"The {what} has {size:,} characters; {MOST_CHARACTERS:,} is the most this page takes."
    return ""


# --------------------------------------------------------------------------------------------------- its parts


def _context() -> dict[str, Any]:
    """`context` or `documents` of the task, or its `prompt` with what is marked in it."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.segmented_control("Context", [ONE, SEVERAL, WHOLE], key="own-kind", required=True, **KEPT)
    if kind == WHOLE:
        return _whole_prompt()
    if kind == ONE:
        text = st.text_area(
            "Context", key="own-context", height=218, label_visibility="collapsed",
            placeholder="Paste the text that the response should come from.", **KEPT,
        )  # fmt: skip
        document_upload.uploader()
        return {"context": text or ""}
    documents = []
    for place, number in enumerate(st.session_state["own-documents"]):
        with st.container(border=True, gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center"):
                title = st.text_input(
                    f"Title of document {place + 1}", key=f"own-title-{number}", label_visibility="collapsed",
                    placeholder=f"Title of document {place + 1} (may stay empty)", **KEPT,
                )  # fmt: skip
                st.button(
                    "Remove", icon=":material/close:", type="tertiary", key=f"own-remove-{number}",
                    on_click=_remove, args=(number,),
                )  # fmt: skip
            text = st.text_area(
                f"Text of document {place + 1}", key=f"own-text-{number}", height=110,
                label_visibility="collapsed", placeholder="Its text", **KEPT,
            )  # fmt: skip
        documents.append(Document(title or "", text or ""))
    full = len(documents) >= MOST_DOCUMENTS
    st.button("Add a document", icon=":material/add:", on_click=_add, disabled=full, key="own-add")
    document_upload.uploader()
    return {"documents": tuple(d for d in documents if d.text.strip())}


def _whole_prompt() -> dict[str, Any]:
    text = st.text_area(
        "Whole prompt", key="own-prompt", height=150, label_visibility="collapsed",
        placeholder="Paste a prompt as the model should read it; no chat template is put around it. "
        "Below, you can then mark the parts of it that are sources.", **KEPT,
    )  # fmt: skip
    marked = mark_sources(text, "own-marks") if (text or "").strip() else ()
    return {"prompt": text or "", "marked": marked}


def _control_tokens() -> dict[str, Any]:
    read = st.toggle(
        "Read control tokens", key="own-controls", **KEPT,
        help="Text that spells a control token of the model, such as the beginning of a turn, is read as that token. Inside "
        "what you mark it never is.",
    )  # fmt: skip
    return {"control_tokens": bool(read)}


def _settings() -> Settings:
    with st.container(horizontal=True, gap="medium"):
        length = st.slider("Tokens, at most", *LENGTHS, step=16, key="own-length", **KEPT)
        temperature = st.slider(
            "Temperature", 0.0, 1.5, step=0.1, key="own-temperature", **KEPT,
            help="0 always takes the likeliest token; more makes the response vary with the seed.",
        )  # fmt: skip
        seed = st.number_input("Seed", 0, 2**31 - 1, key="own-seed", disabled=temperature == 0, **KEPT)
    return Settings(max_new_tokens=int(length), temperature=float(temperature), seed=int(seed))


def _given() -> Settings:
    text = st.text_area(
        "My response", key="own-given", height=110, **KEPT,
        placeholder="Paste a response from anywhere; it is attributed as it stands.",
    )  # fmt: skip
    return Settings(response=text or "")


def _conversation() -> dict[str, Any]:
    """`system`, `history` and `context_first` of the task."""
    with st.expander("System message and earlier turns"):
        system = st.text_area("System message", key="own-system", height=68, **KEPT)
        turns: list[Turn] = []
        first = False
        if st.session_state["own-turns"]:
            first = st.toggle(
                "The context stands before the first turn", key="own-first", **KEPT,
                help="As in a conversation that began with it. Otherwise the context stands with the query, behind the earlier "
                "turns.",
            )  # fmt: skip
        for number in range(st.session_state["own-turns"]):
            for role, said in (("user", "You said"), ("assistant", "The model answered")):
                text = st.text_area(
                    f"{said} (turn {number + 1})", key=f"own-{role}-{number}", height=68, **KEPT
                )
                if (text or "").strip():
                    turns.append(Turn(role, text))
        st.button(
            "Add an earlier turn", icon=":material/add:", key="own-add-turn", on_click=_add_turn,
            disabled=st.session_state["own-turns"] >= MOST_TURNS,
        )  # fmt: skip
    return {"system": system or None, "history": tuple(turns), "context_first": bool(first and turns)}


# ------------------------------------------------------------------------------------------- what its buttons do


def _add(title: str = "", text: str = "") -> None:
    state = st.session_state
    number = state["own-next"]
    state["own-next"] = number + 1
    state["own-documents"] = [*state["own-documents"], number]
    state[f"own-title-{number}"], state[f"own-text-{number}"] = title, text


def _remove(number: int) -> None:
    st.session_state["own-documents"] = [n for n in st.session_state["own-documents"] if n != number]


def _add_turn() -> None:
    st.session_state["own-turns"] += 1


def _take_documents(documents: Sequence[Document]) -> list[str]:
    """Put them behind what is there, in place of boxes that are empty; a sentence for each that had no room."""
    state = st.session_state
    if state["own-kind"] == ONE:
        state["own-kind"] = SEVERAL
        if (state.get("own-context") or "").strip():
            _add("", state["own-context"])
            state["own-context"] = ""  # it has become a document, and would become another one the next time
    blank = [n for n in state["own-documents"] if not (_typed(f"own-text-{n}") or _typed(f"own-title-{n}"))]
    state["own-documents"] = [n for n in state["own-documents"] if n not in blank]
    complaints = []
    for document in documents:
        if len(state["own-documents"]) < MOST_DOCUMENTS:
            _add(document.title, document.text)
        else:
            complaints.append(f"{document.title} was left out: {MOST_DOCUMENTS} documents are the most.")
    return complaints


def _typed(key: str) -> str:
    return (st.session_state.get(key) or "").strip()
