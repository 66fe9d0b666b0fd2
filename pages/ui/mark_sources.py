"""A prompt in which a person marks its sources by selecting text: the component, and the marks as Python counts them.

The browser counts UTF-16 units, Python counts characters; a mark never splits a character. Marks stay with their text
while it is edited above.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from pages.ui.component import Span, asset, script, utf16

MOST_MARKS = 500
_mount = st.components.v2.component(
    "at2_mark_sources",
    css=asset("mark_sources.css"),
    js=script("mount", "mark_sources"),
    isolate_styles=False,  # a selection inside a shadow tree is not known to every browser
)


def mark_sources(text: str, key: str) -> tuple[Span, ...]:
    """Draw the text; return the characters [start, end) that are marked in it, in order. `key` in the session holds
    (text, marks), before the first drawing as well: what is there is shown."""
    state = st.session_state
    former, marks = state.get(key, ("", ()))
    marks = marks if former == text else carried(marks, former, text)
    name = (
        f"{key}-{hashlib.sha1(text.encode('utf-8', 'surrogatepass'), usedforsecurity=False).hexdigest()[:12]}"
    )
    began = f"{key}-began"
    if state.get(began, ("", ()))[0] != name or name not in state:  # what a mount begins with stays as it is
        state[began] = (name, marks)
    at = utf16(text)
    start = [[int(at[a]), int(at[b])] for a, b in state[began][1]]
    result = _mount(key=name, data={"id": name, "text": text, "marks": start}, on_marks_change=lambda: None)
    marks = read(start if result.marks is None else result.marks, text)
    state[key] = (text, marks)
    return marks


def read(sent: Any, text: str) -> tuple[Span, ...]:
    """The marks that a browser sent, as characters; those that make no sense are left out, and overlaps are joined."""
    at = utf16(text)
    units = int(at[-1])
    good = [
        (mark[0], mark[1])
        for mark in (sent if isinstance(sent, (list, tuple)) else [])[:MOST_MARKS]
        if isinstance(mark, (list, tuple)) and len(mark) == 2 and all(type(v) is int for v in mark)
        if 0 <= mark[0] < mark[1] <= units
    ]
    marks: list[Span] = []
    for first, last in sorted(good):
        start = int(np.searchsorted(at, first, "right")) - 1  # inside a pair: the whole character
        end = int(np.searchsorted(at, last, "left"))
        if marks and start < marks[-1][1]:
            start, end = marks[-1][0], max(end, marks.pop()[1])
        marks.append((start, end))
    return tuple(marks)


def carried(marks: Sequence[Span], old: str, new: str) -> tuple[Span, ...]:
    """The marks of a text after it was edited, in one place or in several: they stay with their text. One that the edit cuts
    keeps what is left of it, one around the edit takes it in."""
    before = alike(old, new)
    behind = min(alike(old[::-1], new[::-1]), min(len(old), len(new)) - before)
    last, shift = len(old) - behind, len(new) - len(old)  # all edits were in old[before:last]
    moved: list[Span] = []
    reached = before
    for start, end in marks:
        if end <= before:
            pass
        elif start >= last or (start < before and end > last):
            start, end = start + shift * (start >= last), end + shift
        elif start < before:
            end = before
        elif end > last:
            start, end = last + shift, end + shift
        else:  # between two edits, perhaps: the same text, behind the mark before it
            at = new.find(old[start:end], reached, last + shift)
            start, end = (at, at + end - start) if at >= 0 else (0, 0)
        if start < end:
            moved.append((start, end))
            reached = max(reached, end)
    return tuple(moved)


def alike(a: str, b: str) -> int:
    """How many characters two texts have in common at their beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
