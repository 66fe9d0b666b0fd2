"""The heads in order of size, with bars: the grid's numbers as a list one can read, click and walk by keyboard."""

from __future__ import annotations

import hashlib

import numpy as np
import streamlit as st

from pages.ui.component import asset, script
from pages.ui.head_state import Head, head_or_none

_mount = st.components.v2.component(
    "at2_head_ranking",
    css=asset("head_ranking.css"),
    js=script("mount", "head_ranking"),
)


def head_ranking(
    values: np.ndarray,
    *,
    quantity: str,
    picks: tuple[Head, ...],
    muted: tuple[Head, ...],
    height: int,
    key: str,
    on_pick,
    on_compare,
    on_mute,
    deviation: np.ndarray | None = None,
    faint: np.ndarray | None = None,
) -> None:
    """Draw values (layers, heads) largest magnitude first; each callback gets the head of the row that was used.

    deviation (layers, heads): drawn as whiskers and written behind a ±. faint (layers, heads): rows to fade.
    """
    order = np.argsort(-np.abs(values).ravel(), kind="stable")
    component_key = f"{key}-{hashlib.sha1(values.tobytes()).hexdigest()[:10]}"

    def call(event: str, callback):
        def handler() -> None:
            head = head_or_none(st.session_state[component_key].get(event), values.shape)
            if head:
                callback(head)

        return handler

    _mount(
        key=component_key,
        data={
            "quantity": quantity,
            "heads": values.shape[1],
            "order": order.tolist(),
            "values": values.ravel()[order].tolist(),
            "deviations": None if deviation is None else deviation.ravel()[order].tolist(),
            "faint": None if faint is None else faint.ravel()[order].tolist(),
            "picks": [list(head) for head in picks],
            "muted": [list(head) for head in muted],
            "height": height,
        },
        on_pick_change=call("pick", on_pick),
        on_compare_change=call("compare", on_compare),
        on_mute_change=call("mute", on_mute),
    )
