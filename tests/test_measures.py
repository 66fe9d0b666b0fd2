"""The measures against their definitions, worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import at2_core as at2
from at2_core.data import Example
from at2_core.measures import agreement, found, ranking, summarize, supported, true_sources, without_top
from at2_core.report import markdown, plot, title

DOCUMENTS = (
    at2.Document("One", "The fox runs. Berlin is far."),
    at2.Document("Two", "The dog sleeps. It rains today."),
)


def test_known_truth_by_hand():
    true = np.array([False, True, False, True, False])
    row = found(np.array([2, 3, 0, 1, 4]), true, (1, 3))
    assert row == {"precision_1": 0, "recall_1": 0, "precision_3": 1 / 3, "recall_3": 0.5, "mrr": 0.5}
    assert all(np.isnan(v) for v in found(np.arange(3), np.zeros(3, bool), (1,)).values())
    assert np.isnan(found(np.arange(2), np.array([True, False]), (3,))["recall_3"])


def test_true_sources_are_those_that_hold_the_fact(tiny_lm):
    task = at2.ContextTask(documents=DOCUMENTS, query="Who?")
    gen = at2.replay(tiny_lm, task, "The dog.")
    sources = at2.cut(gen.rendered, "sentence")
    example = Example("e", task, truth=((1, 0, 15),))
    hit = true_sources(gen, sources, example)
    assert [s.text.strip() for s, true in zip(sources, hit, strict=True) if true] == ["The dog sleeps."]
    documents = at2.cut(gen.rendered, "document")
    assert true_sources(gen, documents, example).tolist() == [False, True]
    words = at2.cut(gen.rendered, "word")
    assert [s.text.strip() for s, t in zip(words, true_sources(gen, words, example), strict=True) if t] == [
        "The",
        "dog",
        "sleeps.",
    ]
    assert not true_sources(gen, sources, Example("e", task, truth=((7, 0, 5), (0, 3, 3)))).any()


@pytest.mark.parametrize(
    ("answer", "response", "same"),
    [
        ("48 hours", "It is 48 hours.", True),
        ("The Beatles", "beatles, of course", True),
        ("yes", "Yes, he does.", True),
        ("no", "Nobody knows.", False),
        ("48 hours", "48 long hours", False),
        ("", "anything", False),
        ("a", "anything", False),
    ],
)
def test_a_response_supports_an_answer_word_by_word(answer, response, same):
    assert supported(answer, response) is same


def test_equal_scores_are_ranked_by_chance_and_others_by_score():
    rng = np.random.default_rng(0)
    firsts = {int(ranking(np.zeros(4), rng)[0]) for _ in range(60)}
    assert firsts == {0, 1, 2, 3}
    assert ranking(np.array([1.0, 5, -2]), rng).tolist() == [1, 0, 2]
    assert without_top(np.array([1, 0, 2]), 2).tolist() == [False, False, True]


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=9))
def test_a_method_agrees_with_itself(scores):
    array = np.array(scores)
    correlation, overlap = agreement(array, array)
    assert np.isnan(correlation) if np.ptp(array) == 0 else correlation == pytest.approx(1) and overlap == 1


def test_agreement_by_hand():
    assert agreement(np.array([3.0, 2, 1, 0]), np.array([0.0, 1, 2, 3]), 2) == (pytest.approx(-1), 0)


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"example": i, "method": m, "lds": rng.normal(), "mrr": 1.0 if i < 3 else 0.25, "supported": i < 3,
             "passes": 32.0 if m == "b" else 0.0, "seconds": 0.5}
            for i in range(8)
            for m in ("at2", "b")
        ]
    )  # fmt: skip


def test_the_truth_is_told_apart_by_the_answer_that_was_given(frame):
    table = summarize(frame, "at2").set_index(["measure", "answer", "method"])
    assert table.loc[("mrr", "supported", "b"), "mean"] == 1
    assert table.loc[("mrr", "supported", "b"), "examples"] == 3
    assert table.loc[("mrr", "other", "b"), "mean"] == 0.25
    assert table.loc[("lds", "", "b"), "passes"] == 32
    assert ("lds", "supported", "b") not in table.index


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_an_answer_that_nobody_knows_is_neither_true_nor_another(frame, missing):
    frame["supported"] = [missing if i > 5 else i < 3 for i in frame["example"]]
    table = summarize(frame, resamples=50).set_index(["measure", "answer", "method"])["examples"]
    assert [table[("mrr", answer, "b")] for answer in ("supported", "other", "unknown")] == [3, 3, 2]
    frame["supported"] = missing
    unknown = summarize(frame, resamples=50)
    assert set(unknown["answer"]) == {"", "unknown"}
    assert "MRR, answer unknown" in markdown(unknown)


def test_one_example_has_no_interval_and_none_no_rows(frame):
    one = summarize(frame[frame["example"] == 0], "at2")
    assert one[["low", "high"]].isna().all().all()
    assert "(" not in markdown(one, "at2").splitlines()[3]
    empty = summarize(frame[["example", "method"]])
    assert len(empty) == 0
    assert {"measure", "answer", "mean", "low"} <= set(empty)
    assert markdown(empty).startswith("| method |")


def test_examples_of_one_context_are_resampled_together():
    rng = np.random.default_rng(0)
    values = rng.normal(size=10)
    rows = [{"example": i, "group": i % 10, "method": "a", "lds": values[i % 10]} for i in range(80)]
    apart, together = pd.DataFrame(rows).drop(columns="group"), pd.DataFrame(rows)
    narrow, wide = (summarize(f).iloc[0] for f in (apart, together))
    assert narrow["mean"] == pytest.approx(wide["mean"])
    assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])


def test_a_method_missing_on_some_examples_is_compared_on_the_others(frame):
    table = summarize(frame[~((frame["method"] == "b") & (frame["example"] > 4))], "at2")
    row = table[(table["measure"] == "lds") & (table["method"] == "b")].iloc[0]
    assert row["examples"] == 5
    first = frame[frame["example"] < 5].pivot(index="example", columns="method", values="lds")
    assert row["difference_mean"] == pytest.approx((first["b"] - first["at2"]).mean())


def test_the_table_and_the_picture_say_what_was_measured(frame, tmp_path):
    summary = summarize(frame, "at2", resamples=200)
    lines = markdown(summary, "at2").splitlines()
    assert lines[0] == "| method | LDS | MRR, true answer | MRR, other answer | passes | seconds |"
    assert lines[2].startswith("| examples | 8 | 3 | 5 |")
    best = "at2" if frame.groupby("method")["lds"].mean().idxmax() == "at2" else "b"
    assert (
        next(line for line in lines if line.startswith(f"| {best} ")).split("|")[2].strip().startswith("**")
    )
    difference = summary.set_index(["measure", "method"]).loc[("lds", "b"), "difference_mean"]
    assert lines[-3].startswith("| method − at2, paired | LDS |")
    assert lines[-1].startswith(f"| b | {difference:+.2f} (")
    plot(summary, tmp_path / "q.svg", "eight examples")
    assert "eight examples" not in lines
    assert (tmp_path / "q.svg").stat().st_size > 3000


def test_what_differs_in_its_cost_alone_is_one_line_in_the_picture_and_named_once(frame, tmp_path):
    names = {"at2": "cite_8", "b": "cite_64"}
    summary = summarize(frame.replace({"method": names}), resamples=100)
    plot(summary, tmp_path / "q.svg")
    said = (tmp_path / "q.svg").read_text()
    assert [said.count(f"<!-- {name} -->") for name in ("cite", "8", "64", "cite_8")] == [1, 1, 1, 0]


def test_a_name_cannot_break_the_table_or_the_picture(frame, tmp_path):
    summary = summarize(frame.replace({"method": {"b": "b |\n c $\\frac"}}), resamples=100)
    assert "| b \\| c $\\frac |" in markdown(summary)
    plot(summary, tmp_path / "p.png", "$\\frac")


@pytest.mark.parametrize(
    ("measure", "words"),
    [("lds", "LDS"), ("drop_3", "top-3 drop"), ("precision_1", "precision@1"), ("mrr", "MRR")],
)
def test_measures_have_names_in_words(measure, words):
    assert title(measure) == words
