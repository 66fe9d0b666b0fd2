"""What an evaluation says: a table in Markdown, and quality against cost as a picture.

`markdown`   methods by measures, means with their intervals, and the cost of each
`plot`       one point a method, quality up, forward passes to the right
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

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
    for number, (_, row) in enumerate(rows.sort_values("mean").iterrows()):
        ours = str(row["method"]).lower().startswith("at2")
        colour = "#1f5fbf" if ours else "#6b7280"
        spread = (
            [[row["mean"] - row["low"]], [row["high"] - row["mean"]]] if row["low"] == row["low"] else None
        )
        axes.errorbar(row["passes"], row["mean"], yerr=spread, fmt="o", ms=6 if ours else 4.5, color=colour,
                      elinewidth=1, capsize=2, zorder=3 if ours else 2)  # fmt: skip
        left = row["passes"] == 0 and number % 2
        axes.annotate(str(row["method"]), parse_math=False, xy= (row["passes"], row["mean"]), xytext=(-7 if left else 7, 0),
                      textcoords="offset points", va="center", ha="right" if left else "left", fontsize=8,
                      color=colour)  # fmt: skip
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=-0.9)
    axes.set_xlabel("forward passes beyond the generation's own")
    axes.set_ylabel(f"{title(measure)}, mean with 95 % interval")
    if heading:
        axes.set_title(heading, fontsize=10, loc="left", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", lw=0.5, alpha=0.4)
    figure.savefig(path, dpi=160)
