"""How a thought is told from the answer: by the model's own markers, or by a pair that a person gives.

The pair is part of the address. What it cuts is cut again at once; the model is not asked.
"""

from __future__ import annotations

import streamlit as st

from at2_core.errors import At2Error
from at2_core.exploration import Exploration, with_markers
from at2_core.thoughts import LONGEST_MARKER, USUAL, Markers, check_markers
from pages.ui import frame

THOUGHT_KEYS = ("opens", "closes")  # in the address
LABELS = ("A thought opens with", "and closes with")
HELP = "What a response says between two markers is shown as its thought, beside the answer, and can be attributed to."


def with_markers_of_address(exploration: Exploration) -> Exploration:
    """The exploration cut by the markers that were given, or as it is."""
    given = _given(exploration)
    if given is None or given == (exploration.markers or USUAL):
        return exploration
    try:
        return _cut(exploration.id, given, exploration)
    except At2Error:
        return exploration  # the panel says why


def thought_markers(exploration: Exploration, made_with: Markers | None) -> None:
    """The button and its panel: the two markers, and what they find in this response.

    made_with: the markers that it was cut by when it was made.
    """
    usual, given = made_with or USUAL, _given(exploration)
    with st.popover("Thoughts", icon=":material/psychology:"):
        st.caption(
            HELP, width=336
        )  # not as a tooltip, which would lie on the response while the panel is open
        # By `value`, not by the session: a panel that is closed draws nothing, and would miss what is only said once.
        for key, label, value in zip(THOUGHT_KEYS, LABELS, given or usual, strict=True):
            st.text_input(
                label, value, key=_key(exploration, key), max_chars=LONGEST_MARKER,
                on_change=_take, args=(exploration, usual),
            )  # fmt: skip
        complaint = _complaint(given)
        if complaint:
            frame.complain(complaint, "markers")
        else:
            frame.remark(_found(exploration), "markers")
        st.button("Use the usual markers", key="markers-usual", on_click=_forget, disabled=given is None)


def _given(exploration: Exploration) -> Markers | None:
    """The pair in the address, or what this session gave for this response before a visit elsewhere."""
    if any(key in st.query_params for key in THOUGHT_KEYS):
        opens, closes = (st.query_params.get(key, "")[:LONGEST_MARKER] for key in THOUGHT_KEYS)
        st.session_state["markers-kept"] = (exploration.id, (opens, closes))
        return opens, closes
    kept = st.session_state.get("markers-kept")
    if not kept or kept[0] != exploration.id:
        return None
    st.query_params.update(dict(zip(THOUGHT_KEYS, kept[1], strict=True)))
    return kept[1]


def _take(exploration: Exploration, usual: Markers) -> None:
    opens, closes = (str(st.session_state[_key(exploration, key)] or "") for key in THOUGHT_KEYS)
    if (opens, closes) == usual:
        _drop()
        return
    st.session_state["markers-kept"] = (exploration.id, (opens, closes))
    st.query_params.update(dict(zip(THOUGHT_KEYS, (opens, closes), strict=True)))


def _forget() -> None:
    _drop()
    # Boxes that know nothing of what was typed.
    st.session_state["markers-round"] = st.session_state.get("markers-round", 0) + 1


def _drop() -> None:
    st.session_state.pop("markers-kept", None)
    for key in THOUGHT_KEYS:
        if key in st.query_params:
            del st.query_params[key]


def _key(exploration: Exploration, key: str) -> str:
    return f"marker-{key}-{exploration.id}-{st.session_state.get('markers-round', 0)}"


def _complaint(markers: Markers | None) -> str:
    try:
        check_markers(markers or USUAL)
    except At2Error as error:
        return str(error)
    return ""


def _found(exploration: Exploration) -> str:
    thoughts = [s for s in exploration.all_sources.get("document", ()) if s.role == "thought"]
    if not thoughts:
        return "This response has no thought between these."
    tokens = sum(s.token_end - s.token_start for s in thoughts)
    cut = "; it was cut off before it closed" if any(s.cut_off for s in exploration.segments) else ""
    return f"This response thinks for {tokens:,} token{'s' if tokens > 1 else ''}{cut}."


@st.cache_resource(max_entries=8, show_spinner=False)
def _cut(exploration_id: str, markers: Markers, _exploration: Exploration) -> Exploration:
    return with_markers(_exploration, markers)
