"""A finished exploration on the Explore page: the method, both texts with their scores, the files to take home."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from at2_core.errors import At2Error
from at2_core.estimator import Estimator
from at2_core.exploration import Exploration
from at2_core.sources import REACHING
from pages.ui import export, frame, history, model_switch, session
from pages.ui.estimator_choice import Choice, choice
from pages.ui.estimator_scores import told, with_chosen
from pages.ui.estimator_shortfall import shortfall_remark
from pages.ui.model_status import waiting_for_model
from pages.ui.response_scores import own_scores
from pages.ui.saved_view import saved_view
from pages.ui.thoughts import THOUGHT_KEYS, thought_markers, with_markers_of_address
from pages.ui.token_heatmap import ViewState, chosen_now, measure_of, token_heatmap, whole_name
from pages.ui.verify import verify, verify_link

Head = tuple[int, int]  # layer, head
METHODS = {"at2": "AT2", "former": "Former θ", "average": "Average attention", "head": "One head"}
CHOSEN = "Chosen θ"
METHOD_HELP = (
    "AT2 weighs the attention of every head by a coefficient that was learned from ablations; Chosen θ and Former θ do so "
    "with the coefficients that you chose, and with those used before. Average attention weighs all heads alike. One head "
    "shows the attention of a single one."
)
VIEW_KEYS = ("scope", "granularity", "unit", "signed", "intensity", "threshold", "template", "pin", "source")
KEYS = ("method", "layer", "head", *VIEW_KEYS)
NONE = "none"  # in the address: not what the example opens with, but nothing
USUAL = ViewState()
# What another text is looked at with, too.
SETTINGS = (*(key for key in KEYS if key not in ("pin", "source")), *THOUGHT_KEYS)


@st.fragment
def attribution_view(exploration: Exploration, note: str, opening: ViewState = USUAL) -> None:
    """Everything about one exploration. A switch or a pin runs this fragment again, and nothing else.

    opening: what is shown where the address says nothing else.
    """
    usual, exploration = exploration.markers, with_markers_of_address(exploration)
    wished, chosen = _from_address(exploration), choice()
    above = st.container()  # where the chosen estimator says why it is not used
    with above:
        made, exploration = exploration, with_chosen(exploration, chosen)
        if exploration is not made:
            with st.container(key="quiet-estimator"):
                st.text(told(chosen))
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="quiet-method"):
        st.text(note, width="stretch")
        pending = chosen.chosen is not None and exploration is made  # its methods cannot be offered yet
        method = _method(exploration, wished, pending, chosen.chosen is not None and not pending)
        head_row = st.container(horizontal=True, gap="xsmall", width="content") if method == "head" else None
        verify_link()
        thought_markers(exploration, usual)
        files = st.container(width="content")
    model_switch.offer(exploration, "explore")
    shortfall = session.engine().shortfall
    if "at2" not in exploration.scores and shortfall and session.is_of(exploration):
        shortfall_remark(shortfall, "no-estimator")
    head, scores, own, measure = None, None, None, "attention"
    if head_row:
        head, scores, own = _one_head(exploration, wished, head_row, chosen.chosen)
    initial = ViewState.read(
        asdict(opening) | wished,
        response_tokens=len(exploration.response_ids),
        prompt_tokens=len(exploration.prompt.ids),
        thought=exploration.has_thought,
    )
    if scores is None:
        drawn = method if method in exploration.scores else "average"
        measure = measure_of(drawn)
        scores, own = exploration.scores[drawn], exploration.own_scores.get(drawn)
        if own is None and chosen_now(exploration, initial, history.key("explore")).scope in REACHING:
            with above:
                own = own_scores(exploration, drawn, chosen.chosen)
    view = token_heatmap(
        exploration,
        scores=scores,
        own=own,
        measure=measure,
        initial=initial,
        key=history.key("explore"),
        on_change=lambda: None,
    )
    named = None if method == next(iter(exploration.scores)) else method
    if pending:
        named = wished.get("method") if method == _first(exploration, wished) else method
    _to_address(exploration, named, head, view, opening)
    with files, st.popover("Save", icon=":material/download:"):
        if head_row and measure != "attention":  # average attention stands in while the head cannot be read
            method, head = "average", None
        _downloads(_by(exploration, method, chosen), scores, own, view, method, head)
    verify(_by(exploration, method, chosen), scores, view, method, head, own)


def _by(exploration: Exploration, method: str, chosen: Choice) -> Exploration:
    """The exploration with the name of the estimator that the method's scores come from."""
    if method != "former" or chosen.former is None:
        return exploration
    former = chosen.former
    return replace(exploration, estimator=former.name, estimator_fingerprint=former.fingerprint)


def _offered(exploration: Exploration) -> list[str]:
    return [m for m in METHODS if m in exploration.scores or m == "head"]


def _first(exploration: Exploration, wished: dict[str, Any]) -> str:
    """The method that is shown before another one is picked."""
    offered = _offered(exploration)
    return wished["method"] if wished.get("method") in offered else offered[0]


def _method(exploration: Exploration, wished: dict[str, Any], pending: bool, own_choice: bool) -> str:
    """The method that is picked. pending: another control, whose value does not outlast what is shown meanwhile. own_choice:
    whether "at2" is by a θ that the person chose, which is not what other pages call AT2."""
    offered = _offered(exploration)
    key = history.key(f"method-{exploration.id}{'-pending' if pending else ''}")
    if st.session_state.get(key) not in offered:
        st.session_state[key] = _first(exploration, wished)
    return st.segmented_control(
        "Method",
        offered,
        format_func=(METHODS | {"at2": CHOSEN} if own_choice else METHODS).__getitem__,
        key=key,
        required=True,
        help=METHOD_HELP,
        label_visibility="collapsed",
    )


def _one_head(
    exploration: Exploration, wished: dict[str, Any], row: DeltaGenerator, chosen: Estimator | None
) -> tuple[Head | None, np.ndarray | None, np.ndarray | None]:
    """The chosen head and its attention to the prompt float32 (T, n) and to the response (T, T), or None while that cannot
    be read."""
    engine = session.engine()
    asked = (wished["layer"], wished["head"]) if {"layer", "head"} <= set(wished) else None
    if engine.status != "ready":
        waiting_for_model(engine, "One head needs the model; average attention is shown meanwhile.", "head")
        return asked, None, None
    try:
        lm = session.model_of(exploration)
    except At2Error as error:
        frame.complain(f"{error} Average attention is shown meanwhile.", "head")
        return asked, None, None
    first = asked or _strongest(chosen or engine.estimator)
    with row:
        head = tuple(
            st.selectbox(
                name,
                range(count),
                index=min(wish, count - 1),
                format_func=lambda i, name=name: f"{name} {i}",
                key=history.key(f"one-{name}"),
                label_visibility="collapsed",
                width=112,
            )
            for name, count, wish in zip(("Layer", "Head"), (lm.num_layers, lm.num_heads), first, strict=True)
        )
    try:
        return head, *_attention(exploration.id, head, exploration)
    except At2Error as error:
        frame.complain(str(error), "head")
        return head, None, None


def _strongest(estimator: Estimator | None) -> Head:
    """The head with the largest coefficient: a better first look than layer 0, head 0."""
    if estimator is None:
        return (0, 0)
    layer, head = np.unravel_index(np.abs(estimator.theta).argmax(), estimator.theta.shape)
    return int(layer), int(head)


@st.cache_resource(max_entries=8, show_spinner="Reading the attention…")
def _attention(exploration_id: str, head: Head, _exploration: Exploration) -> tuple[np.ndarray, np.ndarray]:
    from at2_core.attribution import whole_head_attention

    generation = session.generation_of(_exploration)
    whole, n = whole_head_attention(session.model_of(_exploration), generation, *head), _exploration.prompt.n
    return np.ascontiguousarray(whole[:, :n]), np.ascontiguousarray(whole[:, n:])


def _downloads(
    exploration: Exploration,
    scores: np.ndarray,
    own: np.ndarray | None,
    view: ViewState,
    method: str,
    head: Head | None,
) -> None:
    target = "the pinned span" if view.pin else whole_name(exploration)
    st.text(f"Scores of {view.granularity} sources for {target}.")
    st.download_button(
        "This view (HTML)",
        data=lambda: saved_view(exploration, scores, view, method, METHODS[method], head, own).encode(),
        file_name=f"view-{exploration.id}.html",
        mime="text/html",
        on_click="ignore",
        help="Opens in any browser, offline; pointing and pinning work there as here.",
        width="stretch",
    )
    st.download_button(
        "Ranked sources (CSV)",
        data=lambda: export.ranked_table(exploration, scores, view, method, head, own).encode(),
        file_name=f"sources-{exploration.id}.csv",
        mime="text/csv",
        on_click="ignore",
        width="stretch",
    )
    st.download_button(
        "Everything (JSON)",
        data=lambda: export.everything(exploration, scores, view, method, head, own).encode(),
        file_name=f"attribution-{exploration.id}.json",
        mime="application/json",
        on_click="ignore",
        width="stretch",
    )


# ------------------------------------------------------------------------------------------------- the address


def _from_address(exploration: Exploration) -> dict[str, Any]:
    """What the address asks for, as far as it makes sense; after a visit to another page, what was there before."""
    asked = {key: st.query_params[key] for key in KEYS if key in st.query_params}
    kept = st.session_state.get("explore-kept")
    if not asked and kept and kept[0] == exploration.id:
        asked = kept[1]
    return {key: value for key, text in asked.items() if (value := _read(key, text)) is not None}


def _read(key: str, text: str) -> Any:
    try:
        if key in ("pin", "source"):
            if text == NONE:
                return text
            first, _, last = text.partition("-")
            return int(first), int(last or first)
        if key in ("intensity", "threshold"):
            return float(text)
        if key in ("layer", "head"):
            return max(0, int(text))
    except ValueError:
        return None
    return text == "1" if key in ("signed", "template") else text


def _to_address(
    exploration: Exploration, method: str | None, head: Head | None, view: ViewState, opening: ViewState
) -> None:
    """Make the address say what is shown; what is as it would be anyway is left out, and so is a method None."""
    params: dict[str, str] = {}
    if method is not None:
        params["method"] = method
    if head is not None:
        params |= {"layer": str(head[0]), "head": str(head[1])}
    usual, now = asdict(opening), asdict(view)
    params |= {key: _write(now[key]) for key in VIEW_KEYS if now[key] != usual[key]}
    st.session_state["explore-kept"] = (exploration.id, params)
    others = {key: value for key, value in st.query_params.items() if key not in KEYS}
    if {**others, **params} != dict(st.query_params.items()):
        st.query_params.from_dict({**others, **params})


def _write(value: Any) -> str:
    if isinstance(value, bool):
        return "1"
    if value is None:
        return NONE
    if isinstance(value, tuple):
        return f"{value[0]}-{value[1]}"
    return f"{value:g}" if isinstance(value, float) else str(value)
