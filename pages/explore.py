"""The Explore page: an example or a person's own text, and where each part of the response came from."""

from __future__ import annotations

from pages.ui import frame

frame.require()

from dataclasses import replace  # noqa: E402 (the frame's guard comes first)

import streamlit as st  # noqa: E402

from at2_core import exploration as explorations  # noqa: E402
from at2_core.errors import At2Error  # noqa: E402
from pages.ui import own_memory, session  # noqa: E402
from pages.ui.attribution_view import SETTINGS, attribution_view  # noqa: E402
from pages.ui.example_picker import example_picker  # noqa: E402
from pages.ui.example_views import opening  # noqa: E402
from pages.ui.follow_up import ask_follow_up, conversation, settings_of  # noqa: E402
from pages.ui.jobs import Run  # noqa: E402
from pages.ui.model_status import model_status  # noqa: E402
from pages.ui.own_text import own_text  # noqa: E402
from pages.ui.run_progress import run_progress  # noqa: E402

QUESTION = "Which part of the prompt did each part of the response come from?"
NOTES = {
    "end": "Your own text.",
    "length": "Your own text. The response was cut at the number of tokens that you allowed.",
    "cancelled": "Your own text. The response was stopped here.",
    "given": "Your own text and your own response.",
}
OF_DATA = {
    "end": "",
    "length": " The response was cut at {count} tokens.",
    "cancelled": " The response was stopped here.",
    "given": " The response is the one in the data.",
}


def example(name: str) -> None:
    if name not in session.example_ids() and name:
        frame.remark(f"There is no example called {name!r}; here is another one.", "example")
    try:
        exploration = session.current()
    except At2Error as error:
        frame.complain(str(error), "example")
        return
    note = exploration.note
    if exploration.stop_reason == "length":
        note += f" The response was cut at {len(exploration.response_ids)} tokens."
    conversation(("example", name), exploration.task, None, SETTINGS, finished=True)
    attribution_view(exploration, note, opening(st.session_state["shown"][1], exploration))
    ask_follow_up(exploration, settings_of(exploration), SETTINGS)


def own(name: str) -> None:
    run = session.run_of_address()
    open_panel = run is None or run.state in ("failed", "stopped")
    label = "Your own text" if open_panel else "Your own text: change it and ask again"
    panel = f"own-panel-{name}-{open_panel}"  # each run begins with its own, which is open or not
    with st.expander(label, expanded=open_panel, key=panel):
        asked = own_text(run)
    if asked:
        task, settings = asked
        if run is not None and task.history and task.history == run.task.history:
            settings = replace(settings, follows=run.settings.follows)  # another query at the same place
        # A second press that was on its way before the first one's answer goes to the run that the first began.
        before = session.own_run()
        if before is not None and before.active and (before.task, before.settings) == (task, settings):
            run = before
        else:
            run = session.runs().start(session.engine(), task, settings)
        own_memory.asked(run)
        st.session_state["own_run"] = run.id
        session.look_at("run", run.id, keep=SETTINGS)
        st.rerun()
    if run is not None:
        conversation(("run", run.id), run.task, run.settings.follows, SETTINGS, finished=run.state == "done")
    if run is None:
        frame.remark(
            "Give a text and ask something about it; the attribution of the response appears here."
            if name == "new"
            else "That generation is not on this server any more. Your text, if it is still above, can be asked again.",
            "own",
        )
    elif run.active:
        run_progress(run)
    elif run.state == "stopped":
        frame.remark("Stopped before there was a response.", "own")
    elif run.state == "failed":
        frame.complain(run.error, "run")
    else:
        exploration = session.current()
        attribution_view(exploration, note_of(run, exploration))
        ask_follow_up(exploration, run.settings, SETTINGS)


def note_of(run: Run, exploration: explorations.Exploration) -> str:
    """Whose text it is, and how its response came about."""
    if not run.settings.origin:
        return NOTES[exploration.stop_reason]
    count = len(exploration.response_ids)
    return run.settings.origin + OF_DATA[exploration.stop_reason].format(count=count)


engine = session.engine()
engine.start()
kind, name = session.asked()
with st.container(gap="xsmall"):
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.title(QUESTION, anchor=False, width="content")
        with st.container(width="content"):
            model_status(engine)
    example_picker(kind, name, "picked", SETTINGS)
    if kind == "run":
        own(name)
    else:
        example(name)
