"""What the Compare page's jobs do, and when they hold the model.

`score`      scores of one method for every token of the response
`outcomes`   random ablations, which scores are judged by
`check_gradients_fit`   in the memory that is free
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np

from at2_core import exploration as explorations
from at2_core.errors import EstimatorMismatch, NotEnoughMemory
from at2_core.exploration import Exploration
from at2_core.footprint import free_memory, gradient_footprint
from pages.ui.compare_board import Board, Job, Outcomes, Result, Work, marks, turn
from pages.ui.compare_methods import REFINED, THETA, Way, own_scores
from pages.ui.model_engine import of_another
from pages.ui.model_memory import gigabytes
from pages.ui.session import Engine

ABLATIONS = 32  # random ones that scores are judged by
OUTCOMES = "outcomes"  # what a board keeps them under


def score(board: Board, exploration: Exploration, granularity: str, way: Way) -> Work:
    """Scores of one method for every token of the response."""

    def work(engine: Engine, lm: Any, job: Job) -> Result:
        from at2_core.baselines import by_estimator, find_method, matrix

        _warm(way)
        _same_model(lm, exploration)
        if way.key in ("gradient", "input_x_gradient"):
            check_gradients_fit(lm, exploration)
        if way.key.startswith(THETA):
            method = by_estimator(_checked(way, lm), "at2", way.name)
        else:
            method = find_method(way.key, estimator=_checked(way, lm), lm=lm)
        sources = exploration.sources[granularity]
        reused, learned = 0, set()

        def measure(keep: np.ndarray) -> np.ndarray:
            nonlocal reused
            found, known = _measured(board, engine, lm, generation, exploration, granularity, keep, job)
            reused += known
            learned.update(marks(keep))
            return found

        def scored() -> tuple[Any, float]:
            began, waited = time.monotonic(), job.waited
            found = matrix(method, lm, generation, sources, measure=measure, cancel=job.cancel)
            return found, time.monotonic() - began - (job.waited - waited)

        if way.removes:  # between its ablations others have the model
            generation = explorations.generation(exploration)
            if way.key in REFINED:
                with turn(engine, job):
                    method = _refined(way, lm, _generation(engine, lm, exploration, True), sources)
            found, seconds = scored()
        else:
            with turn(engine, job):
                generation = _generation(engine, lm, exploration, way.reads_attention)
                found, seconds = scored()
        # What is on screen already stays, to the last digit: a saved example keeps its scores rounded.
        own = own_scores(exploration, granularity, way)
        name = way.name if way.key.startswith(THETA) else method.name
        return Result(
            found.scores if own is None else own, name, found.passes, reused, seconds, frozenset(learned)
        )

    return work


def outcomes(board: Board, exploration: Exploration, granularity: str) -> Work:
    """Random ablations. Where there are few sources, a method may have learned from the same ones."""

    def work(engine: Engine, lm: Any, job: Job) -> Outcomes:
        from at2_core.ablation import random_keep

        began = time.monotonic()
        _same_model(lm, exploration)
        generation = explorations.generation(exploration)
        keep = random_keep(ABLATIONS, len(exploration.sources[granularity]), np.random.default_rng(0))
        found, _ = _measured(board, engine, lm, generation, exploration, granularity, keep, job)
        return Outcomes(keep, found, time.monotonic() - began - job.waited)

    return work


def _measured(
    board: Board,
    engine: Engine,
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
    return known.measure(
        keep,
        lambda rows: ablate(lm, generation, sources, rows, cancel=job.cancel),
        job,
        partial(turn, engine, job),
    )


def _generation(engine: Engine, lm: Any, exploration: Exploration, traced: bool) -> Any:
    """The generation, with its trace where attention is read. The model is held already, unlike in `generation_of`."""
    from at2_core.generation import retrace

    generation = engine.kept(exploration.id)
    if generation is not None:
        return generation
    generation = explorations.generation(exploration)
    if traced:
        generation = retrace(lm, generation)
        engine.keep(exploration.id, generation)
    return generation


def _same_model(lm: Any, exploration: Exploration) -> None:
    if lm.name != exploration.model:
        raise EstimatorMismatch(of_another(exploration.model, lm.name))


def check_gradients_fit(lm: Any, exploration: Exploration) -> None:
    """Raises NotEnoughMemory where the activations of all layers would take more than there is."""
    prompt, response = exploration.prompt.n, len(exploration.response_ids)
    needed, free = gradient_footprint(lm, prompt, response).bytes, free_memory(lm.device)
    if needed > free:
        raise NotEnoughMemory(
            f"Gradients through a prompt of {prompt:,} tokens need {gigabytes(needed)} of memory, and {gigabytes(free)} is "
            "free; choose another method, or close other programs."
        )


def _checked(way: Way, lm: Any) -> Any:
    from at2_core.estimator import check_estimator

    if way.estimator is not None:
        check_estimator(way.estimator, lm)
    return way.estimator


def _refined(way: Way, lm: Any, generation: Any, sources: Any) -> Any:
    """The method with AT2's scores, which are read while the model is held."""
    from at2_core.attribution import sum_to_sources, token_scores
    from at2_core.baselines import refined

    estimator = _checked(way, lm)
    known = sum_to_sources(token_scores(lm, generation, estimator), sources)
    return refined(estimator, way.passes(len(sources), 1), known)


def _warm(way: Way) -> None:
    """Imports that would count as the method's own seconds."""
    if way.removes and way.key != "leave_one_out":
        import sklearn.linear_model
        import sklearn.preprocessing  # noqa: F401
    elif way.key == "bm25":
        import bm25s  # noqa: F401
