"""How well each method's scores predict what removing sources of this very example does, beside what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st

from at2_core.card import figures, plain
from at2_core.errors import At2Error
from at2_core.evaluation_runs import asked, read_rows
from pages.ui import frame, session
from pages.ui.compare_board import ACTIVE, Key, Outcomes, marks
from pages.ui.compare_methods import NEEDS_THETA, Way
from pages.ui.compare_parts import Page, job_row, lasting, quiet, seconds
from pages.ui.compare_view import Column
from pages.ui.compare_work import ABLATIONS, OUTCOMES, outcomes
from pages.ui.estimator_shortfall import page_link
from pages.ui.evaluate_runs import evaluations, located
from pages.ui.verify_words import SURE, coarse, interval, is_coarse, signed

if TYPE_CHECKING:
    from at2_core.verification import Check

SHARED = "Shared ablations were there already, made by another method or by Measure, and took no time."
# px, so that all of them are in sight on a screen of 1280; and what the heading does not say.
COLUMNS: dict[str, tuple[int, str | None]] = {
    "Method": (162, None), "Passes": (64, "Forward passes beyond the generation's own"), "Time": (66, SHARED),
    "LDS here": (148, None), "Shuffled": (76, None), "LDS elsewhere": (104, None), "Validation": (80, None),
}  # fmt: skip


@dataclass(frozen=True)
class Judges:
    """The ablations that scores are judged by. different: how many are not alike. notes: what to know of them, in words; sure:
    whether they can tell methods apart."""

    outcomes: Outcomes
    different: int
    notes: tuple[str, ...] = ()
    sure: bool = True


def quality(
    page: Page, chosen: Sequence[Way], columns: Sequence[Column], rows: np.ndarray, target: str
) -> None:
    key = (page.exploration.id, page.granularity, OUTCOMES)
    job = page.board.job(key)
    active = (
        job is not None and job.active
    )  # asked for once, and before the result, which is there when it ends
    measured: Outcomes | None = None if active else page.board.result(key)
    judging = None if measured is None else judges(page, chosen, measured)
    if judging is None:
        st.fragment(_measuring, run_every=0.5 if active else None)(page, key, active)
    else:
        quiet(
            f"LDS: how well scores predict what {len(judging.outcomes.keep)} random ablations did to {target}. 1 is the right "
            "order; the interval says what so few ablations leave open. Shuffled: what the same scores reach on average when "
            "they are shuffled over the sources, which is chance.",
            "quality",
        )
    table, told = quality_table(page, chosen, columns, rows, judging)
    shown = {name: st.column_config.Column(width=width, help=help) for name, (width, help) in COLUMNS.items()}
    st.dataframe(table, hide_index=True, column_config=shown)
    for number, sentence in enumerate(told):
        quiet(sentence, f"quality-{number}")
    page_link("pages/evaluate.py", "Measure on a data set", ":material/fact_check:")


def _start(page: Page, key: Key) -> None:
    page.engine.start(again=True)
    page.board.start(page.engine, key, outcomes(page.board, page.exploration, page.granularity))


def judges(page: Page, chosen: Sequence[Way], measured: Outcomes) -> Judges:
    """The ablations that none of the methods learned from, where these are enough; else all of them, and what that means."""
    found = {way.name: page.board.result(page.key(way)) for way in chosen}
    asked = marks(measured.keep)
    learned = {
        name: count
        for name, result in found.items()
        if result is not None and (count := sum(mark in result.learned for mark in asked))
    }
    known = frozenset().union(*(result.learned for result in found.values() if result is not None))
    new = np.array([mark not in known for mark in asked], bool)
    sources = len(page.exploration.sources[page.granularity])
    enough = _different(measured.keep[new]) >= SURE
    if enough:
        measured = replace(measured, keep=measured.keep[new], logit_probs=measured.logit_probs[new])
    different, ablations = _different(measured.keep), len(measured.keep)
    notes = []
    if not enough or is_coarse(ablations, different, sources):
        notes.append(coarse(ablations, different, sources, page.granularity))
    if not enough:
        notes += [
            f"{name} learned from {count} of these ablations itself, so its LDS says little."
            for name, count in learned.items()
        ]
    return Judges(measured, different, tuple(notes), not notes)


def _different(keep: np.ndarray) -> int:
    return len(np.unique(keep, axis=0))


def _measuring(page: Page, key: Key, was_active: bool) -> None:
    """The same slots whatever the state: it is drawn alone, among others' elements."""
    job = page.board.job(key)
    state = job.state if job is not None else ""
    if (state in ACTIVE) != was_active:
        st.rerun()
    with st.container():
        if job is not None and state == "failed":
            frame.complain(job.error, "compare-measure")
    if job is not None and was_active:
        job_row(page, job, "Measuring", "compare-measure")
        return
    pace = page.board.pace(page.exploration.id, page.granularity)
    about = f", about {seconds(ABLATIONS * pace)}" if pace else ""
    with st.container(horizontal=True, vertical_alignment="center", key="quiet-compare-measure"):
        # A callback: a press that comes in just when another job ends would be lost in the redraw.
        st.button(
            "Measure",
            icon=":material/science:",
            key="compare-measure-start",
            on_click=_start,
            args=(page, key),
        )
        st.text(
            f"Removes random sources {ABLATIONS} times ({ABLATIONS} forward passes{about}), and says how well each method "
            "predicts what that does to the response.",
            width="stretch",
        )
        st.empty()  # where the bar of a measurement stands


def quality_table(
    page: Page, chosen: Sequence[Way], columns: Sequence[Column], rows: np.ndarray, judging: Judges | None
) -> tuple[pd.DataFrame, list[str]]:
    """A row for each method: its cost, its LDS here once measured, and what is known of it elsewhere; and notes on these."""
    place = session.loaded_by(page.exploration.model)
    evaluated, over = known_quality((page.exploration.model, place, located(place)), page.granularity)
    found, told, here = [], [], []
    for way, column in zip(chosen, columns, strict=True):
        result = page.board.result(page.key(way))
        row = {
            "Method": column.name,
            "Passes": str(round(result.passes)) if result else str(page.passes(way)),
            "Time": lasting(result) if result else "–",
        }
        if judging is not None:
            checked = lds_here(column.scores, rows, judging.outcomes)
            row["LDS here"] = in_words(None if checked is None else checked.lds, judging.different)
            row["Shuffled"] = "–" if checked is None or math.isnan(checked.chance) else signed(checked.chance)
            here += [] if checked is None else [(column.name, checked.lds, checked.chance_high)]
        if evaluated:
            row["LDS elsewhere"] = _elsewhere(way, evaluated)
        row["Validation"] = _validation(way)
        found.append(row)
    table = pd.DataFrame(found)
    if judging is not None:
        told += judging.notes
        if judging.sure and (said := verdict(here, judging.different)):
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


def lds_here(scores: np.ndarray | None, rows: np.ndarray, measured: Outcomes) -> Check | None:
    """The check of the target's scores, its LDS nan where they are all alike; None without scores."""
    if scores is None:
        return None
    from at2_core.verification import judged

    return judged(scores[rows].mean(axis=0), measured.keep, measured.logit_probs[:, rows])


def in_words(lds: float | None, different: int) -> str:
    """An LDS with its 95 % interval, from so many different ablations."""
    if lds is None:
        return "not computed"
    if math.isnan(lds):
        return "all alike"
    if different < SURE:
        return signed(lds)
    low, high = interval(lds, different)
    return f"{signed(lds)} ({signed(low)} to {signed(high)})"


def verdict(found: Sequence[tuple[str, float, float]], different: int) -> str:
    """Which of the methods predicts best, as far as so many different ablations can tell. found: (name, LDS, what its scores
    seldom reach when they are shuffled)."""
    known = sorted(((lds, name, high) for name, lds, high in found if not math.isnan(lds)), reverse=True)
    if len(known) < 2:
        return ""
    if all(lds <= high for lds, _, high in known):
        return "None of them predicts more of what the ablations did here than its scores do when they are shuffled."
    (best, name, high), low = known[0], interval(known[0][0], different)[0]
    near = [other for lds, other, _ in known[1:] if interval(lds, different)[1] >= low]
    said = f"{name} predicts best here"
    if best <= high:
        said += ", but not better than its own scores when they are shuffled"
    return (
        f"{said}; too close to tell apart: {', '.join(near)}."
        if near
        else f"{said}, by more than so few ablations leave open."
    )


def _validation(way: Way) -> str:
    """What an estimator's file says of it."""
    if way.estimator is not None and way.is_at2:
        value = figures(way.estimator).get("correlation")
        return "–" if value is None else f"{value:.2f}"
    return "–"


@st.cache_data(ttl=30, show_spinner=False, max_entries=16)
def known_quality(models: tuple[str, ...], granularity: str) -> tuple[dict[str, float], str]:
    """Mean LDS by method of the latest evaluation of a model, by any of its names, and over what; empty where there is none."""
    for run in evaluations():
        try:
            request = asked(run)
            if request is None or request.model not in models or request.granularity != granularity:
                continue
            rows = read_rows(run.folder)
            if "lds" not in rows:
                continue
            rows["lds"] = pd.to_numeric(rows["lds"])
            rows = rows[rows["lds"].notna() & rows["method"].notna()]
            means = {str(name): float(lds) for name, lds in rows.groupby("method")["lds"].mean().items()}
            examples = rows["example"].nunique()
        except (
            At2Error,
            OSError,
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
        ):  # damaged, or of another version
            continue
        if request.estimators:  # then these are by their thetas, not by the model's own
            means = {name: value for name, value in means.items() if name not in NEEDS_THETA}
        if means:
            return means, f"{examples:,} examples of the latest evaluation, {plain(run.folder.name, 60)}"
    return {}, ""


def _elsewhere(way: Way, evaluated: Mapping[str, float]) -> str:
    """What an evaluation says of the method; several estimators go there by name, and fingerprint where names repeat."""
    value = evaluated.get(way.key)
    if value is None and way.estimator is not None and way.is_at2:
        name = f"at2 {way.estimator.name}"
        value = evaluated.get(f"{name} {way.estimator.fingerprint}", evaluated.get(name))
    return "–" if value is None else signed(value)
