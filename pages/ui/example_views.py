"""How an example opens where its note speaks of more than the usual view shows."""

from __future__ import annotations

import re

from at2_core.exploration import Exploration
from pages.ui.token_heatmap import ViewState


def opening(name: str, exploration: Exploration) -> ViewState:
    """The view that the example opens with; an address may say otherwise."""
    if name == "library":
        return ViewState(granularity="word", unit="token", pin=_number(exploration))
    return ViewState()


def _number(exploration: Exploration) -> tuple[int, int] | None:
    """The response tokens of its first number."""
    found = re.search(r"\d[\d,.]*\d", exploration.text)
    offsets = enumerate(exploration.response_offsets)
    tokens = [t for t, (start, end) in offsets if found and start < found.end() and end > found.start()]
    return (tokens[0], tokens[-1]) if tokens else None
