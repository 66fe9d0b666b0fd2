"""Conversations and whole prompts in the app: what is sent to the model, what a person sees, what survives."""

from __future__ import annotations

import itertools
import json

import pytest
import streamlit as st
from hypothesis import given
from hypothesis import strategies as some
from streamlit.testing.v1 import AppTest

from at2_core import exploration as explorations
from at2_core.exploration import Exploration
from at2_core.prompts import ContextTask, Turn
from at2_core.thoughts import split_thoughts
from pages.ui import follow_up, mark_sources, own_memory, own_text, session
from pages.ui.component import utf16
from pages.ui.jobs import Settings
from tests.pages.test_explore import ask, finished, opened, ran, server, texts  # noqa: F401

HOSTILE = "<script>top.pwned=1</script> ![i](http://evil.example/i.png) :red[x] $y$"
CONTEXT = "The dog sleeps in the sun. The fox runs away. Berlin is the capital of Germany. " * 3


def follow(at: AppTest, query: str) -> AppTest:
    ran(at.chat_input[0].set_value(query).run())
    return finished(at)


def run_of(at: AppTest):
    return session.runs().get("".join(at.query_params["run"]))


def links(at: AppTest) -> list[str]:
    """Where the lines of the conversation lead."""
    return [button.key.removeprefix("to-") for button in at.button if (button.key or "").startswith("to-")]


@pytest.fixture
def conversation():
    """Three turns, the last one shown."""
    at = finished(ask(opened(run="new"), CONTEXT, "Who sleeps?"))
    at = follow(at, "And the fox?")
    return follow(at, "Why?")


def test_a_follow_up_keeps_the_documents_and_what_was_said(conversation):
    last = run_of(conversation)
    second = session.runs().get(last.settings.follows[1])
    first = session.runs().get(second.settings.follows[1])
    assert last.task.context == CONTEXT
    assert [turn.content for turn in last.task.history] == [
        "Who sleeps?", first.exploration.text, "And the fox?", second.exploration.text,
    ]  # fmt: skip
    assert last.exploration.prompt.text.startswith(second.exploration.prompt.text)
    assert first.settings.follows is None


def test_what_was_read_before_is_not_read_again(conversation):
    n = len(session.runs().get(run_of(conversation).settings.follows[1]).exploration.prompt.ids)
    assert session.engine().prefix.reused >= n - 1


def test_the_turns_are_listed_each_with_the_address_of_its_attribution(conversation):
    second = run_of(conversation).settings.follows
    first = session.runs().get(second[1]).settings.follows
    assert links(conversation) == [f"run-{first[1]}", f"run-{second[1]}"]
    assert "Turn 3" in texts(conversation)
    again = opened(run=run_of(conversation).id)  # a reload is another session
    assert links(again) == [f"run-{first[1]}", f"run-{second[1]}"]
    assert "And the fox? →" in texts(again)


def test_an_earlier_turn_shows_those_behind_it_to_who_asked_them(conversation):
    last = run_of(conversation)
    second = last.settings.follows[1]
    ran(conversation.button(key=f"to-run-{second}").click().run())
    assert run_of(conversation).id == second
    assert links(conversation)[-1] == f"run-{last.id}"
    assert "Turn 2" in texts(conversation)
    assert not any(link.endswith(last.id) for link in links(opened(run=second)))


def test_the_panel_shows_the_turn_that_is_looked_at_and_its_query_can_be_changed(conversation):
    assert conversation.text_area(key="own-query").value == "Why?"
    assert conversation.text_area(key="own-user-0").value == "Who sleeps?"
    before = run_of(conversation)
    conversation.text_area(key="own-query").set_value("Where?")
    at = finished(ran(conversation.button(key="own-go").click().run()))
    assert run_of(at).task.context_first
    assert run_of(at).settings.follows == before.settings.follows
    assert run_of(at).exploration.prompt.text.startswith(before.exploration.prompt.text.split("Why?")[0])


def test_what_is_typed_and_not_asked_yet_outlasts_a_follow_up_of_an_example():
    at = opened(run="new")
    at.text_area(key="own-context").set_value("My own text.")
    ran(at.run())
    at.query_params.clear()
    at.query_params["example"] = explorations.gallery()[0][0]
    ran(at.run())
    at = follow(at, "Why is that?")
    assert at.text_area(key="own-context").value == "My own text."


def test_an_examples_follow_up_is_a_run_with_its_documents():
    name = explorations.gallery()[0][0]
    example = explorations.load_example(name)
    at = follow(opened(example=name), "Why is that?")
    task = run_of(at).task
    assert (task.context, task.documents) == (example.task.context, example.task.documents)
    assert [turn.content for turn in task.history] == [example.task.query, example.text]
    assert links(at) == [f"example-{name}"]


def test_a_turn_that_is_gone_is_still_told(conversation):
    last = run_of(conversation)
    del session.runs()._runs[last.settings.follows[1]]
    ran(conversation.run())
    assert links(conversation) == []
    assert "Who sleeps? →" in texts(conversation)


def test_hostile_turns_are_shown_as_text():
    at = finished(ask(opened(run="new"), HOSTILE, HOSTILE, response=HOSTILE))
    at = follow(at, HOSTILE)
    assert HOSTILE[:20] in texts(at)
    for kind in ("markdown", "html", "caption", "page_link"):
        assert not any("pwned" in str(element.proto) for element in at.get(kind))


def thinking(text: str, markers=("<think>", "</think>")) -> Exploration:
    from dataclasses import replace

    example = explorations.load_example(explorations.gallery()[0][0])
    bare = replace(example, text=text, response_offsets=((0, len(text)),) * len(example.response_ids))
    return explorations.with_markers(bare, markers)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>Hm.</think>\n\nBerlin.", "Berlin."),
        ("<think>Hm.", "<think>Hm."),
        (" Berlin.", " Berlin."),
    ],
)
def test_a_conversation_goes_on_with_the_answer_and_not_the_thought(text, answer):
    assert follow_up.answer_of(thinking(text)) == answer
    assert split_thoughts(text)


def test_a_half_typed_history_still_lines_up():
    said = [Turn("assistant", "A0"), Turn("user", "Q1"), Turn("user", "Q2"), Turn("assistant", "A2")]
    assert follow_up._said(said) == [("", "A0"), ("Q1", ""), ("Q2", "A2")]


# ------------------------------------------------------------------------------------------- whole prompts


def paste(at: AppTest, text: str) -> AppTest:
    at.segmented_control(key="own-kind").set_value(own_text.WHOLE).run()
    at.text_area(key="own-prompt").set_value(text)
    return ran(at.run())


def marks_sent(at: AppTest) -> dict:
    (found,) = [c for c in at.get("bidi_component") if '"marks"' in c.proto.json]
    return json.loads(found.proto.json)


def mark(at: AppTest, *marks) -> AppTest:
    at.session_state[marks_sent(at)["id"]] = {"marks": [list(m) for m in marks]}
    return ran(at.run())


def test_marked_parts_of_a_whole_prompt_are_its_sources():
    text = "Read 🦊 The fox runs. And 🐕 The dog sleeps. Who sleeps?"
    at = paste(opened(run="new"), text)
    at16 = utf16(text)
    spans = [(text.index("The fox"), text.index(" And")), (text.index("The dog"), text.index(" Who"))]
    at = mark(at, *[(int(at16[a]), int(at16[b])) for a, b in spans])
    at.slider(key="own-length").set_value(16)
    at = finished(ran(at.button(key="own-go").click().run()))
    found = run_of(at).exploration
    assert found.prompt.text == text
    assert [s.text for s in found.sources["document"]] == ["The fox runs.", "The dog sleeps."]
    (sent,) = [json.loads(c.proto.json) for c in at.get("bidi_component") if '"parts"' in c.proto.json]
    assert {p["role"] for p in sent["parts"] if p["kind"] == "query"} == {"Prompt"}
    assert not at.chat_input  # it has no follow-up
    again = opened(run=run_of(at).id)
    assert again.text_area(key="own-prompt").value == text
    assert marks_sent(again)["marks"] == [[int(at16[a]), int(at16[b])] for a, b in spans]


def test_the_switch_reads_control_tokens_as_text():
    for on in (True, False):
        at = paste(opened(run="new"), "<|im_start|>user\nThe dog sleeps.<|im_end|>\n<|im_start|>assistant\n")
        at.toggle(key="own-controls").set_value(on)
        at.slider(key="own-length").set_value(16)
        at = finished(ran(at.button(key="own-go").click().run()))
        steering = session.engine().lm.tokenizer.convert_tokens_to_ids("<|im_start|>")
        assert (steering in run_of(at).exploration.prompt.ids) is on


def test_an_empty_whole_prompt_says_what_to_do():
    at = paste(opened(run="new"), " ")
    ran(at.button(key="own-go").click().run())
    assert "The prompt is empty; paste the text" in texts(at)


def test_marks_stay_with_their_text_while_it_is_edited():
    at = mark(paste(opened(run="new"), "One. Two. Three."), (5, 9))
    at.text_area(key="own-prompt").set_value("Zero. One. Two. Three, four.")
    ran(at.run())
    assert marks_sent(at)["marks"] == [[11, 15]]


def test_one_kind_of_input_does_not_touch_another():
    at = opened(run="new")
    at.text_area(key="own-context").set_value("My context.")
    at.text_area(key="own-query").set_value("Why?")
    at = paste(at, "A prompt.")
    at.segmented_control(key="own-kind").set_value(own_text.ONE).run()
    assert at.text_area(key="own-context").value == "My context."
    assert at.text_area(key="own-query").value == "Why?"


TEXT = some.text(some.characters(codec="utf-8") | some.sampled_from("🦊🐕ab \n"), min_size=1, max_size=30)


@given(text=TEXT, borders=some.sets(some.integers(0, 60), max_size=8))
def test_marks_come_back_from_the_browsers_units(text, borders):
    at, borders = utf16(text), sorted(b for b in borders if b <= len(text))
    marks = tuple(zip(borders[::2], borders[1::2], strict=False))
    assert mark_sources.read([[int(at[a]), int(at[b])] for a, b in marks], text) == marks


@given(text=TEXT, sent=some.lists(some.lists(some.integers(-2, 40) | some.none(), max_size=3), max_size=6))
def test_whatever_is_sent_becomes_marks_in_order_that_lie_in_the_text(text, sent):
    marks = mark_sources.read(sent, text)
    assert all(0 <= start < end <= len(text) for start, end in marks)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(marks))
    ContextTask(prompt=text, marked=marks)


KEPT, GONE, PUT = (some.text(letters, max_size=12) for letters in ("ab🦊 \n", "xyz🐕", "uvw"))


@given(before=KEPT, gone=GONE, put=PUT, behind=KEPT, data=some.data())
def test_an_edit_leaves_the_marks_before_and_behind_it_on_their_text(before, gone, put, behind, data):
    old, new = before + gone + behind, before + put + behind
    places = [(0, len(before)), (len(before + gone), len(old))]
    marks = tuple(tuple(sorted((data.draw(some.integers(a, b)), b))) for a, b in places)
    marks = tuple((a, b) for a, b in marks if a < b)
    moved = mark_sources.carried(marks, old, new)
    assert [new[a:b] for a, b in moved] == [old[a:b] for a, b in marks]


@given(old=TEXT, new=TEXT, borders=some.sets(some.integers(0, 30), max_size=8))
def test_after_any_edit_the_marks_lie_in_the_text_in_order(old, new, borders):
    borders = sorted(b for b in borders if b <= len(old))
    moved = mark_sources.carried(tuple(zip(borders[::2], borders[1::2], strict=False)), old, new)
    assert all(0 <= start < end <= len(new) for start, end in moved)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(moved))


@pytest.mark.parametrize(("old", "new", "marks", "moved"), [
    ("a bc d", "a bXc d", [(2, 4)], ((2, 5),)),  # written into a mark
    ("a bc d", "a c d", [(2, 4)], ((2, 3),)),
    ("a bc d", "a  d", [(2, 4)], ()),  # a mark that is taken out
    ("a bc d", "", [(2, 4)], ()),
    ("", "abc", [], ()),
    ("a bc d ef", "X a bc! d ef X", [(2, 4), (7, 9)], ((4, 6), (10, 12))),  # several edits at once
])  # fmt: skip
def test_an_edit_inside_a_mark_changes_it(old, new, marks, moved):
    assert mark_sources.carried(marks, old, new) == moved


@pytest.mark.parametrize("task", [
    ContextTask("C", "Q", history=[Turn("user", "U"), Turn("assistant", "A")], context_first=True),
    ContextTask(prompt="a b c", marked=[(0, 1), (2, 3)], control_tokens=False),
])  # fmt: skip
def test_a_task_is_typed_in_as_it_was(task):
    typed = own_memory.as_typed(task, Settings(max_new_tokens=100_000))
    assert typed["own-length"] == own_memory.LENGTHS[1]
    assert typed["own-first"] is task.context_first
    if task.prompt:
        assert (typed["own-kind"], typed["own-marks"]) == (own_text.WHOLE, (task.prompt, task.marked))
        assert typed["own-controls"] is False


@pytest.mark.parametrize("task", [
    ContextTask(prompt="Read 🦊. The dog sleeps.", marked=[(0, 4), (8, 23)], control_tokens=False),
    ContextTask("C", "Q", history=[Turn("user", "U"), Turn("assistant", "A")], context_first=True),
])  # fmt: skip
def test_a_saved_exploration_keeps_what_kind_of_task_it_was(tiny_lm, tmp_path, task):
    import at2_core as at2

    made = explorations.explore(tiny_lm, at2.replay(tiny_lm, task, "The dog."), None)
    found = explorations.load(explorations.save(made, tmp_path / "saved.safetensors"))
    assert (found.task, found.id) == (task, made.id)


def test_a_base_model_answers_a_conversation(tiny_folder, tmp_path, monkeypatch):
    import shutil

    base = shutil.copytree(tiny_folder("gpt2"), tmp_path / "base")
    for path in base.glob("*template*"):
        path.unlink()
    about = json.loads((base / "tokenizer_config.json").read_text())
    about.pop("chat_template", None)
    (base / "tokenizer_config.json").write_text(json.dumps(about))
    monkeypatch.setattr(session, "MODEL", str(base))
    st.cache_resource.clear()
    at = finished(ask(opened(run="new"), CONTEXT, "Who sleeps?"))
    at = follow(at, "And the fox?")
    text = run_of(at).exploration.prompt.text
    assert text.startswith(f"Context: {CONTEXT}\n\nQuery: Who sleeps?\n\nAnswer:")
    assert text.endswith("\n\nQuery: And the fox?\n\nAnswer:")
