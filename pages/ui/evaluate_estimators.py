"""Which estimators of the catalogue can be compared on a model, which as a negative control, and why not the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import streamlit as st

from at2_core.card import plain
from at2_core.catalogue import Entry, list_estimators
from at2_core.errors import At2Error
from at2_core.estimator import Estimator, check_estimator, load_estimator
from pages.ui import estimator_choice, frame, session
from pages.ui.evaluate_runs import is_loaded_here

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
    reason. usual: fingerprint of the model's own, "" where it has none. known: whether its heads are known. given: how an
    evaluation finds the model's own, where the server was told which; "" where it finds that by the model's name."""

    fitting: tuple[Entry, ...]
    controls: tuple[Entry, ...]
    misfits: tuple[tuple[str, str], ...]
    usual: str
    known: bool
    given: str = ""


def sort_estimators(model: str) -> Sorted:
    """All that are in the catalogue, one entry for each theta."""
    heads, own, given = _heads(model), _usual(model), ""
    entries = list_estimators()
    if own is not None and is_loaded_here(model) and session.ESTIMATOR and session.model() == session.MODEL:
        given = own.fingerprint
        if all(entry.fingerprint != given for entry in entries):
            path = Path(session.ESTIMATOR).absolute()
            entries, given = [Entry("imported", path, own), *entries], str(path)
    fitting, controls, misfits, seen = [], [], [], set()
    for entry in entries:
        if entry.estimator is None or entry.fingerprint in seen:
            continue
        seen.add(entry.fingerprint)
        usual = own is not None and entry.fingerprint == own.fingerprint
        if heads is None:
            if entry.model == model or usual:
                fitting.append(entry)
            continue
        try:
            check_estimator(entry.estimator, cast("LanguageModel", heads))
        except At2Error as error:
            misfits.append((entry.name, str(error)))
            own, given = (None, "") if usual else (own, given)
            continue
        other = (
            not usual and not entry.estimator.model_fingerprint and entry.model not in ("", heads.name, model)
        )
        (controls if other else fitting).append(entry)
    first = own.fingerprint if own is not None else ""
    fitting.sort(key=lambda entry: entry.fingerprint != first)  # methods that pick heads go by the first
    return Sorted(tuple(fitting), tuple(controls), tuple(misfits), first, heads is not None, given)


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
        labels = distinct({fingerprint: said(fingerprint) for fingerprint in entries})
        st.multiselect(
            "Estimators", list(entries), key=key, format_func=labels.__getitem__, persist_state="session",
            placeholder="the model's own" if found.usual else "choose one or more",
            help="Of several, each is a method of its own, AT2: NAME. The methods that pick heads go by the first.",
        )  # fmt: skip
    _others(found)
    chosen = set(st.session_state[key])
    return [fingerprint for fingerprint in entries if fingerprint in chosen]


def distinct(texts: Mapping[str, str]) -> dict[str, str]:
    """The texts by fingerprint, with the fingerprint in those that occur more than once: a choice comes back as its label,
    and of equal ones the first would be taken."""
    counts = Counter(texts.values())
    return {key: f"{text} ({key})" if counts[text] > 1 else text for key, text in texts.items()}


def to_request(found: Sorted, chosen: Sequence[str], needed: bool) -> tuple[str, ...]:
    """Estimators as an evaluation's process finds them, which knows the catalogue, but not what this server was told."""
    if not chosen:
        return (found.given,) if needed and found.given else ()
    return tuple(found.given if found.given and f == found.usual else f for f in chosen)


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


def _usual(model: str) -> Estimator | None:
    """What is used where nothing is chosen."""
    if is_loaded_here(model):
        return estimator_choice.usual()
    try:
        return load_estimator(model)
    except At2Error:
        return None


def _heads(model: str) -> Heads | None:
    """Of the loaded model, else of what the bundled estimator says about its own."""
    lm = session.engine().lm if is_loaded_here(model) else None
    if lm is not None:
        return Heads(lm.name, lm.num_layers, lm.num_heads, lm.fingerprint)
    try:
        own = load_estimator(model)
    except At2Error:
        return None
    return Heads(own.model, own.theta.shape[0], own.theta.shape[1], own.model_fingerprint)
