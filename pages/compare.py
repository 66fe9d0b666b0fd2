"""The Compare page: two to four methods side by side on the example that Explore looks at."""

from __future__ import annotations

from pages.ui import frame

frame.require()

import streamlit as st  # noqa: E402 (the frame's guard comes first)

from at2_core import exploration as explorations  # noqa: E402
from at2_core.errors import ExplorationFileError  # noqa: E402
from pages.ui import session  # noqa: E402
from pages.ui.compare_page import compare  # noqa: E402
from pages.ui.compare_state import SETTINGS  # noqa: E402
from pages.ui.estimator_choice import choice  # noqa: E402
from pages.ui.model_status import model_status  # noqa: E402
from pages.ui.run_progress import run_progress  # noqa: E402

OWN = "your own text"


def picker(kind: str, name: str) -> None:
    """The gallery, and one's own text where there is one."""
    titles = {example: title for example, title, _ in explorations.gallery()}
    run = session.own_run()
    own = [OWN] if kind == "run" or (run is not None and run.exploration) else []
    chosen = OWN if kind == "run" else name if name in titles else next(iter(titles), OWN)
    if st.session_state.get("compare-picked") != chosen:
        st.session_state["compare-picked"] = chosen
    st.pills(
        "Examples",
        [*titles, *own],
        format_func=lambda option: ":material/edit_note: Your own text" if option == OWN else titles[option],
        key="compare-picked",
        required=True,
        on_change=pick,
        label_visibility="collapsed",
    )


def pick() -> None:
    picked = st.session_state["compare-picked"]
    if picked == OWN:
        run = session.own_run()
        session.look_at("run", run.id if run else "new", keep=SETTINGS)
    elif picked is not None:  # a browser that is still drawing the first answer knows of no choice yet
        session.look_at("example", picked, keep=SETTINGS)


def shown_instead(kind: str, name: str) -> bool:
    """Says so where what the address names is not what can be shown. True while a response is on its way."""
    instead = "your former text" if st.session_state["shown"][0] == "run" else "an example"
    if kind == "example":
        if name and name not in session.example_ids():
            frame.remark(f"There is no example called {name!r}; here is another one.", "compare-instead")
        return False
    run = session.run_of_address()
    if run is not None and run.active:
        run_progress(run)
        return True
    if run is not None and run.state == "failed":
        frame.complain(f"Your own text got no response; here is {instead}. {run.error}", "compare-instead")
    elif run is None and name != "new":
        frame.remark(f"That generation is not on this server any more; here is {instead}.", "compare-instead")
    elif run is None or run.exploration is None:
        frame.remark(f"Your own text has no response yet; here is {instead}.", "compare-instead")
    return False


frame.style("compare_page.css")
engine = session.engine()
if engine.status == "idle":  # after a failure it waits to be asked again
    engine.start()
kind, name = session.asked()
with st.container(gap="xsmall"):
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.title("How far do methods agree on this example?", anchor=False, width="content")
        with st.container(width="content"):
            model_status(engine)
    picker(kind, name)
    try:
        exploration = session.current()
    except ExplorationFileError as error:
        frame.complain(str(error), "compare-example")
        st.stop()
    if not shown_instead(kind, name):
        chosen = choice()
        if chosen.problem:
            frame.complain(chosen.problem, "compare-choice")
        compare(exploration, chosen)
