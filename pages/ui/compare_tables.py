"""Figures under the columns: how far the methods agree on the pinned span, or on all that is attributed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from at2_core.card import plain
from at2_core.exploration import Exploration
from pages.ui import frame
from pages.ui.compare_methods import Way
from pages.ui.compare_parts import Page, quiet
from pages.ui.compare_quality import quality
from pages.ui.compare_state import State
from pages.ui.compare_view import Column
from pages.ui.token_heatmap import whole_name

TOP = 3


def tables(page: Page, chosen: Sequence[Way], columns: Sequence[Column], state: State) -> None:
    rows = page.exploration.rows(state.pin)
    left, right = st.columns([1, 1.3], gap="medium")
    with left:
        st.markdown("#### Agreement")
        _agreement(page, [c for c in columns if c.scores is not None], rows, state)
    with right:
        st.markdown("#### Measured quality here")
        quality(page, chosen, columns, rows, target_words(page.exploration, state))


def target_words(exploration: Exploration, state: State) -> str:
    """What is looked at, in words: what the pinned rows say, or what the others are."""
    if not state.pin:
        return whole_name(exploration)
    offsets = exploration.response_offsets[state.pin[0] : state.pin[1] + 1]
    return f"“{plain(exploration.text[offsets[0][0] : offsets[-1][1]], 60)}”"


def _agreement(page: Page, ready: Sequence[Column], rows: np.ndarray, state: State) -> None:
    count = len(page.exploration.sources[page.granularity])
    if len(ready) < 2:
        frame.remark("Two methods with scores are needed; compute another one above.", "compare-agreement")
        return
    if count < 2:
        what = f"a single {page.granularity}" if count else "no context"
        frame.remark(
            f"The prompt has {what}, so there is no order of sources to compare. Choose smaller sources.",
            "compare-agreement",
        )
        return
    table = agreement_table([(c.name, c.scores[rows].mean(axis=0)) for c in ready], count)
    quiet(
        f"For {target_words(page.exploration, state)}, over {count} {page.granularity} sources. Rank correlation: 1 is the "
        "same order, 0 no relation, −1 the opposite order.",
        "agreement",
    )
    st.dataframe(
        table,
        hide_index=True,
        column_config={"Rank correlation": st.column_config.NumberColumn(format="%.2f")},
    )


def agreement_table(scores: Sequence[tuple[str, np.ndarray]], count: int) -> pd.DataFrame:
    """A row for each two of the methods, given as names and scores (S,)."""
    from at2_core.measures import agreement  # it imports scipy.stats: after the columns are on their way

    k = min(TOP, count)
    found = []
    for (one, first), (other, second) in itertools.combinations(scores, 2):
        correlation, shared = agreement(first, second, TOP) if count else (math.nan, math.nan)
        found.append(
            {
                "Method": one,
                "and": other,
                "Rank correlation": None if math.isnan(correlation) else round(correlation, 4),
                f"Top {k} shared": "–" if math.isnan(shared) else f"{round(shared * k)} of {k}",
            }
        )
    return pd.DataFrame(found)
