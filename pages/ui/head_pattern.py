"""Attention of one to four heads as matrices, response tokens down and prompt tokens across, on a canvas.

The weights travel once per choice of heads, as float32; crosshair, zoom and scale are the browser's alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from at2_core.exploration import Exploration
from at2_core.prompts import Part
from pages.ui.component import asset, floats, script
from pages.ui.head_state import span_or_none

_mount = st.components.v2.component(
    "at2_head_matrix",
    css=asset("head_matrix.css"),
    js=script("mount", "head_matrix", "head_matrix_panel", "head_matrix_paint"),
)


@dataclass(frozen=True)
class Pattern:
    """One matrix to draw: weights float32 (T, n) under a title and a note in words."""

    id: str
    title: str
    note: str
    weights: np.ndarray


def head_matrix(
    exploration: Exploration,
    patterns: Sequence[Pattern],
    *,
    sink: bool,
    pin: tuple[int, int] | None,
    key: str,
    on_sink,
    on_pin,
) -> None:
    """Draw the patterns; call on_pin(first, last or None) and on_sink(shown) when the reader changes them.

    sink and pin are where the view starts. What the reader then does in it is not fed back: that would send the
    weights again. What was chosen elsewhere is sent under another round, for it may be what was sent before.
    """
    component_key = f"{key}-{exploration.id}"
    wished = {"sink": sink, "pin": pin}
    given = st.session_state.setdefault(
        f"{component_key}-given", {"told": wished, "began": wished, "round": 0}
    )
    if component_key not in st.session_state or given["told"] != wished:  # mounted anew, or chosen elsewhere
        given.update(told=wished, began=wished, round=given["round"] + 1)

    def pinned() -> None:
        sent = st.session_state[component_key].get("pin")
        span = sent.get("span") if isinstance(sent, Mapping) else None
        chosen = span_or_none(span, len(exploration.response_ids))
        given["told"] = {**given["told"], "pin": chosen}
        on_pin(chosen)

    def sink_switched() -> None:
        chosen = st.session_state[component_key].get("sink") is True
        given["told"] = {**given["told"], "sink": chosen}
        on_sink(chosen)

    data = {"example": exploration.id, **texts(exploration), **given["began"], "round": given["round"]}
    _mount(
        key=component_key,
        data={**data, "heads": [_payload(pattern) for pattern in patterns]},
        on_pin_change=pinned,
        on_sink_change=sink_switched,
    )


def texts(exploration: Exploration) -> dict[str, Any]:
    """Token texts of prompt and response, and the prompt's parts with their names, as the matrix shows them."""
    prompt = exploration.prompt
    return {
        "prompt": [prompt.text[start:end] for start, end in prompt.offsets],
        "response": [exploration.text[start:end] for start, end in exploration.response_offsets],
        "parts": [
            {"kind": part.kind, "names": names, "start": part.token_start, "end": part.token_end}
            for part in prompt.parts
            if part.token_start < part.token_end and (names := part_names(exploration, part))
        ],
    }


def part_names(exploration: Exploration, part: Part) -> list[str]:
    """What a part of the prompt is called on the axis, in full and then shorter for where that does not fit."""
    documents = exploration.task.documents
    if part.kind in ("context", "title") and documents:
        number = (part.document or 0) + 1
        if part.kind == "title":
            return [f"title of document {number}", "title"]
        title = documents[number - 1].title if number <= len(documents) else ""
        return [*([f"document {number}: {title}"] if title else []), f"document {number}", str(number)]
    return {"history": ["earlier turn"], "query": ["query", "q"]}.get(part.kind, [part.kind])


def _payload(pattern: Pattern) -> dict[str, str]:
    return {
        "id": pattern.id,
        "title": pattern.title,
        "note": pattern.note,
        "weights": floats(pattern.weights),
    }
