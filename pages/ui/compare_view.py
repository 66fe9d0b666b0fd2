"""Up to four methods side by side on one example: the component, and what a person chose in it.

Hovering, pinning and the difference of two methods are sums and colours in the browser, on matrices that are sent once.
Python hears of a pin or a switch, and never sends it back: that would send the matrices again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import streamlit as st

from at2_core.exploration import Exploration
from pages.ui.compare_state import UNITS, State, pair
from pages.ui.component import asset, beginning, floats, ints, mark, script, span_within, utf16
from pages.ui.token_heatmap import part_of_prompt, sentence_kinds, titles, whole_name

# The text view's own ways to cut, draw and colour a text; then what is new here.
SCRIPT = script("mount", "token_heatmap_scores", "token_heatmap_text", "token_heatmap_paint", "token_heatmap_parts",
                "view_place", "view_cursor", "compare_column", "compare_difference", "compare_hands", "compare")  # fmt: skip
_mount = st.components.v2.component(
    "at2_compare",
    css=asset("token_heatmap.css") + asset("compare.css"),
    js=SCRIPT,
)


@dataclass(frozen=True)
class Column:
    """One method. scores: (T, S), or None where there are none yet; then note says why, in words."""

    key: str
    name: str
    about: str
    cost: str = ""
    scores: np.ndarray | None = None
    note: str = ""


def compare_view(
    exploration: Exploration, columns: Sequence[Column], state: State, *, key: str = "compare"
) -> State:
    """Draw the columns over one prompt; return the state with what is chosen in the browser: pin, unit, difference.

    state: what a mount begins with; later ones of the same mount only choose what is drawn.
    """
    name = f"{key}-{exploration.id}"
    start = beginning(
        "compare-began", name, {"pin": state.pin, "unit": state.unit, "difference": state.difference}
    )
    data = _payload(exploration, state.granularity, columns) | {"initial": start}
    result = _mount(key=name, data=data, on_view_change=lambda: None)
    sent = result.view or start
    sent = sent if isinstance(sent, Mapping) else {}
    unit = sent.get("unit")
    return replace(
        state,
        pin=span_within(sent.get("pin"), len(exploration.response_ids)),
        unit=unit if isinstance(unit, str) and unit in UNITS else "sentence",
        difference=pair(sent.get("difference"), state.methods),
    )


def _payload(exploration: Exploration, granularity: str, columns: Sequence[Column]) -> dict[str, Any]:
    """The texts in the browser's units (UTF-16), cut into pieces: each source is one, and so is each other part."""
    prompt, sources = exploration.prompt, exploration.sources[granularity]
    at, response_at = utf16(prompt.text), utf16(exploration.text)
    parts, pieces, piece_of = [], [], {}
    for part in prompt.parts:
        first = len(pieces)
        if part.kind == "context":
            for number, source in enumerate(sources):
                if part.token_start <= source.token_start < part.token_end:
                    piece_of[number] = len(pieces)
                    pieces.append((at[source.start], at[source.end]))
        elif part.end > part.start:
            pieces.append((at[part.start], at[part.end]))
        parts.append(part_of_prompt(part, exploration, at) | {"tokenStart": first, "tokenEnd": len(pieces)})
    offsets = np.array(exploration.response_offsets, int).reshape(-1, 2)
    return {
        "id": f"{exploration.id}-{sentence_kinds(exploration)}-{granularity}",
        "text_id": exploration.id,
        "granularity": granularity,
        "prompt": prompt.text,
        "response": exploration.text,
        "parts": parts,
        **titles(exploration.task),
        "pieces": ints(np.array(pieces, int).reshape(-1, 2)),
        "sources": [[piece_of[s], source.document] for s, source in enumerate(sources)],
        "response_tokens": ints(response_at[offsets]),
        "sentences": [[int(response_at[a]), int(response_at[b])] for a, b in exploration.sentences],
        "whole": [list(run) for run in exploration.target],
        "whole_name": whole_name(exploration),
        "columns": [_column(column) for column in columns],
    }


def _column(column: Column) -> dict[str, Any]:
    sent = {
        "key": column.key,
        "name": column.name,
        "about": column.about,
        "cost": column.cost,
        "note": column.note,
    }
    if column.scores is None:
        return sent | {"scores": None, "scores_id": ""}
    return sent | {"scores": floats(column.scores), "scores_id": mark(column.scores)}
