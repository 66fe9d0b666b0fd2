"""What was typed on Explore and not asked yet: a reload finds it again, and only its file's name is in the address."""

from __future__ import annotations

import json

import pytest
from streamlit.testing.v1 import AppTest

from pages.ui import own_draft, own_text, session
from tests.pages.driving import MARKUP, opened, ran
from tests.pages.test_explore import finished
from tests.paper import lines, pdf

pytestmark = pytest.mark.usefixtures("tiny_server")


def new() -> AppTest:
    return opened("explore", first={"run": "new"}, run="new")


def reloaded(at: AppTest) -> AppTest:
    """Another session at the same address."""
    address = {name: "".join(values) for name, values in at.query_params.items()}
    return opened("explore", first=address, **address)


def test_what_was_typed_outlasts_a_reload():
    at = new()
    assert "draft" not in at.query_params
    at.text_area(key="own-context").set_value(MARKUP)
    at.text_area(key="own-query").set_value("What?")
    at.slider(key="own-length").set_value(32)
    ran(at.run())
    again = reloaded(at)
    assert again.text_area(key="own-context").value == MARKUP
    assert again.text_area(key="own-query").value == "What?"
    assert again.slider(key="own-length").value == 32
    assert "x" not in "".join(again.query_params["draft"])
    assert set(again.query_params) == {"run", "draft"}


def test_an_earlier_turn_can_be_taken_away_again():
    at = new()
    for _ in range(2):
        ran(at.button(key="own-add-turn").click().run())
    at.text_area(key="own-user-1").set_value("Hello")
    ran(at.run())
    ran(at.button(key="own-remove-turn").click().run())
    assert [box.key for box in at.text_area if "own-user" in box.key] == ["own-user-0"]
    ran(at.button(key="own-add-turn").click().run())
    assert at.text_area(key="own-user-1").value == "", "and what stood in it is gone"
    for _ in range(2):
        ran(at.button(key="own-remove-turn").click().run())
    assert "own-remove-turn" not in [button.key for button in at.button]


def test_documents_with_their_pages_and_turns_outlast_a_reload():
    at = new()
    paper = pdf([lines("The lighthouse was built in 1911."), lines("The last keeper was Tom Reed.")])
    at.file_uploader[0].set_value([("a.pdf", paper, "application/pdf"), ("b.txt", b"A note.", "text/plain")])
    ran(at.run())
    ran(at.button(key="own-add").click().run())
    ran(at.button(key="own-add-turn").click().run())
    at.text_area(key="own-user-0").set_value("Hello")
    ran(at.run())
    again = reloaded(at)
    numbers = again.session_state["own-documents"]
    assert numbers == at.session_state["own-documents"]
    assert [again.text_input(key=f"own-title-{n}").value for n in numbers] == ["a", "b", ""]
    assert again.session_state[f"own-pages-{numbers[0]}"] == at.session_state[f"own-pages-{numbers[0]}"]
    assert [box.key for box in again.text_area if "own-text" in box.key] == [f"own-text-{numbers[2]}"]
    assert again.text_area(key="own-user-0").value == "Hello"


def test_a_prompt_keeps_its_marks_over_a_reload():
    at = new()
    at.segmented_control(key="own-kind").set_value(own_text.WHOLE).run()
    at.text_area(key="own-prompt").set_value("One two three.")
    ran(at.run())
    at.session_state["own-marks"] = ("One two three.", ((4, 7),))
    ran(at.run())
    ran(at.run())
    again = reloaded(at)
    assert again.segmented_control(key="own-kind").value == own_text.WHOLE
    assert again.session_state["own-marks"] == at.session_state["own-marks"]


def test_a_cleared_form_stays_cleared():
    at = new()
    at.text_area(key="own-context").set_value("The dog sleeps.")
    ran(at.run())
    at.text_area(key="own-context").set_value("")
    ran(at.run())
    assert reloaded(at).text_area(key="own-context").value == ""
    assert not list(own_draft.root().glob(".drafts/*"))


def test_what_was_asked_is_in_its_run_and_what_was_changed_since_in_a_draft():
    at = new()
    at.text_area(key="own-context").set_value("The dog sleeps.")
    at.text_area(key="own-query").set_value("Who?")
    at.segmented_control(key="own-way").set_value(own_text.GIVEN).run()
    at.text_area(key="own-given").set_value("The dog.")
    at = finished(ran(at.button(key="own-go").click().run()))
    ran(at.run())
    assert "draft" not in at.query_params
    assert not list(own_draft.root().glob(".drafts/*"))
    at.text_area(key="own-query").set_value("Who sleeps, and where?")
    ran(at.run())
    again = reloaded(at)
    assert again.text_area(key="own-query").value == "Who sleeps, and where?"
    assert again.text_area(key="own-context").value == "The dog sleeps."
    again.text_area(key="own-context").set_value("")
    again.text_area(key="own-query").set_value("")
    again.text_area(key="own-given").set_value("")
    ran(again.run())
    cleared = reloaded(again)
    assert not any(cleared.text_area(key=f"own-{name}").value for name in ("context", "query", "given"))


def test_a_draft_is_named_again_after_a_visit_elsewhere():
    at = new()
    at.text_area(key="own-context").set_value("The dog sleeps.")
    ran(at.run())
    name = at.query_params["draft"]
    at.query_params.clear()  # as the navigation does
    ran(at.switch_page("pages/heads.py").run())
    at.query_params.clear()
    at.query_params["run"] = "new"
    ran(at.switch_page("pages/explore.py").run())
    assert at.query_params["draft"] == name


@pytest.mark.parametrize("name", ["../outside", "0" * 12, MARKUP, ""])
def test_an_address_that_names_no_draft_begins_an_empty_one(name):
    at = opened("explore", first={"run": "new", "draft": name}, run="new", draft=name)
    assert at.text_area(key="own-context").value == ""


@pytest.mark.parametrize(
    "fields",
    [
        [], {"own-length": "long", "own-seed": -1, "own-temperature": 9, "own-kind": MARKUP, "own-way": 3},
        {"own-documents": ["x"], "own-kind": own_text.SEVERAL, "own-next": 0, "own-turns": 10**6},
        {"own-kind": own_text.SEVERAL, "own-documents": [0], "own-text-0": "a", "own-pages-0": [[1, "x"], 3]},
        {"own-prompt": "abc", "own-kind": own_text.WHOLE, "own-marks": ["abc", [[5, 9], ["x"]]]},
    ],
)  # fmt: skip
def test_a_draft_that_no_widget_would_take_is_left_out(fields):
    folder = own_draft.root() / ".drafts" / ("a" * 12)
    folder.mkdir(parents=True)
    (folder / "draft.json").write_text(json.dumps(fields))
    at = opened("explore", first={"run": "new", "draft": "a" * 12}, run="new", draft="a" * 12)
    assert at.slider(key="own-length").value == 128
    assert session.asked() is not None
