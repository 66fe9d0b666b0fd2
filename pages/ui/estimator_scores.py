"""The present exploration scored with the chosen estimator, and with the former one to compare."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import numpy as np
import streamlit as st

from at2_core.card import plain
from at2_core.errors import At2Error
from at2_core.estimator import Estimator
from at2_core.exploration import Exploration
from pages.ui import frame, session
from pages.ui.estimator_choice import Choice
from pages.ui.model_status import waiting_for_model

MOST_SCORES = 12  # matrices kept; a long prompt's are 6 MB


def with_chosen(exploration: Exploration, choice: Choice) -> Exploration:
    """The exploration with the chosen estimator's scores as "at2" and the former one's as "former".

    As it is where nothing is chosen, or where that cannot be done (yet); then it says why.
    """
    if choice.problem:
        frame.complain(f"{choice.problem} {_shown(exploration)}", "estimator-choice")
    if choice.chosen is None:
        return exploration
    engine = session.engine()
    if engine.status != "ready":
        what = f"The scores of {plain(choice.chosen.name, 60)!r} need the model. {_shown(exploration)}"
        waiting_for_model(engine, what, "chosen")
        return exploration
    try:
        scores = {"at2": _scores(exploration, choice.chosen)}
        if choice.former is not None:
            scores["former"] = _scores(exploration, choice.former)
    except At2Error as error:
        frame.complain(f"{error} {_shown(exploration)}", "estimator-choice")
        return exploration
    return replace(
        exploration,
        estimator=choice.chosen.name,
        estimator_fingerprint=choice.chosen.fingerprint,
        scores={**scores, "average": exploration.scores["average"]},
    )


def told(choice: Choice) -> str:
    """Which theta the scores come from, in a few words."""
    if choice.chosen is None:
        return ""
    former = f"; former θ: {plain(choice.former.name, 60)}" if choice.former else ""
    return f"AT2 is by the θ that you chose: {plain(choice.chosen.name, 60)}{former}."


def _shown(exploration: Exploration) -> str:
    by = plain(exploration.estimator, 60)
    return (
        f"What {by!r} says is shown meanwhile."
        if "at2" in exploration.scores
        else "Average attention is shown."
    )


def _scores(exploration: Exploration, estimator: Estimator) -> np.ndarray:
    """float32 (T, n); the exploration's own where it was made with this estimator.

    One forward pass at most, and none while the generation's trace is kept.
    """
    if estimator.fingerprint == exploration.estimator_fingerprint and "at2" in exploration.scores:
        return exploration.scores["at2"]
    kept, key = _kept(), (exploration.id, estimator.fingerprint)
    if key not in kept:
        from at2_core.attribution import token_scores

        with st.spinner("Scoring with the chosen estimator…"):
            generation = session.generation_of(exploration)
            kept[key] = token_scores(session.engine().lm, generation, estimator)
        while len(kept) > MOST_SCORES:
            kept.popitem(last=False)
    return kept[key]


@st.cache_resource(show_spinner=False)
def _kept() -> OrderedDict[tuple[str, str], np.ndarray]:
    return OrderedDict()
