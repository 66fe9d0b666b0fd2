"""What an evaluation's folder holds so far, read and summarised once for as long as it does not change."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter

import pandas as pd
import streamlit as st

from at2_core.evaluation_runs import SHOWN, read_rows
from at2_core.measures import summarize
from at2_core.runs import RunFolder

LIVE, WHOLE = 200, 2000  # bootstrap resamples, while it works and afterwards
PER_SECOND = 100  # examples that a summary is given a second of rest for
REFERENCE = "average"
Stamp = tuple[int, ...]


def stamp(run: RunFolder) -> Stamp:
    """Changes with the rows, and with which of them are asked for: how many files, and times."""
    times, began = [], 0
    with contextlib.suppress(OSError):
        began = run.folder.joinpath(SHOWN).stat().st_mtime_ns
    with contextlib.suppress(OSError), os.scandir(run.folder / "rows") as files:
        times = [file.stat().st_mtime_ns for file in files if file.name.endswith(".json")]
    return len(times), max(times, default=0), began


def unhurried(run: RunFolder, working: bool) -> Stamp:
    """The stamp to show; while it works it moves on the more slowly the more there is to summarise, for the machine is busy."""
    now, key = stamp(run), f"evaluate-stamp-{run.name}"
    at, before = st.session_state.get(key, (0.0, now))
    if not working or time.monotonic() - at >= now[0] / PER_SECOND:
        st.session_state[key] = (time.monotonic(), now)
        return now
    return before


@st.cache_data(max_entries=4, show_spinner=False)
def _read(folder: str, stamp: Stamp) -> pd.DataFrame:
    return read_rows(folder)


@st.cache_data(max_entries=8, show_spinner=False)
def rows_of(folder: str, stamp: Stamp) -> pd.DataFrame:
    """A row per example and method, without the skipped ones. Records that are quite the same share a sheet."""
    rows = _read(folder, stamp)
    judged = rows[rows["method"].notna()]
    return judged.drop_duplicates(["example", "method"], keep="last").reset_index(drop=True)


@st.cache_data(max_entries=8, show_spinner=False)
def skipped_of(folder: str, stamp: Stamp) -> dict[str, int]:
    """Examples that no method could be judged on, by reason."""
    rows = _read(folder, stamp)
    judged = set(rows.loc[rows["method"].notna(), "example"])
    left = rows[rows["method"].isna() & ~rows["example"].isin(judged)]
    return dict(Counter(left["skipped"].astype(str)).most_common()) if len(left) else {}


@st.cache_data(max_entries=16, show_spinner=False)
def summary_of(folder: str, stamp: Stamp, reference: str | None, resamples: int) -> pd.DataFrame:
    """Means and bootstrap intervals, with paired differences to the reference method."""
    rows = rows_of(folder, stamp)
    return summarize(rows, reference, resamples=resamples) if len(rows) else pd.DataFrame()


def methods_of(rows: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(rows["method"]))


def groups_of(summary: pd.DataFrame) -> list[tuple[str, str]]:
    """Measures, each with which answers it is about."""
    return (
        list(dict.fromkeys(zip(summary["measure"], summary["answer"], strict=True))) if len(summary) else []
    )
