"""A conversation on the Explore page: its turns so far, each with a link to its own attribution, and the next query.

A follow-up is a run of its own, which keeps the documents and begins with what was asked and answered. Its settings name the
turn before it, so that its address, a reload and another tab find the conversation again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from at2_core.card import plain
from at2_core.exploration import Exploration
from at2_core.prompts import ContextTask, Turn, follow_up
from pages.ui import frame, session
from pages.ui.jobs import Run, Settings
from pages.ui.own_memory import within_panel

Address = tuple[str, str]  # ("run", id) or ("example", id)
ASKED, ANSWERED = 60, 90  # characters of a turn that are shown
ANCHOR = "follow-up"


def ask_follow_up(exploration: Exploration, settings: Settings, keep: Sequence[str]) -> None:
    """The field for the next query. settings: how this response came about; keep: what of the address stays."""
    if exploration.task.prompt:
        return  # nobody knows how its turns are written
    key = f"follow-up-{exploration.id}"
    with st.container(key="follow-up"):
        st.subheader("Ask a follow-up", anchor=ANCHOR)
        st.chat_input(
            "The documents stay, and what was said so far",
            key=key, on_submit=_ask, args=(key, session.asked(), exploration, settings, keep),
        )  # fmt: skip


def _ask(key: str, here: Address, exploration: Exploration, settings: Settings, keep: Sequence[str]) -> None:
    query = st.session_state[key]
    if not (query or "").strip():
        return
    after = replace(within_panel(settings), response=None, response_ids=(), origin="", follows=here)
    task = follow_up(exploration.task, answer_of(exploration), query)
    run = session.runs().start(session.engine(), task, after)
    st.session_state.setdefault("followed", {})[here] = run.id
    st.session_state["own_run"] = run.id
    session.look_at("run", run.id, keep=keep)


def settings_of(exploration: Exploration) -> Settings:
    """How an example's response came about."""
    made = exploration.settings
    return Settings(
        max_new_tokens=int(made.get("max_new_tokens", 128)),
        temperature=float(made.get("temperature", 0.0)),
        seed=int(made.get("seed", 0)),
    )


def answer_of(exploration: Exploration) -> str:
    """What a conversation goes on with: the response without its thoughts, where it has an answer beside them."""
    thinks = any(s.kind == "thought" for s in exploration.segments)
    answers = [
        exploration.text[s.text_start : s.text_end] for s in exploration.segments if s.kind == "answer"
    ]
    answer = "".join(answers) if thinks else ""
    return answer.strip() or exploration.text


def conversation(
    here: Address, task: ContextTask, before: Address | None, keep: Sequence[str], *, finished: bool
) -> None:
    """Draw the turns so far, a line each, and those that this session asked after this one.

    before: the turn before this one, as its settings name it. keep: what of the address stays on the way to another turn.
    finished: whether a follow-up can be asked."""
    if task.prompt:
        return
    frame.style("follow_up.css")
    earlier, later = _said(task.history), _asked_after(here)
    alone = not earlier and not later
    with st.container(key="quiet-conversation", gap=None):
        for number, ((query, answer), place) in enumerate(
            zip(earlier, _places(before, len(earlier)), strict=True), 1
        ):
            with _line(f"turn-{number}"):
                _link(number, place, keep)
                _said_line(query, answer)
        with _line("shown"):
            st.text("Query" if alone else f"Turn {len(earlier) + 1}", width="content")
            st.text(plain(task.query, ASKED + ANSWERED), width="stretch")
            if finished:
                with st.container(key="follow-link", width="content"):
                    st.markdown(f":material/forum: [Ask a follow-up](#{ANCHOR})", width="content")
        for number, run in enumerate(later, len(earlier) + 2):
            with _line(f"turn-{number}"):
                _link(number, ("run", run.id), keep)
                _said_line(run.task.query, run.text)


def _line(key: str) -> DeltaGenerator:
    return st.container(horizontal=True, vertical_alignment="center", gap="small", key=key)


def _link(number: int, place: Address | None, keep: Sequence[str]) -> None:
    """The way to a turn. A button, since a link of Streamlit's to the page one is on leaves the address as it was."""
    if place is None:
        st.text(f"Turn {number}", width="content")
    else:
        st.button(
            f"Turn {number}", type="tertiary", key=f"to-{'-'.join(place)}",
            on_click=session.look_at, args=place, kwargs={"keep": keep},
        )  # fmt: skip


def _said_line(query: str, answer: str) -> None:
    answered = f" → {plain(answer, ANSWERED)}" if answer.strip() else ""
    st.text(plain(query, ASKED) + answered, width="stretch")


def _said(history: Sequence[Turn]) -> list[tuple[str, str]]:
    """(query, response) of each earlier turn; either may be missing where a person typed them."""
    turns: list[tuple[str, str]] = []
    for turn in history:
        if turn.role == "user" or not turns or turns[-1][1]:
            turns.append(("", ""))
        query, answer = turns[-1]
        turns[-1] = (turn.content, answer) if turn.role == "user" else (query, turn.content)
    return turns


def _places(before: Address | None, count: int) -> list[Address | None]:
    """Where each of the earlier turns has its own attribution, as far as that is still on the server."""
    places: list[Address | None] = []
    while before is not None and len(places) < count:
        kind, name = before
        run = session.runs().get(name) if kind == "run" else None
        there = run is not None if kind == "run" else name in session.example_ids()
        places.append(before if there else None)
        before = run.settings.follows if run else None
    return [None] * (count - len(places)) + places[::-1]


def _asked_after(here: Address) -> list[Run]:
    """The turns that this session asked after this one, the latest where there were several."""
    followed: dict[Address, str] = st.session_state.get("followed", {})
    found: list[Run] = []
    while here in followed and len(found) < 64:
        run = session.runs().get(followed[here])
        if run is None:
            break
        found.append(run)
        here = ("run", run.id)
    return found
