"""Prompt and response side by side, coloured by scores: the component, and what a person chose in it.

Everything that happens while looking (hover, granularity, sign, intensity) happens in the browser, on the matrix that
is sent once. Python hears of a pin or a switch, and never sends it back: that would send the matrix again.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

if TYPE_CHECKING:
    from at2_core.exploration import Exploration

ASSETS = Path(__file__).resolve().parents[2] / "assets"
GRANULARITIES = ("token", "word", "sentence", "paragraph", "document")
Span = tuple[int, int]


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


# A component's script is one module and cannot import a neighbour; several files keep its ideas apart all the same.
IDEAS = ("_scores", "_text", "_paint", "_parts", "_list", "_hands", "")
SCRIPT = "\n".join(_asset(f"token_heatmap{idea}.js") for idea in IDEAS)
_mount = st.components.v2.component("at2_token_heatmap", css=_asset("token_heatmap.css"), js=SCRIPT)


@dataclass(frozen=True)
class ViewState:
    """What a person chose. pin: response tokens [first, last]; source: prompt tokens [first, last], both inclusive."""

    pin: Span | None = None
    source: Span | None = None
    granularity: str = "sentence"
    unit: str = "sentence"
    signed: bool = False
    intensity: float = 1.0
    threshold: float = 0.0
    template: bool = False
    sink: bool = False

    @classmethod
    def read(cls, sent: Any, *, response_tokens: int, prompt_tokens: int) -> ViewState:
        """The state in what a browser or an address sent; a value that makes no sense is left at its default."""
        sent = sent if isinstance(sent, Mapping) else {}
        return cls(
            pin=_span(sent.get("pin"), response_tokens),
            source=_span(sent.get("source"), prompt_tokens),
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
    measure: str = "attribution",
    compact: bool = False,
    initial: ViewState | None = None,
    key: str = "tokens",
    on_change: Callable[[], None] | None = None,
) -> ViewState:
    """Draw the exploration with the scores of a method, or those given (T, n); return what is chosen in it.

    measure: "attribution" or "attention", for the words of the legend. compact: both texts only, every prompt token
    is a source (for the attention of one head). initial: the state to begin with; later ones of the same mount are
    ignored. Another exploration starts afresh, other scores of the same one keep pin and settings.
    """
    scores = exploration.scores[method] if scores is None else scores
    name = f"{key}-{exploration.id}"
    start = _initial(name, initial or ViewState(unit="token" if compact else "sentence"))
    data = _payload(exploration, scores, compact) | {"measure": measure, "compact": compact, "initial": start}
    result = _mount(key=name, data=data, on_view_change=on_change or (lambda: None))
    return ViewState.read(
        result.view or start,
        response_tokens=len(exploration.response_ids),
        prompt_tokens=len(exploration.prompt.ids),
    )


def _initial(name: str, wished: ViewState) -> dict[str, Any]:
    """The state a mount began with. It must not change while it is mounted, or everything would be sent again."""
    began = st.session_state.setdefault("heatmaps-began", {})
    if name not in began or name not in st.session_state:
        began.pop(name, None)
        began[name] = asdict(wished)
        while len(began) > 24:
            del began[next(iter(began))]
    return began[name]


def _payload(exploration: Exploration, scores: np.ndarray, compact: bool) -> dict[str, Any]:
    """The texts, tokens and sources in the browser's units (UTF-16), and the matrix."""
    prompt, text = exploration.prompt, exploration.text
    at, response_at = _utf16(prompt.text), _utf16(text)
    matrix = np.ascontiguousarray(scores, "<f4")
    names = ("token",) if compact else GRANULARITIES
    return {
        "id": f"{exploration.id}-{compact:d}",
        "scores_id": hashlib.sha1(matrix.tobytes(), usedforsecurity=False).hexdigest()[:12],
        "scores": base64.b64encode(matrix.tobytes()).decode(),
        "counts": [len(prompt.ids), len(exploration.response_ids)],
        "prompt": prompt.text,
        "response": text,
        "prompt_tokens": _ints(at[np.array(prompt.offsets, int).reshape(-1, 2)]),
        "response_tokens": _ints(response_at[np.array(exploration.response_offsets, int).reshape(-1, 2)]),
        "parts": [_part(part, exploration, at) for part in prompt.parts],
        "titles": [d.title for d in exploration.task.documents] or [""],
        "sentences": [[int(response_at[a]), int(response_at[b])] for a, b in exploration.sentences],
        "sources": {
            g: _ints(_tokens(at, prompt) if compact else _sources(exploration.sources[g], at)) for g in names
        },
    }


def _part(part: Any, exploration: Exploration, at: np.ndarray) -> dict[str, Any]:
    role = {"system": "System", "query": "Query"}.get(part.kind, "")
    if part.kind == "history" and part.turn is not None:
        role = f"Earlier, {exploration.task.history[part.turn].role}"
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
    }


def _sources(sources: Any, at: np.ndarray) -> np.ndarray:
    rows = [(at[s.start], at[s.end], s.token_start, s.token_end, s.document) for s in sources]
    return np.array(rows, int).reshape(-1, 5)


def _tokens(at: np.ndarray, prompt: Any) -> np.ndarray:
    spans, index = at[np.array(prompt.offsets, int).reshape(-1, 2)], np.arange(len(prompt.ids))
    return np.column_stack([spans, index, index + 1, np.full_like(index, -1)])  # its part says whose it is


def _utf16(text: str) -> np.ndarray:
    """Position of every character (and of the end) as JavaScript counts: outside the basic plane one counts two."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    return np.concatenate([[0], np.cumsum(1 + (codes > 0xFFFF))])


def _ints(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array, "<i4").tobytes()).decode()


def _span(sent: Any, count: int) -> Span | None:
    if not isinstance(sent, (list, tuple)) or len(sent) != 2 or not all(type(v) is int for v in sent):
        return None
    return (sent[0], sent[1]) if 0 <= sent[0] <= sent[1] < count else None


def _one_of(sent: Any, allowed: tuple[str, ...], default: str) -> str:
    return sent if isinstance(sent, str) and sent in allowed else default


def _number(sent: Any, low: float, high: float, default: float) -> float:
    return min(high, max(low, float(sent))) if isinstance(sent, (int, float)) and sent == sent else default
