"""What an evaluation says: a table in Markdown, and quality against cost as a picture.

`markdown`   methods by measures, means with their intervals, and the cost of each
`plot`       one point a method, quality up, forward passes to the right
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL, POINTS = (
    0.042,
    230,
)  # of the range of means that a name takes; points that this range takes in the picture
TITLES = {"lds": "LDS", "mrr": "MRR"}


def title(measure: str, answer: str = "") -> str:
    """A measure's name in words."""
    kind, _, k = measure.rpartition("_")
    words = TITLES.get(measure) or (f"top-{k} drop" if kind == "drop" else f"{kind}@{k}")
    kinds = {"": "", "supported": ", true answer", "other": ", other answer", "unknown": ", answer unknown"}
    return words + kinds[answer]


def markdown(summary: pd.DataFrame, reference: str | None = None) -> str:
    """One line a method: `mean (low to high)` for each measure, forward passes, seconds; the best mean is bold.

    With a reference method a second table: each other method's paired difference to it.
    """
    groups = list(dict.fromkeys(zip(summary["measure"], summary["answer"], strict=True)))
    titles = [title(*group) for group in groups]
    methods = list(dict.fromkeys(summary["method"]))
    cells = {(row["method"], row["measure"], row["answer"]): row for _, row in summary.iterrows()}
    best = {
        group: max(
            (x for m in methods if (m, *group) in cells and (x := cells[m, *group]["mean"]) == x),
            default=None,
        )
        for group in groups
    }
    lines = _header(["method", *titles, "passes", "seconds"])
    counts = [max(cells[m, *group]["examples"] for m in methods if (m, *group) in cells) for group in groups]
    lines.append(_line(["examples", *map(str, counts), "", ""]))
    for method in methods:
        rows = [cells.get((method, *group)) for group in groups]
        shown = [_interval(row, "", "") for row in rows]
        strong = [
            f"**{text}**" if row is not None and row["mean"] == best[group] else text
            for text, row, group in zip(shown, rows, groups, strict=True)
        ]
        some = next(row for row in rows if row is not None)
        lines.append(_line([method, *strong, f"{some['passes']:.0f}", f"{some['seconds']:.2f}"]))
    if reference in methods and len(methods) > 1 and "difference_mean" in summary:
        lines += ["", *_header([f"method − {reference}, paired", *titles])]
        for method in (m for m in methods if m != reference):
            rows = [cells.get((method, *group)) for group in groups]
            lines.append(_line([method, *(_interval(row, "difference_", "+") for row in rows)]))
    return "\n".join(lines) + "\n"


def _header(cells: list[str]) -> list[str]:
    return [_line(cells), _line(["---"] * len(cells))]


def _line(cells: Iterable[object]) -> str:
    """A name may hold the table's own sign."""
    return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"


def _interval(row: pd.Series | None, prefix: str, sign: str) -> str:
    if row is None or pd.isna(row[f"{prefix}mean"]):
        return "–"
    mean, low, high = (float(row[f"{prefix}{name}"]) for name in ("mean", "low", "high"))
    if pd.isna(low):
        return f"{mean:{sign}.2f}"
    return f"{mean:{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f})"


def plot(summary: pd.DataFrame, path: str | Path, heading: str = "", measure: str = "lds") -> None:
    """Write a picture (.png, .svg or .pdf): mean and interval of the measure against forward passes, one point a method."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = summary[(summary["measure"] == measure) & summary["mean"].notna()]
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    rows = rows.sort_values("mean").assign(side=0)
    free = (rows["passes"] == 0).to_numpy()
    rows.loc[free, "side"] = (
        np.arange(int(free.sum())) % 2
    )  # many cost nothing: their names stand on both sides
    reach = max(float(rows["mean"].max() - rows["mean"].min()), 0.2) if len(rows) else 1.0
    series = _series(rows["method"])
    counted = {method for members in series.values() for method in members}
    beside = rows[free & ~rows["method"].isin(counted)]
    heights = pd.concat(
        [_apart(part["mean"], LABEL * reach) for _, part in beside.groupby("side")]
        or [pd.Series(dtype=float)]
    )
    numbers = rows[rows["method"].isin(counted) & ~rows["method"].map(_ours)]  # whose numbers stand below
    for number, row in rows.iterrows():
        method = str(row["method"])
        colour = _colour(method)
        spread = (
            [[row["mean"] - row["low"]], [row["high"] - row["mean"]]] if row["low"] == row["low"] else None
        )
        axes.errorbar(row["passes"], row["mean"], yerr=spread, fmt="o", ms=6 if _ours(method) else 4.5, color=colour,
                      elinewidth=1, capsize=2, zorder=3 if _ours(method) else 2)  # fmt: skip
        if method in counted:
            continue
        if row["passes"]:
            near = (numbers["passes"] / row["passes"]).between(0.4, 2.5) & (
                (numbers["low"] - row["low"]).abs() < LABEL * reach
            )
            _under(axes, _short(method), row, 8, colour, apart=13 if near.any() else 3)
            continue
        left = row["side"] == 1
        axes.annotate(_short(method), parse_math=False, xy=(row["passes"], row["mean"]),
                      xytext=(-9 if left else 9, (heights[number] - row["mean"]) / reach * POINTS),
                      textcoords="offset points", va="center", ha="right" if left else "left", fontsize=8, color=colour,
                      arrowprops={"arrowstyle": "-", "lw": 0.4, "color": colour, "shrinkA": 0, "shrinkB": 2})  # fmt: skip
    for name, members in series.items():
        _draw_series(axes, name, rows.set_index("method").loc[members].sort_values("passes"))
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(-8, max(1.0, float(rows["passes"].max(skipna=True)) if len(rows) else 1.0) * 12)
    axes.set_xticks([x for x in (0, 1, 10, 100, 1000) if x <= axes.get_xlim()[1]])
    axes.set_xlabel("forward passes beyond the generation's own")
    axes.set_ylabel(f"{title(measure)}, mean with 95 % interval")
    if heading:
        axes.set_title(heading, fontsize=10, loc="left", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", lw=0.5, alpha=0.4)
    figure.savefig(path, dpi=160)


def _apart(values: pd.Series, gap: float) -> pd.Series:
    """Sorted heights, moved as little as keeps them a gap apart: halfway between pushing all up and pushing all down."""
    up, down = (values.to_numpy(dtype=float).copy() for _ in range(2))
    for i in range(1, len(up)):
        up[i] = max(up[i], up[i - 1] + gap)
        down[-1 - i] = min(down[-1 - i], down[-i] - gap)
    return pd.Series((up + down) / 2, values.index)


def _series(methods: Iterable[object]) -> dict[str, list[str]]:
    """Methods that differ only in how much they ask for, such as context_cite_32 and context_cite_64, by what they share."""
    found: dict[str, list[str]] = {}
    for method in map(str, methods):
        if match := re.fullmatch(r"(.+)_\d+", method):
            found.setdefault(match[1], []).append(method)
    return {name: members for name, members in found.items() if len(members) > 1}


def _draw_series(axes: Axes, name: str, rows: pd.DataFrame) -> None:
    """A line through them, a number at each, and the name once: AT2's before the line and others' behind it."""
    ours, colour = _ours(name), _colour(name)
    axes.plot(rows["passes"], rows["mean"], color=colour, lw=1, zorder=1)
    for method, row in rows.iterrows():
        _under(axes, str(method).rpartition("_")[2], row, 7, colour, over=ours)
    last = rows.iloc[0 if ours else -1]
    axes.annotate(_short(name), parse_math=False, xy=(last["passes"], last["mean"]), xytext=(-7 if ours else 7, 0),
                  textcoords="offset points", va="center", fontsize=8, color=colour,
                  ha="right" if ours else "left")  # fmt: skip


def _under(
    axes: Axes, text: str, row: pd.Series, size: int, colour: str, *, over: bool = False, apart: float = 3
) -> None:
    """A name below a point and its interval, or over them, so many points apart from them."""
    end = row["high" if over else "low"]
    axes.annotate(text, parse_math=False, xy=(row["passes"], end if end == end else row["mean"]), fontsize=size,
                  xytext=(0, apart if over else -apart), textcoords="offset points", ha="center",
                  va="bottom" if over else "top", color=colour)  # fmt: skip


def _ours(method: str) -> bool:
    return method.lower().startswith("at2")


def _colour(method: str) -> str:
    return "#1f5fbf" if _ours(method) else "#6b7280"


def _short(name: str) -> str:
    """Cut in the middle where it is long: estimators of one model differ at the end."""
    name = name.removeprefix("at2 ")
    return name if len(name) <= 30 else f"{name[:10]}…{name[-19:]}"
