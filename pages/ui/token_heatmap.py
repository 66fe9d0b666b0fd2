"""Prompt and response side by side, coloured by scores: the component, and what a person chose in it.

Everything that happens while looking (hover, granularity, sign, intensity) happens in the browser, on the matrix that
is sent once. Python hears of a pin or a switch, and never sends it back: that would send the matrix again.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from at2_core.card import plain
from at2_core.sources import GRANULARITIES, SCOPES
from pages.ui.component import ASSETS as ASSETS
from pages.ui.component import Span, asset, beginning, script
from pages.ui.component import ints as _ints
from pages.ui.component import span_within as _span
from pages.ui.component import utf16 as _utf16

if TYPE_CHECKING:
    from at2_core.exploration import Exploration
    from at2_core.prompts import ContextTask

ROLES = (
    "context",
    "title",
    "query",
    "system",
    "user",
    "assistant",
    "history",
    "thought",
    "response",
)  # as the script counts them

SCRIPT = script("mount", "token_heatmap_scores", "token_heatmap_text", "token_heatmap_paint", "token_heatmap_parts",
                "view_place", "view_cursor", "token_heatmap_spread", "token_heatmap_sources", "token_heatmap_list",
                "token_heatmap_hands", "token_heatmap")  # fmt: skip
_mount = st.components.v2.component("at2_token_heatmap", css=asset("token_heatmap.css"), js=SCRIPT)


def measure_of(method: str) -> str:
    """What the scores are, for the words of the legend: a head's "attention", "average" attention, or "attribution"."""
    return {"head": "attention", "average": "average"}.get(method, "attribution")


@dataclass(frozen=True)
class ViewState:
    """What a person chose. pin: response tokens [first, last]; source: prompt tokens [first, last], both inclusive; a source in
    the response counts on from the prompt's tokens. scope: what is attributed to (see `at2_core.sources`)."""

    pin: Span | None = None
    source: Span | None = None
    scope: str = "context"
    granularity: str = "sentence"
    unit: str = "sentence"
    signed: bool = False
    intensity: float = 1.0
    threshold: float = 0.0
    template: bool = False
    sink: bool = False

    @classmethod
    def read(cls, sent: Any, *, response_tokens: int, prompt_tokens: int, thought: bool = True) -> ViewState:
        """The state in what a browser or an address sent; a value that makes no sense is left at its default.

        thought: whether the response has one, so that it can be what is attributed to."""
        sent = sent if isinstance(sent, Mapping) else {}
        return cls(
            pin=_span(sent.get("pin"), response_tokens),
            source=_span(sent.get("source"), prompt_tokens + response_tokens),
            scope=_one_of(
                sent.get("scope"), tuple(s for s in SCOPES if thought or s != "thought"), "context"
            ),
            granularity=_one_of(sent.get("granularity"), GRANULARITIES, "sentence"),
            unit=_one_of(sent.get("unit"), ("token", "sentence"), "sentence"),
            signed=sent.get("signed") is True,
            intensity=_number(sent.get("intensity"), 0.5, 3.0, 1.0),
            threshold=_number(sent.get("threshold"), 0.0, 0.9, 0.0),
            template=sent.get("template") is True,
            sink=sent.get("sink") is True,
        )


def token_heatmap(
    exploration: Exploration,
    method: str = "at2",
    *,
    scores: np.ndarray | None = None,
    own: np.ndarray | None = None,
    measure: str = "attribution",
    compact: bool = False,
    initial: ViewState | None = None,
    key: str = "tokens",
    on_change: Callable[[], None] | None = None,
) -> ViewState:
    """Draw the exploration with the scores of a method, or those given (T, n); return what is chosen in it.

    own: with given scores, those of the response's tokens (T, T); without them nothing in the response is a source.
    measure: see `measure_of`. compact: both texts only, every prompt token is a source (for the attention of one head).
    initial: the state to begin with; later ones of the same mount are ignored.
    Another exploration starts afresh, other scores of the same one keep pin and settings.
    """
    if scores is None:
        scores, own = exploration.scores[method], exploration.own_scores.get(method)
    name = f"{key}-{exploration.id}"
    wished = initial or ViewState(unit="token" if compact else "sentence")
    start = beginning("heatmaps-began", name, asdict(wished))
    data = payload(exploration, scores, own, start, measure=measure, compact=compact)
    result = _mount(key=name, data=data, on_view_change=on_change or (lambda: None))
    return _read(exploration, result.view or start)


def chosen_now(exploration: Exploration, initial: ViewState, key: str = "tokens") -> ViewState:
    """What is chosen in it, before it is drawn again; `initial` where it is not drawn yet."""
    drawn = st.session_state.get(f"{key}-{exploration.id}")
    sent = drawn.get("view") if isinstance(drawn, Mapping) else None
    began = st.session_state.get("heatmaps-began", {}).get(f"{key}-{exploration.id}")
    return _read(exploration, sent or (began if drawn is not None else None) or asdict(initial))


def _read(exploration: Exploration, sent: Any) -> ViewState:
    return ViewState.read(
        sent,
        response_tokens=len(exploration.response_ids),
        prompt_tokens=len(exploration.prompt.ids),
        thought=exploration.has_thought,
    )


def payload(
    exploration: Exploration,
    scores: np.ndarray,
    own: np.ndarray | None,
    initial: Mapping[str, Any],
    *,
    measure: str = "attribution",
    compact: bool = False,
) -> dict[str, Any]:
    """What the script draws: the texts, tokens and sources in the browser's units (UTF-16), the matrices, and how it begins."""
    prompt, text, own = exploration.prompt, exploration.text, None if compact else own
    at, response_at = _utf16(prompt.text), _utf16(text)
    both = np.concatenate([at, at[-1] + response_at[1:]])  # the response counts on from the prompt
    sent = [np.ascontiguousarray(matrix, "<f4") for matrix in (scores, own) if matrix is not None]
    digest = hashlib.sha1(b"".join(matrix.tobytes() for matrix in sent), usedforsecurity=False)
    every = exploration.all_sources or exploration.sources
    names = ("token",) if compact else GRANULARITIES
    kinds = sentence_kinds(exploration)
    return {
        "id": f"{exploration.id}-{kinds}-{compact:d}",
        "text_id": f"{exploration.id}-{compact:d}",
        "scores_id": digest.hexdigest()[:12],
        "scores": base64.b64encode(sent[0].tobytes()).decode(),
        "own": base64.b64encode(sent[1].tobytes()).decode() if own is not None else "",
        "counts": [len(prompt.ids), len(exploration.response_ids)],
        "own_counts": [_count(exploration, "thought"), _count(exploration, "response")],
        "thought_closed": not any(segment.cut_off for segment in exploration.segments),
        "prompt": prompt.text,
        "response": text,
        "prompt_tokens": _ints(at[np.array(prompt.offsets, int).reshape(-1, 2)]),
        "response_tokens": _ints(response_at[np.array(exploration.response_offsets, int).reshape(-1, 2)]),
        "parts": [part_of_prompt(part, exploration, at) for part in prompt.parts],
        **titles(exploration.task),
        "sentences": [[int(response_at[a]), int(response_at[b])] for a, b in exploration.sentences],
        "sentence_kinds": kinds,
        "whole": [list(run) for run in exploration.target],
        "whole_name": whole_name(exploration),
        "sources": {g: _ints(_tokens(at, prompt) if compact else _sources(every[g], both)) for g in names},
        "measure": measure,
        "compact": compact,
        "initial": dict(initial),
    }


def whole_name(exploration: Exploration) -> str:
    """What is attributed where nothing is picked, in words."""
    kind = exploration.target_kind
    return "the thought" if kind == "thought" else f"the whole {kind}"


def titles(task: ContextTask) -> dict[str, Any]:
    """The documents' titles, and whether these say by themselves which is which: marked parts of a whole prompt are called as
    where they were marked."""
    numbered = [f"Source {number}" for number in range(1, len(task.marked) + 1)]
    return {"titles": numbered or list(task.titles), "numbered": bool(numbered)}


def document_name(task: ContextTask, document: int, length: int = 40) -> str:
    """What a document is called, with at most so many characters of its title; "" where it is the only one."""
    named = titles(task)
    if len(named["titles"]) < 2:
        return ""
    title = plain(named["titles"][document], length)
    if named["numbered"]:
        return title
    return f"Doc {document + 1}" + (f" · {title}" if title else "")


def sentence_kinds(exploration: Exploration) -> str:
    """For every sentence "a" (of an answer), "t" (of a thought) or "m" (a thought's marker)."""
    thoughts = [segment for segment in exploration.segments if segment.kind == "thought"]
    kinds = ""
    for start, _ in exploration.sentences:
        around = next((s for s in thoughts if s.start <= start < s.end), None)
        kinds += "a" if around is None else "t" if around.text_start <= start < around.text_end else "m"
    return kinds


def _count(exploration: Exploration, role: str) -> int:
    """How many response tokens the sources of a role hold."""
    every = exploration.all_sources.get("document", ())
    return sum(s.token_end - s.token_start for s in every if s.role == role)


def part_of_prompt(part: Any, exploration: Exploration, at: np.ndarray) -> dict[str, Any]:
    # A prompt given whole has no query: what nobody marked is the rest of it.
    role = {"system": "System", "query": "Prompt" if exploration.task.prompt else "Query"}.get(part.kind, "")
    if part.kind == "history" and part.turn is not None:
        turns = exploration.task.history
        number = sum(turn.role == "user" for turn in turns[: part.turn + 1])
        role = f"{turns[part.turn].role.capitalize()}, turn {max(1, number)}"
    # A single context is document 0, so that it is drawn as a card like any other.
    document = 0 if part.kind == "context" and part.document is None else part.document
    return {
        "kind": part.kind,
        "start": int(at[part.start]),
        "end": int(at[part.end]),
        "tokenStart": part.token_start,
        "tokenEnd": part.token_end,
        "document": document,
        "role": role,
        "pages": _pages(part, exploration, at),
    }


def _pages(part: Any, exploration: Exploration, at: np.ndarray) -> list[list[int]]:
    """[where it begins in the prompt, its number] for each page of a document's text."""
    documents = exploration.task.documents
    if part.kind != "context" or part.document is None or part.document >= len(documents):
        return []
    begun = [(part.start + first, number) for first, number in documents[part.document].pages]
    return [[int(at[start]), number] for start, number in begun if start < part.end]


def _sources(sources: Any, at: np.ndarray) -> np.ndarray:
    rows = [
        (
            at[s.start], at[s.end], s.token_start, s.token_end, s.document,
            ROLES.index(s.role), -1 if s.turn is None else s.turn,
        )
        for s in sources
    ]  # fmt: skip
    return np.array(rows, int).reshape(-1, 7)


def _tokens(at: np.ndarray, prompt: Any) -> np.ndarray:
    spans, index = at[np.array(prompt.offsets, int).reshape(-1, 2)], np.arange(len(prompt.ids))
    none = np.full_like(index, -1)
    # Of one head every token is a source, in whatever part it stands.
    return np.column_stack([spans, index, index + 1, none, np.zeros_like(index), none])


def _one_of(sent: Any, allowed: tuple[str, ...], default: str) -> str:
    return sent if isinstance(sent, str) and sent in allowed else default


def _number(sent: Any, low: float, high: float, default: float) -> float:
    return min(high, max(low, float(sent))) if isinstance(sent, (int, float)) and sent == sent else default
