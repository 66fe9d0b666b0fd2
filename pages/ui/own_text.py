"""The panel for a person's own text: documents, query, earlier turns, or a whole prompt; how the response comes about.

What is typed stays: in the session across pages and errors; across a reload in the run that the address names, and in a draft
until it is asked.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from at2_core.prompts import ContextTask, Turn
from pages.ui import document_upload, frame, own_documents, own_memory
from pages.ui.jobs import Run, Settings
from pages.ui.mark_sources import mark_sources
from pages.ui.own_memory import GENERATE, GIVEN, LENGTHS, MOST_TURNS, ONE, SEVERAL, WHOLE
from pages.ui.run_progress import run_estimate

MOST_CHARACTERS = 2_000_000
KEPT: dict[str, Any] = {"persist_state": "session"}


def own_text(run: Run | None) -> tuple[ContextTask, Settings] | None:
    """Draw the panel; return what to do when its button was pressed and nothing is missing."""
    own_memory.begin(run)
    document_upload.take_in(own_documents.take)
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
        run_estimate(ContextTask(**given), settings)
    own_memory.keep()
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
    with st.container(
        horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute", key="row-context"
    ):
        kind = st.segmented_control("Context", [ONE, SEVERAL, WHOLE], key="own-kind", required=True, **KEPT)
        if kind == SEVERAL:
            own_documents.add_button()
    if kind == WHOLE:
        return _whole_prompt()
    if kind == ONE:
        text = st.text_area(
            "Context", key="own-context", height=218, label_visibility="collapsed",
            placeholder="Paste the text that the response should come from.", **KEPT,
        )  # fmt: skip
        document_upload.uploader()
        return {"context": text or ""}
    documents = own_documents.several()
    document_upload.uploader()
    return {"documents": documents}


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
        with st.container(horizontal=True, gap="small"):
            st.button(
                "Add an earlier turn", icon=":material/add:", key="own-add-turn", on_click=_add_turn,
                disabled=st.session_state["own-turns"] >= MOST_TURNS,
            )  # fmt: skip
            if st.session_state["own-turns"]:
                st.button(
                    "Remove the last one", icon=":material/close:", type="tertiary", key="own-remove-turn",
                    on_click=_remove_turn,
                )  # fmt: skip
    return {"system": system or None, "history": tuple(turns), "context_first": bool(first and turns)}


def _add_turn() -> None:
    st.session_state["own-turns"] += 1


def _remove_turn() -> None:
    last = st.session_state["own-turns"] - 1
    st.session_state["own-turns"] = last
    for role in ("user", "assistant"):
        st.session_state[f"own-{role}-{last}"] = ""
