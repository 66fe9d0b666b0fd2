"""What the Compare page shows, as one value, and its spelling in the address. Nonsense is dropped, never reported."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from at2_core.exploration import Exploration
from pages.ui.compare_methods import MOST

KEYS = ("methods", "granularity", "unit", "pin", "difference")
SETTINGS = tuple(key for key in KEYS if key != "pin")  # what another text is looked at with, too
GRANULARITIES = ("sentence", "paragraph", "word")
UNITS = ("token", "sentence")
KEPT = "compare-kept"  # in the session: exploration and address; going to another page drops the query string


@dataclass(frozen=True)
class State:
    """methods: keys, in the order of their columns. pin: response tokens [first, last]. difference: the two methods whose
    difference is shown; None side by side."""

    methods: tuple[str, ...]
    granularity: str = "sentence"
    unit: str = "sentence"
    pin: tuple[int, int] | None = None
    difference: tuple[str, str] | None = None


def read(params: Mapping[str, str], offered: Sequence[str], usual: tuple[str, ...], num_tokens: int) -> State:
    """The state that an address asks for; what it does not say, or says wrongly, takes its default."""
    asked = [key for key in dict.fromkeys(params.get("methods", "").split(",")) if key in offered]
    methods = tuple(asked[:MOST]) or usual
    granularity, unit = params.get("granularity"), params.get("unit")
    match = re.fullmatch(r"(\d{1,6})-(\d{1,6})", params.get("pin", ""), re.ASCII)
    pin = (int(match[1]), int(match[2])) if match else None
    return State(
        methods,
        granularity if granularity in GRANULARITIES else GRANULARITIES[0],
        unit if unit in UNITS else "sentence",
        pin if pin and pin[0] <= pin[1] < num_tokens else None,
        pair(params.get("difference", "").split(","), methods),
    )


def write(state: State, usual: tuple[str, ...]) -> dict[str, str]:
    """The address of a state; defaults are left out."""
    params: dict[str, str] = {}
    if state.methods != usual:
        params["methods"] = ",".join(state.methods)
    if state.granularity != GRANULARITIES[0]:
        params["granularity"] = state.granularity
    if state.unit != "sentence":
        params["unit"] = state.unit
    if state.pin:
        params["pin"] = f"{state.pin[0]}-{state.pin[1]}"
    if state.difference:
        params["difference"] = ",".join(state.difference)
    return params


def pair(sent: Any, methods: Sequence[str]) -> tuple[str, str] | None:
    """Two different methods of those that are compared, or None."""
    if not isinstance(sent, (list, tuple)) or len(sent) != 2 or not all(isinstance(key, str) for key in sent):
        return None
    return (sent[0], sent[1]) if sent[0] != sent[1] and set(sent) <= set(methods) else None


def from_address(exploration: Exploration, offered: Sequence[str], usual: tuple[str, ...]) -> State:
    """What the address asks for; after a visit to another page, what was there before."""
    params = {key: st.query_params[key] for key in KEYS if key in st.query_params}
    before, kept = st.session_state.get(KEPT) or ("", {})
    if not params:
        params = kept if before == exploration.id else {k: v for k, v in kept.items() if k in SETTINGS}
    explored, there = st.session_state.get("explore-kept") or ("", {})
    if before != exploration.id and explored == exploration.id and "pin" in there:
        params = {"pin": there["pin"], **params}  # what was pinned on the Explore page, on the first look
    return read(params, offered, usual, len(exploration.response_ids))


def to_address(exploration: Exploration, state: State, usual: tuple[str, ...]) -> None:
    params = write(state, usual)
    st.session_state[KEPT] = (exploration.id, params)
    others = {key: value for key, value in st.query_params.items() if key not in KEYS}
    if {**others, **params} != dict(st.query_params.items()):
        st.query_params.from_dict({**others, **params})
