"""The charts of a finished run, in colours that hold on a light and on a dark page alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

HELD, GREY = "#2D70CE", "#8A8A8A"  # what was held out, and all that it is compared with
RESAMPLED = "first split, resampled"  # not to be compared with the mean over the splits


def by_step(report: Mapping[str, Any]) -> go.Figure:
    """Correlation on the training and the held-out examples at every look."""
    steps = [row["step"] for row in report["history"]]
    figure = go.Figure(
        [
            go.Scatter(x=steps, y=[row[kind] for row in report["history"]], name=name, line=line)
            for kind, name, line in (
                ("validation", "held out", {"color": HELD}),
                ("training", "training", {"color": GREY, "dash": "dot"}),
            )
        ]
    )
    return _laid_out(figure, "step")


def by_examples(report: Mapping[str, Any]) -> go.Figure:
    """Correlation on the held-out examples by number of training examples, with the spread over draws."""
    rows = report["learning_curve"]
    deviations = {"type": "data", "array": [row["deviation"] for row in rows], "thickness": 1}
    figure = go.Figure(
        go.Scatter(
            x=[row["examples"] for row in rows],
            y=[row["correlation"] for row in rows],
            error_y=deviations,
            mode="lines+markers",
            line={"color": HELD},
            name="held out",
            showlegend=False,
        )
    )
    figure.add_hline(
        report["correlation_average_attention"], line={"color": GREY, "dash": "dot", "width": 1},
        annotation={"text": "average attention", "font": {"color": GREY}, "xanchor": "left", "x": 0, "yanchor": "bottom"},
    )  # fmt: skip
    return _laid_out(figure, "training examples")


def stable(report: Mapping[str, Any]) -> go.Figure:
    """Correlation of each split into training and held-out examples, their mean, and that of the resamples."""
    stability = report["stability"]
    splits = [c for c in stability["splits_correlation"] if known(c)]
    rows = [("mean", [report["correlation"]], HELD), ("each split", splits, GREY)]
    if known(stability["correlation"]):
        rows.append((RESAMPLED, [stability["correlation"]], GREY))
    figure = go.Figure(
        [
            go.Scatter(
                x=[name] * len(found), y=found, name=name, mode="markers", marker={"size": 8, "color": colour}
            )
            for name, found, colour in rows
        ]
    )
    deviation = {"type": "data", "array": [stability["correlation_deviation"]], "thickness": 1}
    figure.update_traces(error_y=deviation, selector={"name": RESAMPLED})
    figure.update_traces(showlegend=False, opacity=0.85)
    return _laid_out(figure, "")


def _laid_out(figure: go.Figure, across: str) -> go.Figure:
    figure.update_xaxes(title={"text": across} if across else None, fixedrange=True, rangemode="normal")
    figure.update_yaxes(fixedrange=True)
    figure.update_layout(
        height=230,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        dragmode=False,
    )
    return figure


def known(value: Any) -> bool:
    """Whether it is a number; a report says NaN where there was nothing to compare."""
    return isinstance(value, (int, float)) and math.isfinite(value)
