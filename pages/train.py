"""The Train page: learn theta for a model from examples, watch the runs on this machine, and judge what came out."""

from __future__ import annotations

from pages.ui import frame

frame.require()

import streamlit as st  # noqa: E402 (the frame's guard comes first)

from pages.ui import train_form, train_run, train_runs  # noqa: E402

frame.style("train.css")
name = train_runs.asked()
run = train_runs.named(name)
with st.container(gap="xsmall"):
    with st.container(key="train-title"):
        st.title("Which heads count? Learn it from examples.", anchor=False)
    listed, shown = st.columns([1, 3.6], gap="medium")
    with listed:
        train_runs.run_list(run.name if run else None)
    with shown:
        if run is not None:
            train_runs.look_at(run.name)
            train_run.show(run)
        else:
            if name:
                frame.remark(f"There is no run called {name!r} here.", "train-unknown")
            train_form.new_run(first=not train_runs.runs())
