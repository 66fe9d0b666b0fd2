"""An evaluation's figures as files: the summary for a spreadsheet and for a report, and every row."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from at2_core.report import markdown
from at2_core.runs import RunFolder
from pages.ui.evaluate_figures import REFERENCE, WHOLE, methods_of, rows_of, stamp, summary_of

MARK = "\ufeff"  # tells spreadsheets that it is UTF-8


def export(run: RunFolder) -> None:
    """The files are made when they are asked for, of what there is then."""
    with st.popover("Save", icon=":material/download:", key="evaluate-save"):
        for label, made, suffix, kind in (
            ("Summary (.csv)", summary_csv, "summary.csv", "text/csv"),
            ("Summary (.md)", summary_markdown, "summary.md", "text/markdown"),
            ("All rows (.csv)", rows_csv, "rows.csv", "text/csv"),
        ):
            st.download_button(
                label, data=lambda made=made: made(run), file_name=f"{run.name}-{suffix}", mime=kind,
                on_click="ignore", key=f"evaluate-save-{suffix}",
            )  # fmt: skip


def summary_csv(run: RunFolder) -> str:
    return MARK + _summary(run).map(_cell).to_csv(index=False)


def summary_markdown(run: RunFolder) -> str:
    summary = _summary(run)
    return markdown(summary) if len(summary) else ""


def rows_csv(run: RunFolder) -> str:
    return MARK + rows_of(str(run.folder), stamp(run)).map(_cell).to_csv(index=False)


def _summary(run: RunFolder) -> pd.DataFrame:
    folder, now = str(run.folder), stamp(run)
    rows = rows_of(folder, now)
    return summary_of(folder, now, REFERENCE if REFERENCE in methods_of(rows) else None, WHOLE)


def _cell(value: object) -> object:
    """A spreadsheet takes text that begins like this for a formula; an apostrophe keeps it text."""
    return "'" + value if isinstance(value, str) and value.lstrip()[:1] in ("=", "+", "-", "@") else value
