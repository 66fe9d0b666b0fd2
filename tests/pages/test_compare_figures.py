"""The figures of the Compare page: agreement and quality of the pinned span, and nothing called best without cause."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import streamlit as st
from scipy import stats

import at2_core as at2
from at2_core.verification import check
from pages.ui import compare_quality, session
from pages.ui.compare_board import Board, Outcomes, Result, marks
from pages.ui.compare_methods import Way
from pages.ui.compare_parts import Page
from tests.pages.comparing import choose, opened, settled, tables
from tests.pages.driving import texts


def test_agreement_is_of_the_pinned_span(exploration, tiny_lm, generation, estimator):
    at = opened(methods="at2,average", granularity="word")
    sources = exploration.sources["word"]
    sides = [
        at2.attribute(tiny_lm, generation, est, granularity="word").scores
        for est in (estimator, at2.uniform_estimator(tiny_lm))
    ]
    for pin in (None, [0, 1]):
        choose(at, pin=pin)
        rows = slice(pin[0], pin[1] + 1) if pin else slice(None)
        one, two = (side[rows].mean(axis=0) for side in sides)
        (table, _) = tables(at)
        assert table["Rank correlation"][0] == pytest.approx(stats.spearmanr(one, two).statistic, abs=2e-4)
        shared = set(np.argsort(-one)[:3]) & set(np.argsort(-two)[:3])
        assert table["Top 3 shared"][0] == f"{len(shared)} of 3"
        assert f"over {len(sources)} word sources" in texts(at)
        assert ("For the whole response" in texts(at)) == (pin is None)


def test_measuring_gives_each_methods_lds_for_the_pinned_span(exploration, tiny_lm, generation, estimator):
    at = opened(methods="at2,average", granularity="word", pin="0-2")
    assert "LDS here" not in tables(at)[1]
    settled(at.button(key="compare-measure-start").click().run())
    sources, rows = exploration.sources["word"], slice(0, 3)
    own = at2.attribute(tiny_lm, generation, estimator, granularity="word").scores
    expected = check(tiny_lm, generation, sources, own[rows].mean(axis=0), rows).lds
    assert tables(at)[1]["LDS here"][0].startswith(f"{expected:.2f} (".replace("-", "−"))
    assert "LDS: how well scores predict" in texts(at)


def test_a_method_is_called_better_only_where_intervals_do_not_meet():
    told = partial(compare_quality.verdict, different=32)
    assert told([("a", 0.94, 0.3), ("b", 0.87, 0.3)]) == "a predicts best here; too close to tell apart: b."
    clear = [("a", 0.1, 0.3), ("b", 0.9, 0.3), ("c", math.nan, math.nan)]
    assert told(clear).startswith("b predicts best here, by more")
    assert told([("a", 0.69, 0.8), ("b", 0.2, 0.3)]).startswith("None of them")  # shuffled, they do as well
    assert told([("a", 0.69, 0.8), ("b", 0.6, 0.3)]).startswith(
        "a predicts best here, but not better than its own"
    )
    assert told([("a", 0.9, 0.3)]) == ""
    low, high = compare_quality.interval(0.5, 32)
    assert 0.15 < low < 0.25 < 0.7 < high < 0.75


def test_a_single_source_has_no_order(exploration, monkeypatch):
    sources = dict(exploration.sources)
    monkeypatch.setitem(sources, "paragraph", sources["paragraph"][:1])
    object.__setattr__(exploration, "sources", sources)
    at = opened(methods="at2,average", granularity="paragraph")
    assert "no order of sources to compare" in texts(at)


def test_quality_that_an_evaluation_measured_is_shown_beside(exploration, tmp_path, monkeypatch):
    from at2_core.evaluation_runs import SHOWN, EvaluationRequest, ask
    from at2_core.runs import RunFolder

    def evaluated(name: str, rows: list[dict], **request) -> None:
        run = RunFolder(tmp_path / "evaluations" / name)
        (run.folder / "rows").mkdir(parents=True)
        ask(run, EvaluationRequest(model=exploration.model, data="x.jsonl", **request))
        for number, row in enumerate(rows):
            about = {"example": str(number), "number": number, "key": str(number), "group": ""}
            run.write(
                f"rows/{number}.json", {**about, "rows": row, "shown": {method: method for method in row}}
            )
        names = [f"rows/{number}.json" for number in range(len(rows))]
        run.write(SHOWN, {"sheets": names, "methods": list(rows[0])})

    evaluated("evaluated", [{"at2": {"lds": lds}, "average": {"lds": None}} for lds in (0.25, 0.5)])
    time.sleep(0.02)  # what follows was begun later, and is no evaluation of the model's own theta
    evaluated(".deleted-gone-1", [{"at2": {"lds": 0.9}}])
    evaluated("damaged", [{"at2": {"lds": "high"}}])
    evaluated("torn", [{"at2": {"lds": 0.8}}])
    (tmp_path / "evaluations" / "torn" / "rows" / "0.json").write_text('{"number": 0}')
    at = opened(methods="at2,average")
    assert list(tables(at)[1]["LDS elsewhere"]) == ["0.38", "–"]
    assert "2 examples of the latest evaluation, evaluated" in texts(at)
    evaluated("others", [{"at2": {"lds": 0.9}, "average": {"lds": 0.1}}], estimators=("a",))
    st.cache_data.clear()
    assert list(tables(opened(methods="at2,average"))[1]["LDS elsewhere"]) == ["–", "0.10"]


def test_scores_are_judged_by_ablations_that_no_method_learned_from(exploration):
    keep = np.unique(np.random.default_rng(0).random((60, 20)) < 0.5, axis=0)[:32]
    way, measured = (
        Way("context_cite_64", "ContextCite 64", ""),
        Outcomes(keep, np.zeros((32, 3), np.float32), 1.0),
    )
    many = replace_sources(exploration, 20)
    page = Page(many, "sentence", session.engine(), Board())

    def judged_after(learned: int):
        page.board._keep(
            page.key(way), Result(np.zeros((3, 20)), "", 64, 0, 1, frozenset(marks(keep[:learned])))
        )
        return compare_quality.judges(page, [way], measured)

    found = judged_after(12)
    assert not set(marks(found.outcomes.keep)) & set(marks(keep[:12]))
    assert len(found.outcomes.keep) == len(found.outcomes.logit_probs) == found.different == 20
    assert found.sure
    too_few = judged_after(25)
    assert len(too_few.outcomes.keep) == 32
    assert not too_few.sure
    assert any("ContextCite 64 learned from 25 of these ablations itself" in note for note in too_few.notes)
    few = Page(replace_sources(exploration, 5), "sentence", session.engine(), Board())
    coarse = compare_quality.judges(few, [way], Outcomes(keep[:, :5], measured.logit_probs, 1.0))
    assert not coarse.sure
    assert "With only 5 sentences the 32 ablations repeat themselves" in coarse.notes[0]


def replace_sources(exploration, count: int):
    return replace(exploration, sources={"sentence": exploration.sources["word"][:count]})


def test_no_method_is_called_best_by_ablations_that_repeat_themselves(exploration):
    at = opened(methods="at2,average")  # five sentences
    settled(at.button(key="compare-measure-start").click().run())
    assert "ablations repeat themselves" in texts(at)
    assert "predicts best" not in texts(at)
    assert {"LDS here", "Shuffled"} <= set(tables(at)[1])
