"""The Estimators page: every estimator at hand, whether it fits the loaded model, and ways in and out."""

from __future__ import annotations

from pages.ui import frame

frame.require()

import streamlit as st  # noqa: E402 (the frame's guard comes first)

from at2_core.catalogue import list_estimators  # noqa: E402
from pages.ui import session  # noqa: E402
from pages.ui.estimator_cards import estimator_card, fingerprint_in_use  # noqa: E402
from pages.ui.estimator_import import import_panel  # noqa: E402
from pages.ui.estimator_shortfall import fitting_estimators, misfit, shortfall_remark  # noqa: E402
from pages.ui.model_status import model_status  # noqa: E402

engine = session.engine()
engine.start()
frame.style("estimators.css")
with st.container(gap="small"):
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.title("Which coefficients weigh the heads?", anchor=False, width="content")
        with st.container(width="content"):
            model_status(engine)
    in_use = fingerprint_in_use()
    if not in_use and fitting_estimators():
        frame.remark(
            "Average attention is in use: every head counts the same. Use in Explore, on one that fits, changes that.",
            "estimators-none",
        )
    elif not in_use and engine.shortfall:
        shortfall_remark(engine.shortfall, "estimators-none")
    listed, panel = st.columns([1.9, 1], gap="large")
    with panel:
        import_panel()
    with listed:
        for entry in sorted(
            list_estimators(), key=lambda entry: bool(misfit(entry))
        ):  # what can be used comes first
            estimator_card(entry, in_use)
