"""The panel for a person's own text: documents, query, earlier turns, how the response comes about.

What is typed stays: in the session across pages and errors, and in the run behind the address across a reload.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from at2_core.prompts import ContextTask, Document, Turn
from pages.ui import frame
from pages.ui.jobs import Run, Settings

MOST_DOCUMENTS, MOST_TURNS, MOST_CHARACTERS = 20, 4, 2_000_000
ONE, SEVERAL = "One text", "Several documents"
GENERATE, GIVEN = "Let the model answer", "Use my own response"
KEPT: dict[str, Any] = {"persist_state": "session"}


@dataclass(frozen=True)
class Upload:
    """A file as a document, or why it is none."""

    title: str
    text: str = ""
    complaint: str = ""


def own_text(run: Run | None) -> tuple[ContextTask, Settings] | None:
    """Draw the panel; return what to do when its button was pressed and nothing is missing."""
    _begin(run)
    left, right = st.columns([1.35, 1], gap="medium")
    with left:
        context = _context()
    with right:
        query = st.text_area(
            "Query", key="own-query", height=80, placeholder="What do you want to know?", **KEPT
        )
        way = st.segmented_control("Response", [GENERATE, GIVEN], key="own-way", required=True, **KEPT)
        settings = _settings() if way == GENERATE else _given()
        system, history = _conversation()
        busy = run is not None and run.active
        said = st.container()  # in sight of whoever presses the button
        pressed = st.button(
            "Generate" if way == GENERATE else "Attribute", type="primary", disabled=busy, key="own-go"
        )
    if not pressed:
        return None
    task = ContextTask(query=query, history=history, system=system or None, **context)
    missing = _missing(task, settings)
    if missing:
        with said:
            frame.complain(missing, "own")
        return None
    return task, settings


def _missing(task: ContextTask, settings: Settings) -> str:
    """What a person has to add before anything can be asked, in one sentence."""
    if not (task.context.strip() or any(d.text.strip() for d in task.documents)):
        return "The context is empty; give the text that the response should come from."
    if not task.query.strip():
        return "The query is empty; ask something about the context."
    if settings.response is not None and not settings.response.strip():
        return "The response is empty; paste the text that should be attributed."
    size = len(task.context) + sum(len(d.text) for d in task.documents)
    if size > MOST_CHARACTERS:
        return f"The context has {size:,} characters; {MOST_CHARACTERS:,} is the most this page takes."
    return ""


# --------------------------------------------------------------------------------------------------- its parts


def _context() -> dict[str, Any]:
    """`context` or `documents` of the task."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.segmented_control("Context", [ONE, SEVERAL], key="own-kind", required=True, **KEPT)
    complaints = st.session_state.pop("own-complaints", [])
    for i, complaint in enumerate(complaints):
        frame.complain(complaint, f"upload-{i}")
    if kind == ONE:
        text = st.text_area(
            "Context", key="own-context", height=218, label_visibility="collapsed",
            placeholder="Paste the text that the response should come from.", **KEPT,
        )  # fmt: skip
        _uploader()
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
    _uploader()
    return {"documents": tuple(d for d in documents if d.text.strip())}


def _uploader() -> None:
    key = f"own-upload-{st.session_state['own-uploads']}"
    st.file_uploader(
        "Add .txt or .md files as documents", type=["txt", "md"], accept_multiple_files=True, key=key, max_upload_size=5,
        on_change=_take_uploads, args=(key,),
    )  # fmt: skip


def _settings() -> Settings:
    with st.container(horizontal=True, gap="medium"):
        length = st.slider("Tokens, at most", 16, 512, step=16, key="own-length", **KEPT)
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


def _conversation() -> tuple[str, tuple[Turn, ...]]:
    with st.expander("System message and earlier turns"):
        system = st.text_area("System message", key="own-system", height=68, **KEPT)
        turns = []
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
    return system or "", tuple(turns)


# ---------------------------------------------------------------------------------------------- what it remembers


def _begin(run: Run | None) -> None:
    """Fill in what the session does not know yet: from the run behind the address, or empty."""
    state = st.session_state
    usual = {
        "own-kind": ONE, "own-way": GENERATE, "own-length": 128, "own-temperature": 0.0, "own-seed": 0,
        "own-documents": [0, 1], "own-next": 2, "own-uploads": 0, "own-turns": 0,
    }  # fmt: skip
    if run is not None and "own-filled" not in state and not state.get("own-query"):
        usual |= _as_typed(run.task, run.settings)
    state["own-filled"] = True
    for key, value in usual.items():
        if key not in state:
            state[key] = value


def _as_typed(task: ContextTask, settings: Settings) -> dict[str, Any]:
    """The widgets' values that lead to this task."""
    typed: dict[str, Any] = {
        "own-query": task.query,
        "own-system": task.system or "",
        "own-context": task.context,
    }
    if task.documents:
        typed |= {"own-kind": SEVERAL, "own-documents": list(range(len(task.documents)))}
        typed["own-next"] = len(task.documents)
        for number, document in enumerate(task.documents):
            typed |= {f"own-title-{number}": document.title, f"own-text-{number}": document.text}
    row, filled = -1, True  # a row holds what was said and what was answered; either may be missing
    for turn in task.history:
        row, filled = (
            (row, True) if turn.role == "assistant" and not filled else (row + 1, turn.role == "assistant")
        )
        typed[f"own-{turn.role}-{row}"] = turn.content
    typed["own-turns"] = row + 1
    if settings.response is not None:
        return typed | {"own-way": GIVEN, "own-given": settings.response}
    about = {"length": settings.max_new_tokens, "temperature": settings.temperature, "seed": settings.seed}
    return typed | {f"own-{name}": value for name, value in about.items()}


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


def _take_uploads(key: str) -> None:
    """Uploaded files become documents; the uploader empties itself, so that no file is taken twice."""
    state = st.session_state
    uploads = [read_upload(file.name, file.getvalue()) for file in state[key] or []]
    good = [upload for upload in uploads if not upload.complaint]
    complaints = [upload.complaint for upload in uploads if upload.complaint]
    if good and state["own-kind"] == ONE:
        state["own-kind"] = SEVERAL
        if (state.get("own-context") or "").strip():
            _add("", state["own-context"])
            state["own-context"] = ""  # it has become a document, and would become another one the next time
    blank = [n for n in state["own-documents"] if not (_typed(f"own-text-{n}") or _typed(f"own-title-{n}"))]
    state["own-documents"] = [n for n in state["own-documents"] if n not in blank or not good]
    for upload in good:
        if len(state["own-documents"]) < MOST_DOCUMENTS:
            _add(upload.title, upload.text)
        else:
            complaints.append(f"{upload.title} was left out: {MOST_DOCUMENTS} documents are the most.")
    state["own-complaints"] = complaints
    state["own-uploads"] += 1


def _typed(key: str) -> str:
    return (st.session_state.get(key) or "").strip()


def read_upload(name: str, content: bytes) -> Upload:
    """The document in a file: UTF-8 text, named after the file."""
    title = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    if not name.lower().endswith((".txt", ".md")):
        return Upload(title, complaint=f"{name} is no .txt or .md file; save the text as one of these.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Upload(title, complaint=f"{name} is not UTF-8 text; save it as UTF-8 and upload it again.")
    if "\x00" in text:
        return Upload(title, complaint=f"{name} holds binary data, not text.")
    if not text.strip():
        return Upload(title, complaint=f"{name} is empty.")
    if len(text) > MOST_CHARACTERS:
        return Upload(
            title, complaint=f"{name} has {len(text):,} characters; {MOST_CHARACTERS:,} is the most."
        )
    return Upload(title, text.replace("\r\n", "\n"))
