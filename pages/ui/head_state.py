"""What the Heads page shows, as one value, and its spelling in the address.

The address is the state: every choice is written there, and the page draws what it reads there. So a link,
a reload and the back of a bookmark all lead to the same picture. Whatever the address says is checked here;
nonsense is dropped, never reported, because the reader of a broken link wants the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Head = tuple[int, int]

MAX_COMPARED = 4  # matrices side by side that a screen of 1280 px still shows legibly
GRIDS = ("coefficients", "direct", "contribution", "written")
VIEWS = ("matrix", "text", "without")
KEYS = ("layer", "head", "compare", "mute", "sink", "grid", "source", "view", "pin", "deviation", "fade")


@dataclass(frozen=True)
class HeadsState:
    """picks: the chosen heads, the first is the one the page speaks of; pin: (first, last) response tokens.

    deviation: the grid shows how sure the coefficients are; fade: it fades those that are not.
    """

    picks: tuple[Head, ...]
    mute: tuple[Head, ...] = ()
    sink: bool = False
    grid: str = "coefficients"
    source: int | None = None
    view: str = "matrix"
    pin: tuple[int, int] | None = None
    deviation: bool = False
    fade: bool = False

    @property
    def head(self) -> Head:
        return self.picks[0]


def read(
    params: Mapping[str, str],
    shape: tuple[int, int],
    strongest: Head,
    *,
    num_tokens: int = 0,
    num_sources: int = 0,
) -> HeadsState:
    """The state that an address asks for; what it does not say, or says wrongly, takes its default.

    shape: (layers, heads); strongest: the head to show when the address names none.
    """
    layer, head = _integer(params.get("layer"), shape[0]), _integer(params.get("head"), shape[1])
    first = (layer, head) if layer is not None and head is not None else strongest
    source = _integer(params.get("source"), num_sources)
    grid, view = params.get("grid"), params.get("view")
    return HeadsState(
        picks=_distinct([first, *_heads(params.get("compare"), shape)])[:MAX_COMPARED],
        mute=_distinct(_heads(params.get("mute"), shape)),
        sink=params.get("sink") == "1",
        grid=grid if grid in GRIDS else GRIDS[0],
        source=source,
        view=view if view in VIEWS else VIEWS[0],
        pin=_span(params.get("pin"), num_tokens),
        deviation=params.get("deviation") == "1",
        fade=params.get("fade") == "1",
    )


def write(state: HeadsState, strongest: Head) -> dict[str, str]:
    """The address of a state; defaults are left out, so that the plain page has a plain address."""
    params: dict[str, str] = {}
    if state.head != strongest or len(state.picks) > 1:
        params["layer"], params["head"] = map(str, state.head)
    if len(state.picks) > 1:
        params["compare"] = _join(state.picks[1:])
    if state.mute:
        params["mute"] = _join(state.mute)
    if state.sink:
        params["sink"] = "1"
    if state.deviation:
        params["deviation"] = "1"
    if state.fade:
        params["fade"] = "1"
    if state.grid != GRIDS[0]:
        params["grid"] = state.grid
    if state.source is not None:
        params["source"] = str(state.source)
    if state.view != VIEWS[0]:
        params["view"] = state.view
    if state.pin:
        params["pin"] = f"{state.pin[0]}-{state.pin[1]}"
    return params


def toggled(heads: tuple[Head, ...], head: Head) -> tuple[Head, ...]:
    """The same heads without this one, or with it at the end."""
    return tuple(h for h in heads if h != head) if head in heads else (*heads, head)


def name(head: Head) -> str:
    return f"layer {head[0]} · head {head[1]}"


def span_or_none(value: object, num_tokens: int) -> tuple[int, int] | None:
    """A pinned span as the browser sends it, [first, last], or None when it is anything else."""
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(type(v) is int for v in value):
        return _span(f"{value[0]}-{value[1]}", num_tokens)
    return None


def head_or_none(value: object, shape: tuple[int, int]) -> Head | None:
    """A head as the browser sends it, [layer, head], or None when it is anything else."""
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(type(v) is int for v in value):
        layer, head = value
        if 0 <= layer < shape[0] and 0 <= head < shape[1]:
            return layer, head
    return None


def _integer(text: str | None, end: int) -> int | None:
    if text is None or not re.fullmatch(r"[0-9]{1,6}", text):
        return None
    return int(text) if int(text) < end else None


def _span(text: str | None, num_tokens: int) -> tuple[int, int] | None:
    match = re.fullmatch(r"([0-9]{1,6})-([0-9]{1,6})", text or "")
    if not match:
        return None
    first, last = int(match[1]), int(match[2])
    return (first, last) if first <= last < num_tokens else None


def _heads(text: str | None, shape: tuple[int, int]) -> Iterable[Head]:
    for item in (text or "")[:10_000].split(","):
        layer, _, head = item.partition(".")
        pair = _integer(layer, shape[0]), _integer(head, shape[1])
        if pair[0] is not None and pair[1] is not None:
            yield pair[0], pair[1]


def _distinct(heads: Iterable[Head]) -> tuple[Head, ...]:
    return tuple(dict.fromkeys(heads))


def _join(heads: Iterable[Head]) -> str:
    return ",".join(f"{layer}.{head}" for layer, head in heads)
