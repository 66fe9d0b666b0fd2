"""The table of methods: a row a method, a column a measure, the best of each column marked."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import streamlit as st

from at2_core.report import title
from pages.ui.evaluate_methods import FEWEST, explained, short

BEST = "background-color: rgb(45 112 206 / 22%)"
BETTER = "background-color: rgb(60 141 107 / 22%)"
WORSE = "background-color: rgb(194 80 63 / 18%)"
KINDS = {"": "By ablations", "supported": "True answer", "other": "Other answer"}
ABOUT = {
    "": "What removing sources does to the response",
    "supported": "Known truth, where the response gives the answer that it supports",
    "other": "Known truth, where the response says something else",
}


def table(summary: pd.DataFrame, answer: str, reference: str | None, place: str) -> None:
    """What ablations say, or the known truth for one kind of answer. reference: show differences to this method."""
    part = summary[summary["answer"] == answer]
    texts = cells(part, reference)
    with st.container(key="quiet-evaluate-about"):
        st.text(f"{ABOUT[answer]}: {counted(part)}.")
    st.dataframe(
        marked(texts, part, reference), hide_index=True, column_config=_columns(part, texts),
        key=f"evaluate-table-{place}-{answer or 'ablations'}", height=36 * len(texts) + 38, row_height=36,
    )  # fmt: skip


def cells(part: pd.DataFrame, reference: str | None) -> pd.DataFrame:
    """Texts, a row a method: "mean [low, high]" of each measure, and what the method costs."""
    rows = []
    for method, own in part.groupby("method", sort=False):
        row: dict[str, Any] = {"method": short(str(method), 32)}
        for _, figure in own.iterrows():
            row[figure["measure"]] = _cell(figure, reference is not None, method == reference)
        rows.append(row | {"passes": own["passes"].iloc[0], "seconds": own["seconds"].iloc[0]})
    return pd.DataFrame(rows)


def marked(table: pd.DataFrame, part: pd.DataFrame, reference: str | None) -> Any:
    """The table with a tint where a method is the best, or where it differs from the reference beyond the interval; none where
    there are few examples."""
    methods = list(dict.fromkeys(part["method"]))
    tints = pd.DataFrame("", index=table.index, columns=table.columns)
    for measure, figures in part.groupby("measure", sort=False):
        own = figures.set_index("method")
        best = own["mean"].max() if own["mean"].nunique() > 1 else math.nan
        for number, method in enumerate(methods):
            if method not in own.index:
                continue
            figure = own.loc[method]
            compared = own.loc[reference, "examples"] if reference in own.index else figure["examples"]
            if min(figure["examples"], compared) < FEWEST:
                continue
            if reference is None:
                tints.loc[number, measure] = BEST if figure["mean"] == best else ""
            elif method != reference and "difference_low" in own:
                low, high = figure["difference_low"], figure["difference_high"]
                tints.loc[number, measure] = BETTER if low > 0 else WORSE if high < 0 else ""
    return table.style.apply(lambda _: tints, axis=None)


def counted(part: pd.DataFrame) -> str:
    """Of how many examples."""
    low, high = int(part["examples"].min()), int(part["examples"].max())
    return f"{high:,} example{'' if high == 1 else 's'}" if low == high else f"{low:,} to {high:,} examples"


def _cell(figure: pd.Series, difference: bool, is_reference: bool) -> str:
    if difference and is_reference:
        return "reference"
    prefix, sign = ("difference_", "+") if difference else ("", "")
    mean, low, high = (figure.get(f"{prefix}{name}", math.nan) for name in ("mean", "low", "high"))
    if math.isnan(mean):
        return "–"
    if math.isnan(low):  # one example has no interval, nor have several about the same context
        said = f"{mean:{sign}.2f} ({'one example' if figure['examples'] == 1 else 'no interval'})"
    else:
        said = f"{mean:{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f})"
    return said.replace("-", "−")


def _columns(part: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    config: dict[str, Any] = {"method": st.column_config.TextColumn("Method", pinned=True, width=235)}
    for measure, own in part.groupby("measure", sort=False):
        unit = " (nats)" if str(measure).startswith("drop_") else ""
        heading = title(str(measure))
        config[str(measure)] = st.column_config.TextColumn(
            f"{heading[0].upper()}{heading[1:]}{unit}", width=150,
            help=f"{explained(str(measure))} Mean of {counted(own)}, with its 95 % interval.",
        )  # fmt: skip
    config["passes"] = st.column_config.NumberColumn(
        "Passes", format="%.0f", width=70,
        help="Forward passes over prompt and response that the method costs beyond the generation's own, mean of an example.",
    )  # fmt: skip
    config["seconds"] = st.column_config.NumberColumn(
        "Seconds", format="%.2f", width=75, help="The method alone, mean of an example, on this machine."
    )
    return {name: column for name, column in config.items() if name in table}
