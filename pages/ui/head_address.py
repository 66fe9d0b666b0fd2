"""The Heads page's state, kept in the address bar."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import streamlit as st

from at2_core.exploration import Exploration
from pages.ui import head_state, session
from pages.ui.example_views import opening
from pages.ui.head_grid import strongest
from pages.ui.head_state import Head, HeadsState

SOURCES = "sentence"  # the granularity of the sources that the page speaks of


class Address:
    """Reads and writes the state of one exploration's Heads page.

    Going to another page drops the query string; a copy in the session brings it back on return.
    """

    def __init__(self, exploration: Exploration, theta: np.ndarray) -> None:
        self.shape = (theta.shape[0], theta.shape[1])
        self.strongest = strongest(theta)
        self.num_tokens = len(exploration.response_ids)
        self.num_sources = len(exploration.sources[SOURCES])
        self.example = exploration.id
        kind, name = st.session_state.get("shown", ("", ""))
        self.opening_pin = opening(name if kind == "example" else "", exploration).pin  # on Explore

    def read(self) -> HeadsState:
        """The state that the address asks for, checked; the one last seen when it asks for nothing."""
        params = {key: st.query_params[key] for key in head_state.KEYS if key in st.query_params}
        example, kept = st.session_state.get("heads-address") or ("", {})
        if not params and example == self.example:
            params = dict(kept)
        params |= self._pinned_elsewhere()
        return head_state.read(
            params, self.shape, self.strongest, num_tokens=self.num_tokens, num_sources=self.num_sources
        )

    def _pinned_elsewhere(self) -> dict[str, str]:
        """The span that was pinned on the Explore page since this page last looked there; "" where it was unpinned."""
        example, params = st.session_state.get("explore-kept") or ("", {})
        if example != self.example:
            return {}
        usual = "-".join(map(str, self.opening_pin)) if self.opening_pin else ""
        pinned = params.get("pin", usual)
        looked_at, before = st.session_state.get("heads-explore-pin") or ("", "")
        st.session_state["heads-explore-pin"] = (example, pinned)
        return {"pin": pinned} if pinned != (before if looked_at == example else "") else {}

    def write(self, state: HeadsState) -> None:
        params = head_state.write(state, self.strongest)
        st.session_state["heads-address"] = (self.example, params)
        others = {key: value for key, value in st.query_params.items() if key not in head_state.KEYS}
        if {**others, **params} != dict(st.query_params.items()):
            st.query_params.from_dict({**others, **params})

    def change(self, **fields) -> None:
        """Write the state with these fields changed, as it is now: a callback may see a newer one than the run that
        made it."""
        self.write(replace(self.read(), **fields))

    def comparing(self, state: HeadsState) -> bool:
        """Whether choosing a head puts it beside the others instead of in their place."""
        return len(state.picks) > 1 or st.session_state.get("heads-comparing-next", False)

    def set_comparing(self, wanted: bool) -> None:
        st.session_state["heads-comparing-next"] = wanted
        if not wanted:
            self.change(picks=self.read().picks[:1])

    def choose(self, heads: list[Head]) -> None:
        """What a click on heads does: show it, or put it beside the others; none leaves everything as it is."""
        picks = self.read().picks
        if len(heads) > 1:
            kept = [head for head in picks if head in heads]
            self.change(
                picks=(*kept, *(head for head in heads if head not in picks))[: head_state.MAX_COMPARED]
            )
        elif heads and self.comparing(self.read()):
            self.compare(heads[0])
        elif heads:
            self.change(picks=tuple(heads))

    def compare(self, head: Head) -> None:
        """Put a head beside the chosen ones, or take it away again; one always stays."""
        picks = head_state.toggled(self.read().picks, head)
        if len(picks) > head_state.MAX_COMPARED:
            st.toast(f"Up to {head_state.MAX_COMPARED} heads fit side by side; take one away first.")
        elif picks:
            self.change(picks=picks)
        else:
            st.toast("This head is the only one shown; choose another one to put beside it.")

    def look_at(self, kind: str, name: str) -> None:
        """Another exploration, with the same heads; the span and the source of the former one go."""
        state = replace(self.read(), pin=None, source=None)
        session.look_at(kind, name)
        st.query_params.update(head_state.write(state, self.strongest))

    def mute(self, head: Head) -> None:
        """Mute a head, or let it count again."""
        mute = head_state.toggled(self.read().mute, head)
        self.change(mute=mute)
