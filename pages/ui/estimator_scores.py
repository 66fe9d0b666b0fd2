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
        both = {"at2": _scores(exploration, choice.chosen)}
        if choice.former is not None:
            both["former"] = _scores(exploration, choice.former)
    except At2Error as error:
        frame.complain(f"{error} {_shown(exploration)}", "estimator-choice")
        return exploration
    return replace(
        exploration,
        estimator=choice.chosen.name,
        estimator_fingerprint=choice.chosen.fingerprint,
        scores={
            **{m: of_prompt for m, (of_prompt, _) in both.items()},
            "average": exploration.scores["average"],
        },
        own_scores=_without_none(
            {**{m: own for m, (_, own) in both.items()}, "average": exploration.own_scores.get("average")}
        ),
    )


def told(choice: Choice) -> str:
    """Which theta the scores come from, in a few words."""
    if choice.chosen is None:
        return ""
    former = f"; former θ: {plain(choice.former.name, 60)}" if choice.former else ""
    return f"Chosen θ: {plain(choice.chosen.name, 60)}{former}."


def _shown(exploration: Exploration) -> str:
    by = plain(exploration.estimator, 60)
    return (
        f"What {by!r} says is shown meanwhile."
        if "at2" in exploration.scores
        else "Average attention is shown."
    )


def _without_none(scores: dict[str, np.ndarray | None]) -> dict[str, np.ndarray]:
    return {method: own for method, own in scores.items() if own is not None}


def _scores(exploration: Exploration, estimator: Estimator) -> tuple[np.ndarray, np.ndarray | None]:
    """Of the prompt's tokens float32 (T, n) and of the response's (T, T); the exploration's own where it was made with this
    estimator, None where a saved one lacks the latter.

    One forward pass at most, and none while the generation's trace is kept.
    """
    if estimator.fingerprint == exploration.estimator_fingerprint and "at2" in exploration.scores:
        return exploration.scores["at2"], exploration.own_scores.get("at2")
    kept, key = _kept(), (exploration.id, estimator.fingerprint)
    if key not in kept:
        from at2_core.attribution import all_token_scores

        with st.spinner("Scoring with the chosen estimator…"):
            generation = session.generation_of(exploration)
            reached, n = (
                all_token_scores(session.model_of(exploration), generation, estimator),
                exploration.prompt.n,
            )
            kept[key] = np.ascontiguousarray(reached[:, :n]), np.ascontiguousarray(reached[:, n:])
        while len(kept) > MOST_SCORES:
            kept.popitem(last=False)
    return kept[key]


@st.cache_resource(show_spinner=False)
def _kept() -> OrderedDict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    return OrderedDict()
