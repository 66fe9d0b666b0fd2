"""The pictures of an evaluation: quality against cost, and the methods with their intervals, in colours for light and dark."""

from __future__ import annotations

import itertools
import math

import pandas as pd
import plotly.graph_objects as go

from at2_core.report import title
from pages.ui.evaluate_methods import FEWEST, ours, short
from pages.ui.train_charts import GREY, HELD

HEIGHT, LINE = 340, 15  # px of a picture, and between two names
# Parts of the axis: before the first pass, between methods of the same cost, and what a name takes.
GAP, DODGE, NAME = 0.85, 0.02, 0.17


def by_cost(summary: pd.DataFrame, measure: str, answer: str) -> go.Figure:
    """One point a method: mean and interval upwards, forward passes to the right."""
    rows = _rows(summary, measure, answer).sort_values("mean")
    low, high = min([*rows["low"], 0.0]), max([*rows["high"], 0.0])
    margin = 0.06 * (high - low or 1)
    reach = math.log2(max([*rows["passes"], 1]))
    gap = max(1.0, GAP * reach)
    across = [place(passes, gap) for passes in rows["passes"]]
    # Of the same cost, a little to the side, so that intervals do not cover each other.
    beside = [(across[:i].count(x) % 3 - 1) * (across.count(x) > 1) for i, x in enumerate(across)]
    step = DODGE * (gap + reach)
    figure = go.Figure(
        [
            _points(rows.iloc[[i]], [x + step * beside[i]], rows["mean"].iloc[[i]], "y")
            for i, x in enumerate(across)
        ]
    )
    # Names of what costs nothing stand at the right of their points, the others above their intervals.
    free = [passes == 0 for passes in rows["passes"]]
    heights = list(rows["mean"].where(free, rows["high"]))
    per_px = (high - low + 3 * margin) / (HEIGHT - 60)
    shifts = apart(clustered(across, NAME * (gap + reach)), [height / per_px for height in heights], free)
    for i, (_, row) in enumerate(rows.iterrows()):
        name = f"<b>{_named(row['method'])}</b>" if ours(row["method"]) else _named(row["method"])
        if free[i]:  # a thin line leads from each point to its name
            figure.add_annotation(
                x=across[i] + step * beside[i], y=heights[i], text=name, font={"size": 12}, xanchor="left",
                axref="x", ayref="y", ax=across[i] + 3 * step, ay=heights[i] + shifts[i] * per_px,
                showarrow=True, arrowhead=0, arrowwidth=0.7, arrowcolor=GREY, standoff=4,
            )  # fmt: skip
            continue
        last = across[i] > gap + reach / 2  # there is little room at its right
        figure.add_annotation(
            x=across[i], y=heights[i], text=name, font={"size": 12}, xanchor="right" if last else "center",
            yanchor="bottom", xshift=12 if last else 0, yshift=shifts[i], showarrow=False,
        )  # fmt: skip
    ticks = [n for n in (0, 1, 3, 10, 32, 64, 128, 256, 1024) if n <= 1.5 * 2**reach]
    figure.update_xaxes(title={"text": "forward passes for an example"}, tickvals=[place(n, gap) for n in ticks],
                        ticktext=[str(n) for n in ticks], range=[-2 * step, gap + 1.05 * reach + 2 * step],
                        showgrid=False)  # fmt: skip
    figure.update_yaxes(title={"text": title(measure)}, range=[low - margin, high + 2 * margin])
    return _laid_out(figure, HEIGHT)


def place(passes: float, gap: float) -> float:
    """Where so many forward passes are: none at the left, with room for the names of those that cost none, then by powers."""
    return gap + math.log2(passes) if passes >= 1 else gap * passes


def by_method(summary: pd.DataFrame, measure: str, answer: str) -> go.Figure:
    """A line a method, the best on top: its mean, and its interval where there is one."""
    rows = _rows(summary, measure, answer).sort_values("mean")
    names = [_named(method) for method in rows["method"]]
    figure = go.Figure([_points(rows.iloc[[i]], rows["mean"].iloc[[i]], [i], "x") for i in range(len(rows))])
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=names, range=[-0.6, len(rows) - 0.4])
    spread = bool((rows["low"] < rows["high"]).any())
    text = f"{title(measure)}, mean with 95 % interval" if spread else f"{title(measure)}, mean"
    # Without intervals a small difference must not fill the picture.
    figure.update_xaxes(title={"text": text}, zeroline=True, rangemode="normal" if spread else "tozero")
    return _laid_out(figure, max(HEIGHT, 26 * len(rows) + 60))


def clustered(across: list[float], width: float) -> list[float]:
    """The same place for those that are less than a name's width behind the first of them."""
    first, places = -math.inf, {}
    for x in sorted(set(across)):
        first = x if x - first >= width else first
        places[x] = first
    return [places[x] for x in across]


def apart(across: list[float], heights: list[float], free: list[bool]) -> list[float]:
    """How far each name is moved upwards, in px, so that those at the same place do not cover each other. free: whether it may
    be moved downwards, too; the others stand above their intervals."""
    shifts = [0.0] * len(heights)
    for place in set(across):
        members = sorted((i for i, x in enumerate(across) if x == place), key=lambda i: heights[i])
        for _ in range(50):  # push neighbours apart, each by half of what is missing where both can move
            for below, above in itertools.pairwise(members):
                missing = LINE - (heights[above] + shifts[above] - heights[below] - shifts[below])
                if missing > 0:
                    down = missing / 2 if free[below] else 0.0
                    shifts[above] += missing - down
                    shifts[below] -= down
    return shifts


def _rows(summary: pd.DataFrame, measure: str, answer: str) -> pd.DataFrame:
    """The methods' rows; of few examples the interval is the mean alone, which draws none."""
    own = (summary["measure"] == measure) & (summary["answer"] == answer)
    rows = summary[own & summary["mean"].notna()]
    known = rows["low"].notna() & (rows["examples"] >= FEWEST)
    return rows.assign(**{end: rows[end].where(known, rows["mean"]) for end in ("low", "high")})


def _points(rows: pd.DataFrame, x: object, y: object, along: str) -> go.Scatter:
    row = rows.iloc[0]
    drawn = row["low"] < row["high"]
    spread = {"type": "data", "symmetric": False, "array": [row["high"] - row["mean"]],
              "arrayminus": [row["mean"] - row["low"]], "thickness": 1.2, "width": 3, "visible": bool(drawn)}  # fmt: skip
    own = ours(row["method"])
    interval = f" ({row['low']:.3f} to {row['high']:.3f})".replace("-", "−") if drawn else ""
    said = f"{_named(row['method'])}<br>{row['mean']:.3f}{interval}<br>{row['passes']:.0f} passes"
    return go.Scatter(
        x=list(x), y=list(y), mode="markers", showlegend=False, **{f"error_{along}": spread},  # type: ignore[call-overload]
        marker={"size": 10 if own else 7, "color": HELD if own else GREY}, hovertemplate=f"{said}<extra></extra>",
    )  # fmt: skip


def _named(method: str) -> str:
    """Plotly reads a few tags in a text, and an estimator may be called anything."""
    return (
        short(method, 22).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "% {")
    )


def _laid_out(figure: go.Figure, height: int) -> go.Figure:
    figure.update_xaxes(fixedrange=True)
    figure.update_yaxes(fixedrange=True)
    figure.update_layout(height=height, margin={"l": 8, "r": 8, "t": 8, "b": 8}, dragmode=False)
    return figure
