"""The address of the Heads page is its state, through spans, other pages and other texts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

import at2_core as at2
from at2_core import exploration as explorations
from pages.ui import example_views, session
from pages.ui.head_reading import source_name
from pages.ui.jobs import Run, Settings
from tests.pages.driving import APP, payloads, ready, send, texts
from tests.pages.head_driving import address, click, matrices, opened


def test_the_address_opens_a_state_and_keeps_it(exploration):
    params = {"layer": "0", "head": "3", "compare": "1.2", "mute": "1.1,0.0", "sink": "1", "pin": "1-3"}
    at = opened(**params)
    assert address(at) == params
    assert list(matrices(at)) == ["0.3", "1.2"]
    (sent,) = payloads(at, "heads-matrix")
    assert sent["sink"] is True
    assert sent["pin"] == [1, 3]


@pytest.mark.parametrize(
    "params",
    [
        {"layer": "9", "head": "0"},
        {"layer": "-1", "head": "0"},
        {"layer": "1"},
        {"layer": "1e1", "head": "٣"},
        {"compare": "7.7,,x,1.1.1"},
        {"mute": "<script>"},
        {"pin": "5-2"},
        {"pin": "0-99999"},
        {"view": "upside-down", "grid": "x", "sink": "yes", "source": "-3"},
    ],
)
def test_nonsense_in_the_address_is_dropped(exploration, params):
    at = opened(**params)
    assert address(at) == {}
    assert list(matrices(at)) == ["1.1"]


def test_a_span_pinned_in_the_matrix_goes_to_the_address_and_not_back(exploration):
    at = opened()
    (before,) = payloads(at, "heads-matrix")
    send(at, "heads-matrix", pin={"span": [2, 4], "round": before["round"]})
    assert address(at) == {"pin": "2-4"}
    assert payloads(at, "heads-matrix") == [before]
    send(at, "heads-matrix", pin={"span": [4, 2]})  # nothing that our script would send
    assert address(at) == {}


def test_what_was_chosen_above_replaces_what_was_pinned_in_the_matrix(exploration):
    at = opened()
    (before,) = payloads(at, "heads-matrix")
    send(at, "heads-matrix", pin={"span": [2, 2], "round": before["round"]})
    at.selectbox(key="heads-pin").select_index(0).run()
    assert address(at) == {}
    (sent,) = payloads(at, "heads-matrix")
    assert sent["pin"] is None
    assert sent["round"] != before["round"], "the browser has a pin of its own, which this replaces"


def test_a_matrix_that_comes_back_begins_with_what_the_address_says(exploration):
    at = opened()
    send(at, "heads-matrix", pin={"span": [2, 2]}, sink=True)
    assert address(at) == {"pin": "2-2", "sink": "1"}
    at.segmented_control(key="heads-view").set_value("text").run()
    at.segmented_control(key="heads-view").set_value("matrix").run()
    (sent,) = payloads(at, "heads-matrix")
    assert (sent["pin"], sent["sink"]) == ([2, 2], True)


def test_a_text_that_comes_back_begins_with_what_the_address_says(exploration):
    at = opened(view="text")
    send(at, "heads-text", view={"pin": [2, 2], "sink": True})
    assert address(at) == {"view": "text", "pin": "2-2", "sink": "1"}
    at.segmented_control(key="heads-view").set_value("matrix").run()
    at.segmented_control(key="heads-view").set_value("text").run()
    (sent,) = payloads(at, "heads-text")
    assert (sent["initial"]["pin"], sent["initial"]["sink"]) == ([2, 2], True)


def test_a_span_chosen_above_reaches_the_matrix(exploration):
    at = opened()
    at.selectbox(key="heads-pin").select_index(2).run()
    (sent,) = payloads(at, "heads-matrix")
    assert address(at)["pin"] == f"{sent['pin'][0]}-{sent['pin'][1]}"
    first, last = sent["pin"]
    assert "".join(sent["response"][first : last + 1]).strip() == "Paris is far away."


def test_the_state_survives_a_visit_to_the_other_page(exploration):
    at = click(opened(), 2)
    at.switch_page("pages/explore.py").run()
    at.query_params.clear()
    at.query_params["run"] = "test"
    at.switch_page("pages/heads.py").run()
    assert address(at) == {"layer": "0", "head": "2"}


def test_a_span_pinned_on_the_explore_page_is_the_span_here(exploration):
    at = AppTest.from_file(str(APP), default_timeout=60)
    at.session_state["explore-kept"] = (exploration.id, {"pin": "1-2"})
    at.query_params["run"] = "test"
    ready()
    at.switch_page("pages/heads.py").run()
    assert address(at) == {"pin": "1-2"}
    at.selectbox(key="heads-pin").select_index(0).run()
    assert address(at) == {}
    at.session_state["explore-kept"] = (exploration.id, {"pin": "2-3"})
    assert address(at.run()) == {"pin": "2-3"}
    at.session_state["explore-kept"] = ("another", {"pin": "0-0"})
    assert address(at.run()) == {"pin": "2-3"}
    at.session_state["explore-kept"] = (exploration.id, {})
    assert address(at.run()) == {}, "it was unpinned there"


def test_what_an_example_opens_with_on_the_explore_page_is_the_span_here(exploration, monkeypatch):
    monkeypatch.setattr(explorations, "gallery", lambda: [("library", "The library", "")])
    monkeypatch.setattr(explorations, "load_example", {"library": exploration}.__getitem__)
    monkeypatch.setattr(example_views, "_number", lambda exploration: (1, 3))
    ready()
    at = AppTest.from_file(str(APP), default_timeout=60).run()
    assert not at.exception
    at.switch_page("pages/heads.py").run()
    assert address(at) == {"pin": "1-3"}


def test_an_example_of_another_model_has_no_contributions_and_the_page_says_so(exploration, monkeypatch):
    another = replace(exploration, model="another/model")
    monkeypatch.setattr(explorations, "gallery", lambda: [("another", "Another", "")])
    monkeypatch.setattr(explorations, "load_example", {"another": another}.__getitem__)
    ready()
    at = AppTest.from_file(str(APP), default_timeout=60)
    at.query_params["example"] = "another"
    at.switch_page("pages/heads.py").run()
    at.query_params["grid"] = "contribution"
    at.run()
    assert not at.exception
    assert "This was made with another/model" in texts(at)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("failed", "got no response; here is"),
        ("stopped", "was stopped before"),
        ("waiting", "appears here when"),
    ],
)
def test_a_run_without_a_response_leaves_the_former_text_and_the_page_says_which(exploration, state, says):
    at = opened()
    task = exploration.task
    session.runs()._runs["next"] = Run("next", task, Settings(), state=state, error="It was too long.")
    at.query_params["run"] = "next"
    at.run()
    assert not at.exception
    assert says in texts(at)
    assert "your former text" in texts(at)
    assert ("It was too long." in texts(at)) == (state == "failed")
    assert "no response yet" not in texts(at)
    assert at.selectbox(key="heads-example").value == "your own text"
    example = session.example_ids()[0]
    at.selectbox(key="heads-example").set_value(example).run()
    assert at.query_params["example"] == example or at.query_params["example"] == [example]


def test_while_an_own_text_is_not_there_the_picker_says_which_example_is(exploration):
    second = session.example_ids()[1]
    ready()
    at = AppTest.from_file(str(APP), default_timeout=60)
    at.query_params["example"] = second
    at.run()
    at.query_params.clear()
    at.query_params["run"] = "new"
    at.switch_page("pages/heads.py").run()
    assert at.selectbox(key="heads-example").value == second
    assert "no response yet; here is an example" in texts(at)


def test_a_source_is_called_as_on_the_explore_page(exploration):
    assert source_name(exploration, 1) == "Doc 1 · Foxes: “The dog sleeps in the sun.”"
    alone = replace(exploration, task=at2.ContextTask(context="x", query="y"))
    assert source_name(alone, 1) == "Sentence 2: “The dog sleeps in the sun.”"


def test_another_example_keeps_the_heads_and_drops_the_span(exploration, monkeypatch):
    other = replace(
        exploration, title="Another", text=exploration.text, response_ids=exploration.response_ids[:-1]
    )
    other = replace(other, response_offsets=other.response_offsets[:-1], logprobs=other.logprobs[:-1])
    monkeypatch.setattr(explorations, "gallery", lambda: [("another", "Another <b>one</b>", "")])
    monkeypatch.setattr(explorations, "load_example", {"another": other}.__getitem__)
    at = opened(layer="0", head="3", compare="1.2", pin="1-3", grid="contribution", source="2")
    assert at.selectbox(key="heads-example").options == ["Your own text", "Another <b>one</b>"]
    at.selectbox(key="heads-example").set_value("another").run()
    assert address(at) == {"layer": "0", "head": "3", "compare": "1.2", "grid": "contribution"}
    assert at.query_params["example"] == "another"
    assert "run" not in at.query_params
    (sent,) = payloads(at, "heads-matrix")
    assert sent["example"] == other.id
