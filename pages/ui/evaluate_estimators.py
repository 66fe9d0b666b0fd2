"""Which estimators of the catalogue can be compared on a model, which as a negative control, and why not the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import streamlit as st

from at2_core.card import plain
from at2_core.catalogue import Entry, list_estimators
from at2_core.errors import At2Error
from at2_core.estimator import check_estimator, load_estimator
from pages.ui import frame, session

if TYPE_CHECKING:
    from at2_core.models import LanguageModel


@dataclass(frozen=True)
class Heads:
    """What an estimator is checked against, also where the model is not loaded."""

    name: str
    num_layers: int
    num_heads: int
    fingerprint: str


@dataclass(frozen=True)
class Sorted:
    """The catalogue's estimators for a model. controls: learned for another model of this shape. misfits: by name, with the
    reason. usual: fingerprint of the model's own, "" where it has none. known: whether its heads are known."""

    fitting: tuple[Entry, ...]
    controls: tuple[Entry, ...]
    misfits: tuple[tuple[str, str], ...]
    usual: str
    known: bool


def sort_estimators(model: str) -> Sorted:
    """All that are in the catalogue, one entry for each theta."""
    heads = _heads(model)
    fitting, controls, misfits, seen = [], [], [], set()
    for entry in list_estimators():
        if entry.estimator is None or entry.fingerprint in seen:
            continue
        seen.add(entry.fingerprint)
        if heads is None:
            if entry.model == model:
                fitting.append(entry)
            continue
        try:
            check_estimator(entry.estimator, cast("LanguageModel", heads))
        except At2Error as error:
            misfits.append((entry.name, str(error)))
            continue
        other = not entry.estimator.model_fingerprint and entry.model not in ("", heads.name, model)
        (controls if other else fitting).append(entry)
    try:
        usual = load_estimator(heads.name if heads else model).fingerprint
    except At2Error:
        usual = ""
    fitting.sort(key=lambda entry: entry.fingerprint != usual)  # methods that pick heads go by the first
    return Sorted(tuple(fitting), tuple(controls), tuple(misfits), usual, heads is not None)


def choose_estimators(found: Sorted, key: str) -> list[str]:
    """Draw the choice; fingerprints, the model's own first. None: the model's own estimator."""
    entries = {entry.fingerprint: entry for entry in (*found.fitting, *found.controls)}
    st.session_state[key] = [f for f in st.session_state.get(key) or [] if f in entries]
    control = {entry.fingerprint for entry in found.controls}

    def said(fingerprint: str) -> str:
        entry = entries[fingerprint]
        negative = f", negative control: of {entry.model}" if fingerprint in control else ""
        own = ", the model's own" if fingerprint == found.usual else ""
        return f"{entry.name}{own}{negative}"

    if entries:
        st.multiselect(
            "Estimators", list(entries), key=key, format_func=said, persist_state="session",
            placeholder="the model's own" if found.usual else "choose one or more",
            help="Of several, each is a method of its own, AT2: NAME. The methods that pick heads go by the first.",
        )  # fmt: skip
    _others(found)
    chosen = set(st.session_state[key])
    return [fingerprint for fingerprint in entries if fingerprint in chosen]


def _others(found: Sorted) -> None:
    """Why the rest cannot be used."""
    if not found.misfits:
        return
    count = len(found.misfits)
    label = f"{count} more cannot be used" if count > 1 else "One more cannot be used"
    with st.expander(label, key="evaluate-misfits"):
        for number, (_, reason) in enumerate(found.misfits):
            frame.remark(plain(reason, 400), f"evaluate-misfit-{number}")
        st.caption(
            "As a negative control choose the method Shuffled heads: the same coefficients, given to other heads."
        )


def possible(
    methods: Sequence[str], found: Sorted, chosen: Sequence[str], of_estimator: Sequence[str]
) -> str:
    """Why these methods cannot all be run, as a sentence; "" where they can."""
    if found.usual or chosen or not (wanting := [m for m in methods if m in of_estimator]):
        return ""
    names = ", ".join(wanting)
    return f"This model has no estimator, which {names} need; choose one, learn one on the Train page, or leave them out."


def _heads(model: str) -> Heads | None:
    """Of the loaded model, else of what the bundled estimator says about its own."""
    lm = session.engine().lm if model == session.MODEL else None
    if lm is not None:
        return Heads(lm.name, lm.num_layers, lm.num_heads, lm.fingerprint)
    try:
        own = load_estimator(model)
    except At2Error:
        return None
    return Heads(own.model, own.theta.shape[0], own.theta.shape[1], own.model_fingerprint)
