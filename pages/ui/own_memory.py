"""What the panel for a person's own text remembers: what was typed, and the run that it was filled from.

`begin(run)`           before the panel is drawn: fill in what the session does not know yet
`asked(run)`           what is in the panel has been asked, as this run
`as_typed(task, ...)`  the widgets' values that lead to a task
Another run that is looked at fills the panel anew, unless something in it has not been asked yet.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import streamlit as st

from at2_core.prompts import ContextTask
from pages.ui.jobs import Run, Settings

ONE, SEVERAL, WHOLE = "One text", "Several documents", "A whole prompt"
GENERATE, GIVEN = "Let the model answer", "Use my own response"
LENGTHS = (16, 512)  # tokens of a response in the panel, at least and at most
USUAL: dict[str, Any] = {
    "own-kind": ONE, "own-way": GENERATE, "own-length": 128, "own-temperature": 0.0, "own-seed": 0,
    "own-documents": [0, 1], "own-next": 2, "own-turns": 0, "own-first": False, "own-controls": True,
}  # fmt: skip
_TEXTS = re.compile(r"own-(query|system|context|prompt|given|title-\d+|text-\d+|user-\d+|assistant-\d+)")
_CHOICES = re.compile(r"own-(kind|way|length|temperature|seed|documents|turns|first|controls|marks)")


def begin(run: Run | None) -> None:
    state = st.session_state
    for key, value in USUAL.items():
        if key not in state:
            state[key] = value
    if run is None or state.get("own-from") == run.id:
        return
    if _present() == state.get("own-asked") or not _present(_TEXTS):
        for key in _present(_TEXTS):
            state[key] = ""
        for key, value in as_typed(run.task, run.settings).items():
            state[key] = value
        state["own-asked"] = _present()
    state["own-from"] = run.id


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
            typed |= {f"own-title-{number}": document.title, f"own-text-{number}": document.text}
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
