"""The lower half of the Heads page: the chosen heads' attention on the example, and the attribution without some."""

from __future__ import annotations

import numpy as np
import streamlit as st

from at2_core.errors import At2Error
from pages.ui import frame, model_switch, session
from pages.ui import head_reading as reading
from pages.ui.head_address import SOURCES
from pages.ui.head_grid import number
from pages.ui.head_mute import change, source_scores
from pages.ui.head_page import Page, busy, note, quiet, short_name, title, waiting
from pages.ui.head_pattern import Pattern, head_matrix
from pages.ui.head_state import VIEWS, Head
from pages.ui.token_heatmap import ViewState, token_heatmap

VIEW_NAMES = {"matrix": "Matrix", "text": "On the text", "without": "Without muted heads"}


def pattern_controls(page: Page) -> None:
    """Which heads are looked at, in which way, and which are muted."""
    state, address = page.state, page.address
    views = VIEWS if state.mute else VIEWS[:-1]
    st.session_state["heads-view"] = state.view if state.view in views else VIEWS[0]
    st.session_state["heads-comparing"] = address.comparing(state)
    one = len(state.picks) == 1
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="row-pattern"):
        st.markdown(f"#### {title(state.head)}" if one else f"#### {len(state.picks)} heads", width="content")
        st.segmented_control(
            "How to show attention",
            views,
            key="heads-view",
            format_func=VIEW_NAMES.__getitem__,
            required=True,
            label_visibility="collapsed",
            on_change=lambda: address.change(view=st.session_state["heads-view"]),
        )
        st.toggle(
            "Compare",
            key="heads-comparing",
            on_change=lambda: address.set_comparing(st.session_state["heads-comparing"]),
            help="Clicks put heads side by side, up to four; a second click takes one away",
        )
        for head in state.picks:
            verb = "Unmute" if head in state.mute else "Mute"
            st.button(
                f"{verb} {short_name(head)}",
                key=f"heads-mute-{head[0]}-{head[1]}",
                on_click=address.mute,
                args=(head,),
                help="Attribution without this head: its coefficient set to zero",
            )
        if state.mute:
            many = f"all {len(state.mute)}" if len(state.mute) > 1 else short_name(state.mute[0])
            if len(state.mute) > 1 or state.mute[0] not in state.picks:
                st.button(f"Unmute {many}", key="heads-unmute", on_click=lambda: address.change(mute=()))
        if one:
            st.text(f"{note(page, state.head)}", width="content")


def patterns(page: Page) -> None:
    """The chosen heads' attention on the example, and what muting changes."""
    # Two places that are always there: what follows keeps its own, and with it the browser keeps the canvas.
    said, shown = st.container(), st.container()
    if page.engine.status != "ready":
        with said:
            waiting(page.engine, "attention")
        return
    with said:
        if model_switch.offer(
            page.exploration, "heads", "Its attention is read with the model that made it."
        ):
            return
        if busy(page, "attention"):
            return
    try:
        with said, st.spinner("Reading the example with the model…"):
            session.generation_of(page.exploration)
            found = [(head, attention(page, head)) for head in page.state.picks]
        if page.state.mute:
            with said:
                muted_line(page)
        with shown:
            draw_patterns(page, found)
    except At2Error as error:
        with said:
            frame.complain(str(error), "heads-attention")


def draw_patterns(page: Page, found: list[tuple[Head, np.ndarray]]) -> None:
    if page.state.view == "without" and page.state.mute:
        without(page)
    elif page.state.view == "text":
        on_text(page, found)
    else:
        head_matrix(
            page.exploration,
            [
                Pattern(f"{head[0]}.{head[1]}", title(head), note(page, head), weights)
                for head, weights in found
            ],
            sink=page.state.sink,
            pin=page.state.pin,
            key="heads-matrix",
            on_sink=lambda sink: page.address.change(sink=sink),
            on_pin=lambda pin: page.address.change(pin=pin),
        )


def on_text(page: Page, found: list[tuple[Head, np.ndarray]]) -> None:
    """Each head's attention as an overlay on prompt and response."""
    columns = st.columns(2) * 2 if len(found) > 1 else [st.container()]
    for k, (head, weights) in enumerate(found):
        with columns[k]:
            if len(found) > 1:  # one head has this line above already
                quiet(f"{title(head)}: {note(page, head)}", f"text-{k}")
            if not page.state.sink:
                quiet(sink_in_words(weights), f"text-sink-{k}")
            overlay(page, weights, "attention", f"heads-text-{k}")


def sink_in_words(weights: np.ndarray) -> str:
    """What the colours of a text leave out: by their own strongest, they are as deep where nearly nothing is left. (T, n)."""
    first = f"{100 * weights[:, 0].mean():.0f} %"
    return (
        f"The first token takes {first} of this head's attention and is left out: the colours, and their percentages, are of "
        "the rest."
    )


def without(page: Page) -> None:
    """The attribution as it is, and beside it without the muted heads."""
    for column, name, muted in zip(
        st.columns(2),
        ("All heads", f"Without {muted_names(page.state.mute)}"),
        ((), page.state.mute),
        strict=True,
    ):
        with column:
            quiet(name, f"without-{len(muted)}")
            overlay(
                page,
                scores_without(page, muted),
                "attribution",
                f"heads-without-{'muted' if muted else 'all'}",
            )


def overlay(page: Page, scores: np.ndarray, measure: str, key: str) -> None:
    """The text overlay, and what is pinned in it to the address. As with the matrix, it hears only of what was
    chosen elsewhere: then it is another mount, which begins with that. So does one that was gone in between."""
    exploration, state, address = page.exploration, page.state, page.address
    wished = {"pin": state.pin, "sink": state.sink}
    given = st.session_state.setdefault(f"{key}-given", {"told": wished, "began": wished, "round": 0})
    if given["told"] != wished:
        given.update(told=wished, began=wished, round=given["round"] + 1)
    mount = f"{key}-{given['round']}"
    if f"{mount}-{exploration.id}" not in st.session_state:
        given["began"] = wished

    def chosen() -> None:
        sent = st.session_state[f"{mount}-{exploration.id}"].get("view")
        view = ViewState.read(
            sent, response_tokens=len(exploration.response_ids), prompt_tokens=exploration.prompt.n
        )
        given["told"] = {"pin": view.pin, "sink": view.sink}
        address.change(**given["told"])

    token_heatmap(
        exploration,
        scores=scores,
        measure=measure,
        compact=True,
        initial=ViewState(unit="token", **given["began"]),
        key=mount,
        on_change=chosen,
    )


def attention(page: Page, head: Head) -> np.ndarray:
    return reading.attention(page.exploration.id, head, page.exploration, session.model_of(page.exploration))


def scores_without(page: Page, muted: tuple[Head, ...]) -> np.ndarray:
    return reading.scores_without(
        page.exploration.id,
        page.estimator.fingerprint,
        muted,
        page.exploration,
        session.model_of(page.exploration),
        page.estimator,
    )


def muted_names(muted: tuple[Head, ...]) -> str:
    more = f" and {len(muted) - 6} more" if len(muted) > 6 else ""
    return ", ".join(map(short_name, muted[:6])) + more


def muted_line(page: Page) -> None:
    """What muting changes for the pinned span, in one sentence."""
    exploration, state = page.exploration, page.state
    sources = exploration.sources[SOURCES]
    before, after = (
        source_scores(scores_without(page, muted), sources, exploration.rows(state.pin))
        for muted in ((), state.mute)
    )
    changed = change(before, after)
    if changed is None:
        return
    top = reading.source_name(exploration, changed.top_before)
    if changed.top_before == changed.top_after:
        said = f"the top source stays {top}"
    else:
        said = f"the top source changes from {top} to {reading.source_name(exploration, changed.top_after)}"
    if changed.correlation is not None:
        said += f" · rank correlation of the {len(sources)} sources, before and after: {number(changed.correlation, '.2f')}"
    span = reading.span_name(exploration, state.pin, 24)
    quiet(f"Without {muted_names(state.mute)}, for {span}: {said}", "muted")
