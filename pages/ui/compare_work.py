"""What the Compare page's jobs do while they hold the model.

`score`      scores of one method for every token of the response
`outcomes`   random ablations, which scores are judged by
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from at2_core import exploration as explorations
from at2_core.errors import EstimatorMismatch
from at2_core.exploration import Exploration
from pages.ui.compare_board import Board, Job, Outcomes, Result, Work
from pages.ui.compare_methods import THETA, Way, own_scores
from pages.ui.session import Engine

ABLATIONS = 32  # random ones that scores are judged by
OUTCOMES = "outcomes"  # what a board keeps them under


def score(board: Board, exploration: Exploration, granularity: str, way: Way) -> Work:
    """Scores of one method for every token of the response."""

    def work(engine: Engine, lm: Any, job: Job) -> Result:
        from at2_core.baselines import by_estimator, find_method, matrix

        _warm(way)
        if way.key.startswith(THETA):
            method = by_estimator(_checked(way, lm), "at2", way.name)
        else:
            method = find_method(way.key, estimator=_checked(way, lm), lm=lm)
        generation = _generation(engine, lm, exploration, way.reads_attention)
        reused = 0

        def measure(keep: np.ndarray) -> np.ndarray:
            nonlocal reused
            found, known = _measured(board, lm, generation, exploration, granularity, keep, job)
            reused += known
            return found

        began = time.monotonic()
        sources = exploration.sources[granularity]
        scored = matrix(method, lm, generation, sources, measure=measure)
        seconds = time.monotonic() - began
        # What is on screen already stays, to the last digit: a saved example keeps its scores rounded.
        own = own_scores(exploration, granularity, way)
        name = way.name if way.key.startswith(THETA) else method.name
        return Result(scored.scores if own is None else own, name, scored.passes, reused, seconds)

    return work


def outcomes(board: Board, exploration: Exploration, granularity: str) -> Work:
    """Random ablations that no method has learned from."""

    def work(engine: Engine, lm: Any, job: Job) -> Outcomes:
        from at2_core.ablation import random_keep

        began = time.monotonic()
        generation = _generation(engine, lm, exploration, False)
        keep = random_keep(ABLATIONS, len(exploration.sources[granularity]), np.random.default_rng(0))
        found, _ = _measured(board, lm, generation, exploration, granularity, keep, job)
        return Outcomes(keep, found, time.monotonic() - began)

    return work


def _measured(
    board: Board,
    lm: Any,
    generation: Any,
    exploration: Exploration,
    granularity: str,
    keep: np.ndarray,
    job: Job,
) -> tuple[np.ndarray, int]:
    from at2_core.ablation import ablate

    sources = exploration.sources[granularity]
    known = board.ablations(exploration.id, granularity)
    return known.measure(keep, lambda rows: ablate(lm, generation, sources, rows, cancel=job.cancel), job)


def _generation(engine: Engine, lm: Any, exploration: Exploration, traced: bool) -> Any:
    """The generation, with its trace where attention is read. The model is held already, unlike in `generation_of`."""
    from at2_core.generation import retrace

    generation = engine.kept(exploration.id)
    if generation is not None:
        return generation
    if lm.name != exploration.model:
        raise EstimatorMismatch(
            f"This was made with {exploration.model}, but {lm.name} is loaded; generate it again to compare methods on it."
        )
    generation = explorations.generation(exploration)
    if traced:
        generation = retrace(lm, generation)
        engine.keep(exploration.id, generation)
    return generation


def _checked(way: Way, lm: Any) -> Any:
    from at2_core.estimator import check_estimator

    if way.estimator is not None:
        check_estimator(way.estimator, lm)
    return way.estimator


def _warm(way: Way) -> None:
    """Imports that would count as the method's own seconds."""
    if way.key.startswith("context_cite_"):
        import sklearn.linear_model
        import sklearn.preprocessing  # noqa: F401
    elif way.key == "bm25":
        import bm25s  # noqa: F401
