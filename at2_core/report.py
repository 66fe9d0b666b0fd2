"""What an evaluation says: a table in Markdown, and quality against cost as a picture.

`markdown`   methods by measures, means with their intervals, and the cost of each
`plot`       one point a method, quality up, forward passes to the right
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

TITLES = {"lds": "LDS", "mrr": "MRR"}
UNIT = {"drop": "nats"}


def title(measure: str, answer: str = "") -> str:
    """A measure's name in words."""
    kind, _, k = measure.rpartition("_")
    words = TITLES.get(measure) or (f"top-{k} drop" if kind == "drop" else f"{kind}@{k}")
    return {"": words, "supported": f"{words}, true answer", "other": f"{words}, other answer"}[answer]


def markdown(summary: pd.DataFrame) -> str:
    """One line a method: `mean (low to high)` for each measure, forward passes, seconds. The best mean is bold."""
    groups = list(dict.fromkeys(zip(summary["measure"], summary["answer"], strict=True)))
    best = {
        group: summary[(summary["measure"] == group[0]) & (summary["answer"] == group[1])]["mean"].max()
        for group in groups
    }
    head = ["method", *(title(*group) for group in groups), "passes", "seconds"]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " --- |" * (len(head) - 1)]
    counts: list[str] = ["examples"]
    for group in groups:
        part = summary[(summary["measure"] == group[0]) & (summary["answer"] == group[1])]
        counts.append(f"{part['examples'].max()}")
    lines.append("| " + " | ".join([*counts, "", ""]) + " |")
    for method, rows in summary.groupby("method", sort=False):
        cells = [str(method)]
        for group in groups:
            own = rows[(rows["measure"] == group[0]) & (rows["answer"] == group[1])]
            if not len(own) or pd.isna(own["mean"].iloc[0]):
                cells.append("–")
                continue
            mean, low, high = (float(own[name].iloc[0]) for name in ("mean", "low", "high"))
            shown = f"{mean:.2f} ({low:.2f} to {high:.2f})"
            cells.append(f"**{shown}**" if mean == best[group] else shown)
        cells += [f"{rows['passes'].iloc[0]:.0f}", f"{rows['seconds'].iloc[0]:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


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
        spread = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]]
        axes.errorbar(row["passes"], row["mean"], yerr=spread, fmt="o", ms=6 if ours else 4.5, color=colour,
                      elinewidth=1, capsize=2, zorder=3 if ours else 2)  # fmt: skip
        left = row["passes"] == 0 and number % 2
        axes.annotate(str(row["method"]), (row["passes"], row["mean"]), xytext=(-7 if left else 7, 0),
                      textcoords="offset points", va="center", ha="right" if left else "left", fontsize=8,
                      color=colour)  # fmt: skip
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=-0.9)
    axes.set_xlabel("forward passes beyond the generation's own")
    axes.set_ylabel(f"{title(measure)}, mean with 95 % interval")
    if heading:
        axes.set_title(heading, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", lw=0.5, alpha=0.4)
    figure.savefig(path, dpi=160)
