"""What came out of an evaluation, also while it works: the table of its methods and the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from at2_core.report import title
from at2_core.runs import RunFolder
from pages.ui import frame
from pages.ui.evaluate_charts import by_cost, by_method
from pages.ui.evaluate_figures import (
    LIVE,
    REFERENCE,
    WHOLE,
    groups_of,
    methods_of,
    rows_of,
    summary_of,
    unhurried,
)
from pages.ui.evaluate_methods import FEWEST, explained, label
from pages.ui.evaluate_table import ABOUT, KINDS, table
from pages.ui.train_report import PLAIN

MEAN, DIFFERENCE = "Means", "Differences"
LEGEND = {
    MEAN: "Mean over examples and, in brackets, its 95 % bootstrap interval. Blue: the best mean of the column.",
    DIFFERENCE: "How much more than {reference} on the same examples, mean and 95 % bootstrap interval. Green: more, red: "
    "less, beyond the interval.",
}
NOTHING = "There is nothing to show: no example has ablations that change the response, or a known truth with its answer."
NOTHING_YET = "The table appears with the first example that has something to judge by."


def figures(run: RunFolder, working: bool) -> None:
    """Tables and pictures of what there is so far. Nothing is worked out again while no row is added."""
    folder, now = str(run.folder), unhurried(run, working)
    rows = rows_of(folder, now)
    if not len(rows):
        if working:
            frame.remark("The table appears with the first example.", "evaluate-no-rows")
        return
    methods = methods_of(rows)
    reference = REFERENCE if REFERENCE in methods else methods[0]
    with st.spinner("Working out the intervals…", show_time=True):
        summary = summary_of(folder, now, reference, LIVE if working else WHOLE)
    if not len(summary):
        frame.remark(NOTHING_YET if working else NOTHING, "evaluate-no-measure")
        return
    answers = [answer for answer in KINDS if (summary["answer"] == answer).any()]
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="row-evaluate-table"):
        st.markdown("#### Methods", width="content")
        answer = answers[0]
        if len(answers) > 1:
            _keep_choice("evaluate-judged-by", answers, answer)
            answer = st.segmented_control("Judged by", answers, key="evaluate-judged-by", format_func=KINDS.__getitem__,
                                          required=True, label_visibility="collapsed")  # fmt: skip
        shown = st.segmented_control("What the table shows", [MEAN, DIFFERENCE], default=MEAN, required=True,
                                     key="evaluate-shown", label_visibility="collapsed", persist_state="session")  # fmt: skip
        if shown == DIFFERENCE:
            _keep_choice("evaluate-reference", methods, reference)
            reference = st.selectbox("Compared with", methods, key="evaluate-reference", format_func=label,
                                     label_visibility="collapsed", width=220)  # fmt: skip
    if shown == DIFFERENCE:
        summary = summary_of(folder, now, reference, LIVE if working else WHOLE)
    table(summary, answer, reference if shown == DIFFERENCE else None, run.name)
    with st.container(key="quiet-evaluate-legend"):
        st.text(
            LEGEND[shown].format(reference=label(reference))
            + (f" Nothing is marked below {FEWEST} examples." if _few(summary, answer) else "")
            + (" Intervals are coarse while it works." if working else "")
        )
    _pictures(summary, run.name)


def _pictures(summary: pd.DataFrame, name: str) -> None:
    groups = groups_of(summary)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="row-evaluate-charts"):
        st.markdown("#### Quality and cost", width="content")
        _keep_choice("evaluate-measure", groups, groups[0])
        measure, answer = st.selectbox("Measure", groups, key="evaluate-measure", format_func=lambda group: title(*group),
                                       label_visibility="collapsed", width=260)  # fmt: skip
    boxes = st.columns([1, 1.15], gap="medium")
    for box, chart, kind, heading in (
        (boxes[0], by_method, "methods", "Methods with their intervals"),
        (boxes[1], by_cost, "cost", "Quality against cost"),
    ):
        with box:
            st.text(heading)
            st.plotly_chart(chart(summary, measure, answer), key=f"evaluate-chart-{kind}-{name}", width="stretch",
                            alt=f"{heading}: {title(measure, answer)}", config=PLAIN)  # fmt: skip
    with st.container(key="quiet-evaluate-measure"):
        st.text(f"{title(measure, answer)}: {explained(measure)}" + (f" {ABOUT[answer]}." if answer else ""))


def _few(summary: pd.DataFrame, answer: str) -> bool:
    return bool((summary.loc[summary["answer"] == answer, "examples"] < FEWEST).any())


def _keep_choice(key: str, options: Sequence[Any], usual: Any) -> None:
    """What was chosen before stays chosen where it is still offered."""
    if st.session_state.get(key) not in options:
        st.session_state[key] = usual
