"""The Evaluate page: judge methods and estimators, watch the evaluations on this machine, look into any example."""

from __future__ import annotations

from pages.ui import frame

frame.require()

import streamlit as st  # noqa: E402 (the frame's guard comes first)

from pages.ui import evaluate_form, evaluate_run, evaluate_runs  # noqa: E402

frame.style("train.css")
frame.style("evaluate.css")
name = evaluate_runs.asked()
run = evaluate_runs.named(name)
with st.container(gap="xsmall"):
    with st.container(key="train-title"):
        st.title("How true are the scores? Measure it.", anchor=False)
    listed, shown = st.columns([1, 4.2], gap="medium")
    with listed:
        evaluate_runs.evaluation_list(run.name if run else None)
    with shown:
        if run is not None:
            evaluate_runs.look_at(run.name)
            evaluate_run.show(run)
        else:
            if name:
                frame.remark(f"There is no evaluation called {name!r} here.", "evaluate-unknown")
            evaluate_form.new_evaluation(first=not evaluate_runs.evaluations())
