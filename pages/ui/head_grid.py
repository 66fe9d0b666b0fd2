"""One value per head as a grid, layers across and heads down, in which a click chooses a head.

The heatmap draws; an invisible scatter above it takes the clicks, since a heatmap's own never reach Python. The
chosen cell's frame is the scatter's selected marker, so the figure stays the same figure while heads are
clicked: a changed one would be a new widget, drawn again from nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from pages.ui.head_state import Head

# Colours that hold on a light and on a dark page alike. Zero is see-through, so the same figure fits both and
# follows a switch of the theme at once.
BLUE, RED, FRAME = (45, 112, 206), (202, 74, 58), "#DB8A24"
FAINT = 0.22  # opacity of faded cells: the colour can still be told


def head_grid(
    values: np.ndarray,
    *,
    quantity: str,
    picks: tuple[Head, ...],
    muted: tuple[Head, ...],
    key: str,
    on_click: Callable[[list[Head]], None],
    labels: list[str] | None = None,
    faint: np.ndarray | None = None,
) -> None:
    """Draw values (layers, heads) with the picks framed; call on_click with the heads that a click leaves framed.

    That is the clicked one, several after shift-clicks, or none when the click took the only frame away.
    quantity: what a cell's number is, in words, for the hover text. labels: that text for every cell, in place of number
    and rank. faint: cells (layers, heads) to fade.
    """
    identity = values.tobytes() + json.dumps([key, values.shape, muted, labels]).encode()
    identity += b"" if faint is None else faint.tobytes()
    figure_id = hashlib.sha1(identity, usedforsecurity=False).hexdigest()[:10]
    # What the drawn chart already frames. It is drawn anew only when something other than itself chose a head.
    drawn = st.session_state.setdefault(f"{key}-drawn", {"id": None, "framed": (), "round": 0})
    if drawn["id"] != figure_id or set(drawn["framed"]) != set(picks):
        figure = head_figure(values, quantity, picks, muted, labels, faint)
        drawn.update(id=figure_id, figure=figure, framed=picks, round=drawn["round"] + 1)
    chart_key = f"{key}-{figure_id}-{drawn['round']}"

    def clicked() -> None:
        points = st.session_state[chart_key].selection.points
        framed = [divmod(p["point_index"], values.shape[1]) for p in points if p.get("curve_number", 1) == 1]
        drawn["framed"] = tuple(framed)
        on_click(framed)

    figure = drawn["figure"]
    st.plotly_chart(
        figure,
        key=chart_key,
        on_select=clicked,
        selection_mode="points",
        width="stretch" if figure.layout.width is None else int(figure.layout.width),
        alt=f"{quantity}, one cell per head, {values.shape[0]} layers across and {values.shape[1]} heads down; "
        "the ranking beside it lists the same numbers",
        # Two quick clicks on neighbouring cells are two choices, not a double click that clears the first.
        config={"modeBarButtons": [["toImage"]], "displaylogo": False, "doubleClickDelay": 1},
    )


def number(value: float, form: str = "+.3g") -> str:
    """A number with a minus sign in place of the hyphen."""
    return format(value, form).replace("-", "−")


def grid_height(heads: int) -> int:
    """px that the grid takes; 9 heads leave room for a pattern below on a screen of 720."""
    return _row_height(heads) * heads + 44


def legend(values: np.ndarray, quantity: str) -> str:
    """The colours in words."""
    blue, red, no_red = {
        "coefficient": (
            "this head's attention counts towards a source",
            "against it",
            "no head counts against a source here",
        ),
        "direct coefficient": (
            "what this head writes counts towards a source",
            "against it",
            "no head counts against a source here",
        ),
        "contribution": ("this head raised the score", "lowered it", "no head lowered it"),
        "direct contribution": (
            "what this head wrote made the response's tokens likelier",
            "less likely",
            "no head made them less likely",
        ),
    }[quantity]
    against = f"red: {red}" if (values < 0).any() else no_red
    return f"Blue: {blue}; {against}. Click a cell to see the head's attention. ✕: muted."


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank of each head by size, 1 is the largest magnitude; (layers, heads). Ties keep reading order."""
    order = np.argsort(-np.abs(values).ravel(), kind="stable")
    rank = np.empty(values.size, int)
    rank[order] = np.arange(1, values.size + 1)
    return rank.reshape(values.shape)


def strongest(values: np.ndarray) -> Head:
    """The head with the largest magnitude."""
    layer, head = divmod(int(np.abs(values).argmax()), values.shape[1])
    return layer, head


def head_figure(
    values: np.ndarray,
    quantity: str,
    first: tuple[Head, ...],
    muted: tuple[Head, ...],
    labels: list[str] | None = None,
    faint: np.ndarray | None = None,
) -> go.Figure:
    """The figure for values (layers, heads), with the heads in `first` framed. Point l * heads + h is head (l, h)."""
    layers, heads = values.shape
    limit = float(np.abs(values).max()) or 1.0
    signed = quantity != "deviation"  # which has no below zero, in the values and in the colours
    low, colours = (-limit, _see_through_at_zero()) if signed else (0.0, _from_zero())
    x, y = (axis.ravel().tolist() for axis in np.mgrid[0:layers, 0:heads])
    rank = ranks(values).ravel()
    labels = labels or [
        f"{number(v)}<br>rank {r} of {rank.size} by size" for v, r in zip(values.ravel(), rank, strict=True)
    ]
    row = _row_height(heads)
    column = 720 / layers
    figure = go.Figure(
        [
            go.Heatmap(
                z=values.T if faint is None else np.where(faint, np.nan, values).T,
                zmin=low,
                zmax=limit,
                colorscale=colours,
                xgap=1,
                ygap=1,
                hoverinfo="skip",
                colorbar={
                    "thickness": 8,
                    "outlinewidth": 0,
                    "len": 1.0,
                    "x": 1.01,
                    "tickvals": sorted({low, 0.0, limit}),
                    "ticktext": [number(tick, ".2g") for tick in sorted({low, 0.0, limit})],
                },
            ),
            go.Scatter(
                x=x,
                y=y,
                mode="markers",
                showlegend=False,
                selectedpoints=[layer * heads + head for layer, head in first],
                marker={
                    "symbol": "square-open",
                    "size": min(row, int(column) + 3) - 4,  # the cell with the line around it
                    "color": FRAME,
                    "line": {"width": 3},
                    "opacity": 0,
                },
                selected={"marker": {"opacity": 1}},
                unselected={"marker": {"opacity": 0}},
                customdata=labels,
                hovertemplate=f"L%{{x}} · H%{{y}}: {quantity} %{{customdata}}<extra></extra>",  # low: it hides what is beside
                hoverlabel={"font": {"size": 11}},
            ),
            # White on strong cells; on faint ones no colour of its own but the theme's text colour, light or dark.
            _crosses([m for m in muted if abs(values[m]) > 0.3 * limit], row, color="white"),
            _crosses([m for m in muted if abs(values[m]) <= 0.3 * limit], row),
        ]
    )
    if faint is not None:
        figure.add_heatmap(
            z=np.where(faint, values, np.nan).T, zmin=low, zmax=limit, colorscale=colours,
            xgap=1, ygap=1, hoverinfo="skip", showscale=False, opacity=FAINT,
        )  # fmt: skip
    ticks = {"showgrid": False, "zeroline": False, "fixedrange": True, "ticks": ""}
    figure.update_xaxes(range=[-0.5, layers - 0.5], dtick=_step(layers), **ticks)
    figure.update_yaxes(range=[heads - 0.5, -0.5], dtick=_step(heads), **ticks)
    corner = {"xref": "paper", "yref": "paper", "showarrow": False, "x": 0, "xanchor": "right", "xshift": -6}
    figure.add_annotation(text="layer", y=0, yanchor="top", yshift=-4, **corner)
    figure.add_annotation(text="head", y=1, yanchor="bottom", **corner)
    figure.update_layout(
        height=grid_height(heads),
        width=None
        if column < 3 * row
        else int(layers * row * 1.6) + 110,  # a 2 x 4 grid is not stretched to bars
        margin={"l": 44, "r": 8, "t": 20, "b": 24},
        dragmode=False,
        hoverdistance=-1,  # anywhere in a cell counts, however large the cell
    )
    return figure


def _row_height(heads: int) -> int:
    return int(np.clip(250 / heads, 11, 40))


def _crosses(muted: list[Head], row: int, **colour: str) -> go.Scatter:
    return go.Scatter(
        x=[layer for layer, _ in muted],
        y=[head for _, head in muted],
        mode="text",
        text=["✕"] * len(muted),
        textfont={"size": min(row, 22) * 0.7, **colour},
        showlegend=False,
        hoverinfo="skip",
    )


def _see_through_at_zero() -> list[tuple[float, str]]:
    """Red, through a breath of grey at zero, to blue. The opacity rises faster than the value, so that the many
    small coefficients stay tellable beside the few large ones; the colour bar shows the same curve."""
    stops = []
    for k in range(-8, 9):
        t = abs(k) / 8
        colour = BLUE if k > 0 else RED if k < 0 else (128, 128, 128)
        stops.append(((k + 8) / 16, f"rgba({colour[0]},{colour[1]},{colour[2]},{0.07 + 0.93 * t**0.7:.3f})"))
    return stops


def _from_zero() -> list[tuple[float, str]]:
    """The blue half of it, for what is never negative."""
    return [(2 * at - 1, colour) for at, colour in _see_through_at_zero() if at >= 0.5]


def _step(count: int) -> int:
    return 1 if count <= 12 else 2 if count <= 24 else 4 if count <= 40 else 8
