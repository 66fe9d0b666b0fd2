"""How well each method's scores predict what removing sources of this very example does, beside what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import streamlit as st

from at2_core.card import figures, plain
from at2_core.errors import At2Error
from at2_core.evaluation_runs import asked, find_evaluations, read_rows
from pages.ui import frame, session
from pages.ui.compare_board import Key, Outcomes
from pages.ui.compare_methods import NEEDS_THETA, Way
from pages.ui.compare_parts import Page, job_row, quiet, seconds
from pages.ui.compare_view import Column
from pages.ui.compare_work import ABLATIONS, OUTCOMES, outcomes
from pages.ui.estimator_shortfall import page_link


def quality(page: Page, chosen: Sequence[Way], columns: Sequence[Column], rows: slice, target: str) -> None:
    key = (page.exploration.id, page.granularity, OUTCOMES)
    measured: Outcomes | None = page.board.result(key)
    job = page.board.job(key)
    if measured is None:
        st.fragment(_measuring, run_every=0.5 if job is not None and job.active else None)(
            page, key, job is not None and job.active
        )
    else:
        quiet(
            f"LDS: how well scores predict what {ABLATIONS} random ablations did to {target}. "
            "1 is the right order, 0 no better than chance; the interval says what so few ablations leave open.",
            "quality",
        )
    table, told = quality_table(page, chosen, columns, rows, measured)
    st.dataframe(table, hide_index=True)
    for number, sentence in enumerate(told):
        quiet(sentence, f"quality-{number}")
    page_link("pages/evaluate.py", "Measure on a data set", ":material/fact_check:")


def _measuring(page: Page, key: Key, was_active: bool) -> None:
    job = page.board.job(key)
    if was_active and (job is None or not job.active):
        st.rerun()
    if job is not None and job.active:
        job_row(page, job, "Measuring", "compare-measure")
        return
    if job is not None and job.state == "failed":
        frame.complain(job.error, "compare-measure")
    pace = page.board.ablations(page.exploration.id, page.granularity).pace
    about = f", about {seconds(ABLATIONS * pace)}" if pace else ""
    with st.container(horizontal=True, vertical_alignment="center", key="quiet-compare-measure"):
        if st.button("Measure", icon=":material/science:", key="compare-measure-start"):
            page.board.start(page.engine, key, outcomes(page.board, page.exploration, page.granularity))
            st.rerun()
        st.text(
            f"Removes random sources {ABLATIONS} times ({ABLATIONS} forward passes{about}), and says how well each method "
            "predicts what that does to the response.",
            width="stretch",
        )


def quality_table(
    page: Page, chosen: Sequence[Way], columns: Sequence[Column], rows: slice, measured: Outcomes | None
) -> tuple[pd.DataFrame, list[str]]:
    """A row for each method: its cost, its LDS here once measured, and what is known of it elsewhere; and notes on these."""
    evaluated, over = known_quality((page.exploration.model, session.MODEL), page.granularity)
    found, told, here = [], [], []
    different = 0 if measured is None else len(np.unique(measured.keep, axis=0))
    for way, column in zip(chosen, columns, strict=True):
        result = page.board.result(page.key(way))
        row = {
            "Method": column.name,
            "Forward passes": str(round(result.passes)) if result else str(page.passes(way)),
            "Time": seconds(result.seconds) if result else "–",
        }
        if measured is not None:
            lds = lds_here(column.scores, rows, measured)
            row["LDS here"] = in_words(lds, different)
            here += [] if lds is None else [(column.name, lds)]
        if evaluated:
            row["LDS elsewhere"] = _elsewhere(way, evaluated)
        row["Validation"] = _validation(way)
        found.append(row)
    table = pd.DataFrame(found)
    if said := verdict(here, different):
        told.append(said)
    if (table["Validation"] == "–").all():
        table = table.drop(columns="Validation")
    else:
        told.append(
            "Validation: the correlation with ablations on held-out examples that the estimator's file states."
        )
    if evaluated:
        told.append(f"LDS elsewhere: the mean over {over}.")
    return table, told


def lds_here(scores: np.ndarray | None, rows: slice, measured: Outcomes) -> float | None:
    """The LDS of the target's scores; None without scores, nan where they are all alike."""
    if scores is None:
        return None
    from at2_core.verification import judged

    return judged(scores[rows].mean(axis=0), measured.keep, measured.logit_probs[:, rows]).lds


def in_words(lds: float | None, different: int) -> str:
    """An LDS with its 95 % interval, from so many different ablations."""
    if lds is None:
        return "not computed"
    if math.isnan(lds):
        return "all alike"
    low, high = interval(lds, different)
    return f"{lds:.2f} ({low:.2f} to {high:.2f})".replace("-", "−")


def verdict(found: Sequence[tuple[str, float]], different: int) -> str:
    """Which of the methods predicts best, as far as so many different ablations can tell. found: (name, LDS)."""
    known = sorted(((lds, name) for name, lds in found if not math.isnan(lds)), reverse=True)
    if len(known) < 2:
        return ""
    (best, name), low = known[0], interval(known[0][0], different)[0]
    near = [other for lds, other in known[1:] if interval(lds, different)[1] >= low]
    said = f"{name} predicts best here"
    if best <= 0:
        return "None of them predicts what the ablations did here."
    return (
        f"{said}; too close to tell apart: {', '.join(near)}."
        if near
        else f"{said}, by more than so few ablations leave open."
    )


def interval(correlation: float, count: int) -> tuple[float, float]:
    """95 % interval of a rank correlation over so many different ablations (Fisher's transform, with Spearman's variance)."""
    if count < 5:
        return -1.0, 1.0
    at, half = math.atanh(max(-0.9999, min(0.9999, correlation))), 1.96 * math.sqrt(1.06 / (count - 3))
    return math.tanh(at - half), math.tanh(at + half)


def _validation(way: Way) -> str:
    """What an estimator's file says of it."""
    if way.estimator is not None and (way.key == "at2" or way.identity.startswith("at2:")):
        value = figures(way.estimator).get("correlation")
        return "–" if value is None else f"{value:.2f}"
    return "–"


@st.cache_data(ttl=30, show_spinner=False, max_entries=16)
def known_quality(models: tuple[str, ...], granularity: str) -> tuple[dict[str, float], str]:
    """Mean LDS by method of the latest evaluation of a model, by any of its names, and over what; empty where there is none."""
    for run in find_evaluations():
        try:
            request = asked(run)
            if request is None or request.model not in models or request.granularity != granularity:
                continue
            rows = read_rows(run.folder)
        except (At2Error, OSError):
            continue
        if "lds" not in rows or not rows["lds"].notna().any():
            continue
        rows = rows[rows["lds"].notna() & rows["method"].notna()]
        means = rows.groupby("method")["lds"].mean().to_dict()
        if len(request.estimators) == 1:  # then these are by its theta, not by the model's own
            means = {name: value for name, value in means.items() if name not in NEEDS_THETA}
        examples = rows["example"].nunique()
        return means, f"{examples:,} examples of the latest evaluation, {plain(run.folder.name, 60)}"
    return {}, ""


def _elsewhere(way: Way, evaluated: Mapping[str, float]) -> str:
    """What an evaluation says of the method; several estimators go there by their names."""
    value = evaluated.get(way.key)
    if value is None and way.estimator is not None:
        value = evaluated.get(f"at2 {way.estimator.name}")
    return "–" if value is None else f"{value:.2f}".replace("-", "−")
