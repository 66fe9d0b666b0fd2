"""What came out of a run: its validation in words and in charts, and the way to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from at2_core.catalogue import add_estimator
from at2_core.errors import At2Error, EstimatorFileError
from at2_core.estimator import load_estimator
from at2_core.runs import RunFolder
from pages.ui import frame
from pages.ui.train_charts import by_examples, by_step, known, stable

FEW = 10  # examples held out; a correlation over fewer says little
ENOUGH = 0.01  # of correlation; less than this from twice the examples is hardly anything
DAMAGED = "The run's report cannot be read; fit it again with: python -m at2_core fit {folder} --name default"
PLAIN = {"modeBarButtons": [["toImage"]], "displaylogo": False}


def figures(run: RunFolder) -> None:
    """The figures of the run's own fit. Colours are the theme's, so that they follow light and dark."""
    report = run.read("fits/default/report.json") or {}
    try:
        words, charts = in_words(report), [by_step(report), by_examples(report), stable(report)]
        heads = load_estimator(str(run.folder / "estimator.safetensors")).theta.size
        trust = stability_in_words(report["stability"], heads)
        more = more_examples(report["learning_curve"])
    except (KeyError, TypeError, ValueError, IndexError, EstimatorFileError):
        frame.complain(DAMAGED.format(folder=run.folder), "train-report")
        return
    for number, sentence in enumerate(words):
        with st.container(key=f"train-words-{number}"):
            st.text(sentence)
    _use(run)
    sentences = (_steps_in_words(report), more, trust)
    titles = (
        "Correlation over the steps of the fit",
        "Correlation by number of examples",
        "Correlation with other examples held out",
    )
    for box, chart, title, said, name in zip(
        st.columns(3, gap="medium"),
        charts,
        titles,
        sentences,
        ("steps", "examples", "stability"),
        strict=True,
    ):
        with box:
            st.text(title)
            st.plotly_chart(
                chart, key=f"train-chart-{name}-{run.name}", width="stretch", alt=title, config=PLAIN
            )
            with st.container(key=f"quiet-train-{name}"):
                st.text(said)


def _use(run: RunFolder) -> None:
    complaint = ""
    if st.button("Use in Explore", type="primary", icon=":material/format_ink_highlighter:", key="train-use"):
        from pages.ui.estimator_choice import use_estimator

        try:
            # Among the person's own it outlasts the run's folder, and Estimators, Compare and Evaluate offer it, too.
            use_estimator(add_estimator(load_estimator(run.folder / "estimator.safetensors")).path)
            st.switch_page("pages/explore.py")
        except At2Error as error:
            complaint = str(error)
    if complaint:
        frame.complain(complaint, "train-use")


# ---------------------------------------------------------------------------------------------- in words


def in_words(report: Mapping[str, Any]) -> list[str]:
    """How good it is, and what was chosen."""
    held, used, whole = report["examples_validation"], report["examples_training"], report["examples"]
    splits = len(report.get("stability", {}).get("splits_correlation") or ())
    own, average = report["correlation"], report["correlation_average_attention"]
    better = own - average
    verdict = (
        f"{better:.3f} more than average attention ({average:.3f})"
        if better > ENOUGH
        else f"hardly more than average attention ({average:.3f})"
        if better > 0
        else f"no more than average attention ({average:.3f})"
    )
    if held + used > whole:
        where = f"on the {held:,} examples that it was learned from, since none could be held out"
    else:
        where = (
            f"on {held:,} examples that were held out" if held != 1 else "on one example that was held out"
        )
        if splits > 1:
            where += f" (the mean over {splits} ways to hold out as many)"
        if held < FEW:
            where += "; so few say little"
    signs = "only coefficients of zero and above" if report["nonnegative"] else "coefficients of either sign"
    few = (
        f"a penalty of {report['sparsity']:g} for many heads"
        if report["sparsity"]
        else "no penalty for many heads"
    )
    shrunk = (
        f"moved by {report['shrinkage']:.0%} towards average attention"
        if report["shrinkage"]
        else "not moved towards average attention"
    )
    return [
        f"What it predicts correlates {own:.3f} with what the ablations did, {where}: {verdict}.",
        f"Chosen from {len(report['candidates'])} ways to fit: {signs}, {few}, {shrunk}, {report['steps']:,} steps. "
        f"Learned from {whole:,} examples with {report['targets']:,} targets.",
    ]


def more_examples(rows: Sequence[Mapping[str, float]]) -> str:
    """Whether more data would help, from what the second half of the examples brought."""
    if len(rows) < 2:
        return "There are too few examples to say whether more would help."
    half, whole = rows[-2], rows[-1]
    gain = whole["correlation"] - half["correlation"]
    told = f"From {half['examples']:,} to {whole['examples']:,} examples it gained {gain:+.3f}".replace(
        "-", "−"
    )
    if whole["examples"] < 2 * FEW:
        return f"{told}: too few examples to say whether more would help."
    if gain >= ENOUGH:
        return f"{told}: more examples would probably help."
    return f"{told}: more examples would hardly help."


def stability_in_words(stability: Mapping[str, Any], heads: int) -> str:
    """How far the coefficients stay the same with other examples."""
    said = (
        f"Learned again from {stability['resamples']} resamples, the order of the heads agrees "
        f"{_number(stability['rank_correlation'])} (rank correlation)"
    )
    if heads > stability["top_heads"] and known(stability["top_overlap"]):
        said += (
            f", and {stability['top_overlap']:.0%} of the {stability['top_heads']} largest heads are the same"
        )
    found = [c for c in stability["splits_correlation"] if known(c)]
    if found:
        said += f". With other examples held out the correlation is {min(found):.3f} to {max(found):.3f}"
    return said + "."


def _steps_in_words(report: Mapping[str, Any]) -> str:
    gap = report["correlation_training"] - report["correlation"]
    return f"On the training examples it is {report['correlation_training']:.3f}, {abs(gap):.3f} " + (
        "more." if gap >= 0 else "less."
    )


def _number(value: Any) -> str:
    return f"{value:.2f}" if known(value) else "an unknown amount"
