"""Scores of the response's own tokens, for a scope that reaches into the response.

A saved example may lack them, and so do the scores of one head: then they are read when they are first asked for, by one
forward pass at most.
"""

from __future__ import annotations

import numpy as np
import streamlit as st

from at2_core.errors import At2Error
from at2_core.estimator import Estimator
from at2_core.exploration import Exploration
from pages.ui import frame, session
from pages.ui.model_status import waiting_for_model

WAITING = "The earlier response needs the model; what it says of the prompt is shown meanwhile."


def own_scores(exploration: Exploration, method: str, chosen: Estimator | None) -> np.ndarray | None:
    """float32 (T, T) by "at2", "former" or "average"; None, with a remark, while nobody can say."""
    if method in exploration.own_scores:
        return exploration.own_scores[method]
    engine = session.engine()
    if engine.status != "ready":
        waiting_for_model(engine, WAITING, "own-scores")
        return None
    estimator = chosen or engine.estimator
    if method != "average" and (
        estimator is None or estimator.fingerprint != exploration.estimator_fingerprint
    ):
        frame.remark(
            "These scores were saved by another estimator, without those of the response; ask again to see them.",
            "own-scores",
        )
        return None
    try:
        return _read(exploration.id, method, exploration.estimator_fingerprint, exploration, estimator)
    except At2Error as error:
        frame.complain(str(error), "own-scores")
        return None


@st.cache_resource(max_entries=12, show_spinner="Reading the earlier response…")
def _read(
    exploration_id: str,
    method: str,
    fingerprint: str,
    _exploration: Exploration,
    _estimator: Estimator | None,
) -> np.ndarray:
    from at2_core.attribution import all_token_scores
    from at2_core.estimator import uniform_estimator

    lm, generation = session.model_of(_exploration), session.generation_of(_exploration)
    by = uniform_estimator(lm) if method == "average" or _estimator is None else _estimator
    return np.ascontiguousarray(all_token_scores(lm, generation, by)[:, _exploration.prompt.n :])
