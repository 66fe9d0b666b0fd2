"""The upper half of the Heads page: all heads as a grid and as a ranking. What a click changes goes to the address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from at2_core import exploration as explorations
from at2_core.card import plain
from at2_core.errors import At2Error
from pages.ui import frame, model_switch, session
from pages.ui import head_reading as reading
from pages.ui.example_picker import OWN
from pages.ui.head_address import SOURCES, Address
from pages.ui.head_grid import grid_height, head_grid, legend, number
from pages.ui.head_page import Page, busy, quiet, waiting
from pages.ui.head_ranking import head_ranking
from pages.ui.head_state import GRIDS
from pages.ui.head_uncertainty import cell_labels, legend_of_deviation, unsure

if TYPE_CHECKING:
    from at2_core.models import LanguageModel

GRID_NAMES = {
    "coefficients": "Coefficients θ",
    "direct": "Coefficients δ",
    "contribution": "Contribution to a span",
    "written": "What heads wrote",
}
QUANTITIES = {
    "coefficients": "coefficient",
    "direct": "direct coefficient",
    "contribution": "contribution",
    "written": "direct contribution",
}
ASKING = ("contribution", "written")  # grids that read the example with the model
GRID_HELP = (
    "θ weighs a head's attention. Contribution to a span is what it added to the score of the span that is chosen beside it. "
    "What heads wrote needs no coefficients: how much likelier the head made the span's tokens by what it took from the "
    "sources and wrote to the output, in nats, without what later layers make of it. δ weighs that, where an estimator has "
    "learned it."
)
SELECT = 215  # px: five controls in one row of 1280
WHOLE, ALL = "whole", "all"  # a choice that is None has no label of its own in a select box


def grid_controls(page: Page) -> None:
    """Which example, which numbers the grid shows, for which span of the response and which source."""
    exploration, state, address = page.exploration, page.state, page.address
    spans: list[reading.Span | str] = [WHOLE, *reading.sentence_spans(exploration)]
    if state.pin and state.pin not in spans:
        spans.append(state.pin)
    sources = [ALL, *range(len(exploration.sources[SOURCES]))]
    st.session_state["heads-grid"] = grid_shown(page)
    st.session_state["heads-pin"] = state.pin or WHOLE
    st.session_state["heads-source"] = ALL if state.source is None else state.source

    def changed(field: str, none: str = ""):
        def write() -> None:
            value = st.session_state[f"heads-{field}"]
            address.change(**{field: None if value == none else value})

        return write

    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="row-grid"):
        st.markdown("#### Which heads count", width="content")
        example_picker(address)
        st.segmented_control(
            "What the grid shows",
            [grid for grid in GRIDS if grid != "direct" or page.estimator.direct is not None],
            key="heads-grid",
            format_func=GRID_NAMES.__getitem__,
            required=True,
            help=GRID_HELP,
            label_visibility="collapsed",
            on_change=changed("grid"),
        )
        st.selectbox(
            "Span of the response",
            spans,
            key="heads-pin",
            format_func=lambda span: capital(reading.span_name(exploration, None if span == WHOLE else span)),
            label_visibility="collapsed",
            on_change=changed("pin", WHOLE),
            width=SELECT,
        )
        if grid_shown(page) in ASKING:
            st.selectbox(
                "Source",
                sources,
                key="heads-source",
                format_func=lambda source: capital(
                    reading.source_name(exploration, None if source == ALL else source)
                ),
                label_visibility="collapsed",
                on_change=changed("source", ALL),
                width=SELECT,
            )


def example_picker(address: Address) -> None:
    """The gallery, and the person's own text where there is one; its value is what the page shows, whatever the
    address asks for."""
    titles = {example: title for example, title, _ in explorations.gallery()}
    kind, shown = st.session_state["shown"]
    run = shown if kind == "run" else st.session_state.get("own_run")
    own = session.runs().get(run)
    finished = own is not None and own.exploration is not None
    offered = [OWN, *titles] if kind == "run" or finished else list(titles)
    st.session_state["heads-example"] = OWN if kind == "run" else shown

    def chosen() -> None:
        example = st.session_state["heads-example"]
        address.look_at(*(("run", run) if example == OWN else ("example", example)))

    st.selectbox(
        "Example",
        offered,
        key="heads-example",
        format_func=lambda example: titles.get(example, "Your own text"),
        label_visibility="collapsed",
        on_change=chosen,
        width=SELECT,
    )


def grid_shown(page: Page) -> str:
    """The grid that is asked for, where the estimator has it."""
    grid = page.state.grid
    return GRIDS[0] if grid == "direct" and page.estimator.direct is None else grid


def grid_and_ranking(page: Page) -> None:
    """theta, or what each head contributed; the grid with the ranking beside it."""
    state, address, shown = page.state, page.address, grid_shown(page)
    asking, quantity = shown in ASKING, QUANTITIES[shown]
    if asking and page.engine.status != "ready":
        waiting(page.engine, "contribution")
        return
    if asking and model_switch.offer(
        page.exploration, "contribution", "Contributions ask the model that made it."
    ):
        return
    if asking and busy(page, "contribution"):
        return
    estimator, spread = page.estimator, page.estimator.deviation if shown == GRIDS[0] else None
    of_deviation = spread is not None and state.deviation
    faint = unsure(estimator) if spread is not None and state.fade else None
    ranked = estimator.direct if shown == "direct" and estimator.direct is not None else estimator.theta
    if asking:
        try:
            with st.spinner("Reading the example with the model…"):
                ranked = _read(page, shown)
        except At2Error as error:  # another model made the example, or what its heads write cannot be told
            frame.complain(str(error), "heads-contribution")
            return
    values = spread if spread is not None and of_deviation else ranked
    left, right = st.columns([13, 7], gap="medium")
    with left:
        head_grid(
            values,
            quantity="deviation" if of_deviation else quantity,
            picks=state.picks,
            muted=state.mute,
            key=f"heads-{shown}",
            on_click=address.choose,
            labels=cell_labels(estimator, of_deviation) if shown == GRIDS[0] else None,
            faint=None if of_deviation else faint,
        )
    with right:
        head_ranking(
            ranked,
            quantity=quantity,
            picks=state.picks,
            muted=state.mute,
            height=max(grid_height(ranked.shape[1]), 230),
            key=f"heads-ranking-{shown}",
            on_pick=lambda head: address.choose([head]),
            on_compare=address.compare,
            on_mute=address.mute,
            deviation=spread,
            faint=faint,
        )
    in_words = legend_of_deviation(estimator) if of_deviation else legend(values, quantity)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        numbered = layers_in_words(session.engine().lm, page.exploration.model)
        by_theta = shown != "written"  # which has no coefficient in it
        theta = f" θ: {plain(estimator.name, 80)}." if by_theta else ""
        quiet(f"{in_words}{theta}{numbered}", "legend")
        if spread is not None:
            uncertainty_switches(page)
    if asking:
        _say_sum(page, shown, float(values.sum()))


def _read(page: Page, shown: str) -> np.ndarray:
    """(layers, heads): what each head contributed, or wrote. Raises At2Error."""
    exploration, state = page.exploration, page.state
    lm = session.model_of(exploration)
    if shown == "written":
        return reading.written(exploration, lm, state.pin, state.source)
    return reading.contribution(exploration, lm, page.estimator, state.pin, state.source)


def _say_sum(page: Page, shown: str, total: float) -> None:
    of = reading.span_name(page.exploration, page.state.pin)
    to = reading.source_name(page.exploration, page.state.source)
    said = f"the contributions of all heads add up to the score {number(total, '.4f')}."
    if shown == "written":
        said = f"together the heads wrote {number(total, '+.2f')} nats a token; what later layers make of it is not counted."
    quiet(f"For {of}, {to}: {said}", "sum")


def uncertainty_switches(page: Page) -> None:
    """Whether the grid shows how sure the coefficients are, and whether it fades those that are not."""
    state, address = page.state, page.address
    st.session_state["heads-deviation"], st.session_state["heads-fade"] = state.deviation, state.fade
    st.toggle(
        "Show ± deviation",
        key="heads-deviation",
        on_change=lambda: address.change(deviation=st.session_state["heads-deviation"]),
        help="Standard deviation of each coefficient over bootstrap resamples of the examples it was learned from",
    )
    st.toggle(
        "Fade unsure heads",
        key="heads-fade",
        on_change=lambda: address.change(fade=st.session_state["heads-fade"]),
        help="Fades heads whose |θ| is below two deviations: other examples might have given them the other sign",
    )


def layers_in_words(lm: LanguageModel | None, model: str) -> str:
    """Which of the model's layers the grid shows, where some have no heads; "" where all have, or as long as nobody knows."""
    if lm is None or lm.name != model or lm.layer_numbers == tuple(range(len(lm.layer_numbers))):
        return ""
    numbers = ", ".join(map(str, lm.layer_numbers))
    return f" Only layers with heads are shown: 0 to {len(lm.layer_numbers) - 1} are the model's layers {numbers}."


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]
