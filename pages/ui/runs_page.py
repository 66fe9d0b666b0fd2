"""A page with the folders of a shelf on the left, and beside them the one that is looked at, or the form of a new one."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from at2_core.runs import RunFolder
from pages.ui import frame, train_runs
from pages.ui.train_runs import Shelf


def runs_page(
    shelf: Shelf, title: str, width: float, show: Callable[[RunFolder], None], form: Callable[[bool], None]
) -> None:
    """width: of what is shown, in widths of the list. form: is told whether there is none on the shelf yet."""
    name = train_runs.asked(shelf)
    run = train_runs.named(name, shelf)
    with st.container(gap="xsmall"):
        with st.container(key="train-title"):
            st.title(title, anchor=False)
        listed, shown = st.columns([1, width], gap="medium")
        with listed:
            train_runs.run_list(run.name if run else None, shelf)
        with shown:
            if run is not None:
                train_runs.look_at(run.name, shelf)
                show(run)
            else:
                if name:
                    frame.remark(f"There is no {shelf.noun} called {name!r} here.", f"{shelf.prefix}-unknown")
                form(not train_runs.runs(shelf))
