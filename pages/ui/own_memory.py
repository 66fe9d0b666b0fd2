"""What the panel for a person's own text remembers: what was typed, and the run that it was filled from.

`begin(run)`           before the panel is drawn: fill in what the session does not know yet
`keep()`               after it: what was not asked yet outlasts a reload, too
`asked(run)`           what is in the panel has been asked, as this run
`as_typed(task, ...)`  the widgets' values that lead to a task
`pages_of(...)`        the pages of a document, wherever its text was edited
Another run that is looked at fills the panel anew, unless something in it has not been asked yet.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import streamlit as st

from at2_core.prompts import ContextTask, Document, are_pages
from pages.ui import own_draft
from pages.ui.jobs import Run, Settings
from pages.ui.mark_sources import alike

Pages = tuple[tuple[int, int], ...]
MOST_DOCUMENTS, MOST_TURNS = 20, 4
ONE, SEVERAL, WHOLE = "One text", "Several documents", "A whole prompt"
GENERATE, GIVEN = "Let the model answer", "Use my own response"
LENGTHS = (16, 512)  # tokens of a response in the panel, at least and at most
USUAL: dict[str, Any] = {
    "own-kind": ONE, "own-way": GENERATE, "own-length": 128, "own-temperature": 0.0, "own-seed": 0,
    "own-documents": [0, 1], "own-next": 2, "own-turns": 0, "own-first": False, "own-controls": True,
}  # fmt: skip
_TEXTS = re.compile(r"own-(query|system|context|prompt|given|title-\d+|text-\d+|user-\d+|assistant-\d+)")
_CHOICES = re.compile(r"own-(kind|way|length|temperature|seed|documents|turns|first|controls|marks)")
_KINDS = {"own-kind": (ONE, SEVERAL, WHOLE), "own-way": (GENERATE, GIVEN)}
_RANGES: dict[str, tuple[float, float]] = {
    "own-length": LENGTHS, "own-temperature": (0, 1.5), "own-seed": (0, 2**31 - 1), "own-turns": (0, MOST_TURNS),
    "own-next": (0, 10**6),
}  # fmt: skip


def begin(run: Run | None) -> None:
    state = st.session_state
    for key, value in USUAL.items():
        if key not in state:
            state[key] = value
    draft = own_draft.opened()
    if draft is not None:
        for key, value in _from_draft(draft).items():
            state[key] = value
        state["own-from"] = run.id if run else None  # nobody has asked it: it goes before what the run asked
        return
    if run is None or state.get("own-from") == run.id:
        return
    if _present() == state.get("own-asked") or not _present(_TEXTS):
        for key in _present(_TEXTS):
            state[key] = ""
        for key, value in as_typed(run.task, run.settings).items():
            state[key] = value
        state["own-asked"] = _present()
    state["own-from"] = run.id


def keep() -> None:
    """Write down what is in the panel. What was asked is in its run, and what nobody touched needs no keeping."""
    state = st.session_state
    usual = {key: value for key, value in USUAL.items() if value and _CHOICES.fullmatch(key)}
    if _present() == state.get("own-asked", usual):
        own_draft.end()
        return
    fields = _present() | {key: state[key] for key in USUAL}
    for number in state["own-documents"]:
        fields[f"own-open-{number}"] = bool(state.get(f"own-open-{number}", True))
        fields[f"own-pages-{number}"] = pages_of(number, state.get(f"own-text-{number}") or "")
    own_draft.keep(fields)


def _from_draft(given: dict[str, Any]) -> dict[str, Any]:
    """What a draft holds, without what no widget would take."""
    fields = {key: value for key, value in given.items() if _TEXTS.fullmatch(key) and isinstance(value, str)}
    for key, usual in USUAL.items():
        value = given.get(key)
        low, high = _RANGES.get(key, (0, 0))
        if (
            type(value) is type(usual)
            and value in _KINDS.get(key, (value,))
            and (key not in _RANGES or low <= value <= high)
        ):
            fields[key] = value
    numbers = fields.get("own-documents", USUAL["own-documents"])
    if not all(type(number) is int for number in numbers) or len(numbers) > MOST_DOCUMENTS:
        numbers = USUAL["own-documents"]
    fields |= {
        "own-documents": numbers,
        "own-next": max([fields.get("own-next", 0), *(n + 1 for n in numbers)]),
    }
    for number in numbers:
        fields[f"own-open-{number}"] = given.get(f"own-open-{number}") is not False
        pages = _pairs(given.get(f"own-pages-{number}"))
        fields[f"own-pages-{number}"] = (
            fields.get(f"own-text-{number}", ""),
            pages if are_pages(pages) else (),
        )
    marks = given.get("own-marks")
    if isinstance(marks, list) and len(marks) == 2 and marks[0] == fields.get("own-prompt"):
        spans, most = _pairs(marks[1]), len(marks[0])
        whole = all(
            len(span) == 2 and all(type(at) is int and 0 <= at <= most for at in span) for span in spans
        )
        fields["own-marks"] = (marks[0], spans if whole else ())
    return fields


def _pairs(given: Any) -> tuple[Any, ...]:
    rows = given if isinstance(given, list) else []
    return tuple(tuple(row) for row in rows if isinstance(row, list))


def asked(run: Run) -> None:
    st.session_state["own-from"] = run.id
    st.session_state["own-asked"] = _present()


def _present(*which: re.Pattern[str]) -> dict[str, Any]:
    """What is in the panel now; what is empty is left out."""
    state = st.session_state
    keys = [
        k for k in state if isinstance(k, str) and any(p.fullmatch(k) for p in which or (_TEXTS, _CHOICES))
    ]
    return {key: state[key] for key in keys if state[key]}


def within_panel(settings: Settings) -> Settings:
    """Settings that a person could have made: an evaluation's responses may be shorter or longer than the panel's."""
    least, most = LENGTHS
    return replace(settings, max_new_tokens=min(most, max(least, settings.max_new_tokens)))


def as_typed(task: ContextTask, settings: Settings) -> dict[str, Any]:
    settings = within_panel(settings)
    typed: dict[str, Any] = {
        "own-query": task.query,
        "own-system": task.system or "",
        "own-context": task.context,
        "own-first": task.context_first,
        "own-way": GENERATE,
    }
    if task.prompt:
        typed |= {"own-kind": WHOLE, "own-prompt": task.prompt, "own-controls": task.control_tokens}
        typed["own-marks"] = (task.prompt, tuple(sorted(task.marked)))
    elif task.documents:
        typed |= {"own-kind": SEVERAL, "own-documents": list(range(len(task.documents)))}
        typed["own-next"] = len(task.documents)
        for number, document in enumerate(task.documents):
            typed |= _document(number, document, False)
    else:
        typed["own-kind"] = ONE
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


def put_document(number: int, document: Document, opened: bool) -> None:
    """Into the boxes of this number. opened: whether its text is there to be edited."""
    for key, value in _document(number, document, opened).items():
        st.session_state[key] = value


def _document(number: int, document: Document, opened: bool) -> dict[str, Any]:
    return {
        f"own-title-{number}": document.title,
        f"own-text-{number}": document.text,
        f"own-open-{number}": opened,
        f"own-pages-{number}": (document.text, document.pages),
    }


def pages_of(number: int, text: str) -> Pages:
    """Where the pages of a document are in its text as it is now."""
    former, pages = st.session_state.get(f"own-pages-{number}", ("", ()))
    if former != text:
        pages = carried(pages, former, text)
        st.session_state[f"own-pages-{number}"] = (text, pages)
    return pages


def carried(pages: Pages, old: str, new: str) -> Pages:
    """The pages of a text after it was edited: each begins where its text does. None are left of a text that was replaced."""
    before = alike(old, new)
    behind = min(alike(old[::-1], new[::-1]), min(len(old), len(new)) - before)
    last, shift = len(old) - behind, len(new) - len(old)  # all edits were in old[before:last]
    if 2 * (before + behind) < min(len(old), len(new)) and not any(old[p : p + 24] in new for p, _ in pages):
        return ()
    moved: list[tuple[int, int]] = []
    reached = before
    for start, number in pages:
        if start >= last and start > before:
            start += shift
        elif start > before:  # between two edits, perhaps: where it goes on with the same words
            found = (
                new.find(old[start : start + count], reached, last + shift + count) for count in (60, 24, 8)
            )
            start = next((at for at in found if at >= 0), last + shift)
        reached = max(reached, start)
        if moved and not new[moved[-1][0] : start].strip():
            moved.pop()  # it has lost all its text
        moved.append((start, number))
    return tuple(page for page in moved if new[page[0] :].strip())
