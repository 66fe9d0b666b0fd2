"""The Explore page, driven as a browser would: what the component is sent, what a person reads, what survives."""

from __future__ import annotations

import base64
import csv
import io
import itertools
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from hypothesis import given
from hypothesis import strategies as some
from streamlit.testing.v1 import AppTest

from at2_core import exploration as explorations
from at2_core.errors import Cancelled
from at2_core.sources import GRANULARITIES
from pages.ui import export, jobs, model_status, own_memory, own_text, run_progress, session, token_heatmap
from pages.ui.token_heatmap import ViewState, _utf16

APP = Path(__file__).parents[2] / "app.py"
HOSTILE = (
    "<script>top.pwned=1</script> ![i](http://evil.example/i.png) \x1b[31mred <|im_start|>system :red[x] $y$"
)
TEXT_ELEMENTS = ("markdown", "html", "info", "error", "warning", "success", "caption")


@pytest.fixture(autouse=True)
def server(tiny_folder, monkeypatch):
    """A fresh server whose model is the tiny one."""
    monkeypatch.setattr(session, "MODEL", str(tiny_folder("llama")))
    monkeypatch.setattr(session, "HEAD_START", 0)
    st.cache_resource.clear()
    yield
    for run in list(session.runs()._runs.values()):
        run.cancel.set()
    st.cache_resource.clear()


def opened(**address: str) -> AppTest:
    at = AppTest.from_file(str(APP), default_timeout=60)
    for key, value in address.items():
        at.query_params[key] = value
    return ran(at.run())


def ran(at: AppTest) -> AppTest:
    assert not at.exception, at.exception
    return at


def component(at: AppTest):
    return at.get("bidi_component")[0]


def payload(at: AppTest) -> dict:
    return json.loads(component(at).proto.json)


def scores(at: AppTest) -> np.ndarray:
    sent = payload(at)
    flat = np.frombuffer(base64.b64decode(sent["scores"]), "<f4")
    return flat.reshape(sent["counts"][1], sent["counts"][0])


def texts(at: AppTest) -> str:
    return "\n".join(text.value for text in at.text)


def ask(at: AppTest, context: str = "", query: str = "", response: str | None = None) -> AppTest:
    """Fill the panel as a person would, and press its button."""
    at.text_area(key="own-context").set_value(context)
    at.text_area(key="own-query").set_value(query)
    if response is not None:
        at.segmented_control(key="own-way").set_value(own_text.GIVEN)
        at.run()
        at.text_area(key="own-given").set_value(response)
    else:
        at.slider(key="own-length").set_value(16)
    return ran(at.button(key="own-go").click().run())


def finished(at: AppTest) -> AppTest:
    """Run the page until its generation has ended, as its own polling does."""
    for _ in range(300):
        run = session.runs().get(at.query_params["run"])
        if run and not run.active:
            return ran(at.run())
        time.sleep(0.1)
    raise AssertionError("the generation did not end")


# --------------------------------------------------------------------------------------------- what one sees first


def test_the_page_opens_on_the_first_example_and_says_which_in_the_address():
    at = opened()
    first = explorations.gallery()[0][0]
    example = explorations.load_example(first)
    assert payload(at)["prompt"] == example.prompt.text
    assert payload(at)["response"] == example.text
    assert np.array_equal(scores(at), example.scores["at2"])
    assert at.query_params["example"] == first


def test_every_example_can_be_reached_by_its_address():
    for name, _, _ in explorations.gallery():
        at = opened(example=name)
        assert payload(at)["response"] == explorations.load_example(name).text


def test_an_unknown_example_is_named_as_text_and_another_is_shown():
    at = opened(example=HOSTILE)
    assert "no example called" in texts(at)
    assert payload(at)["response"]


def test_nothing_heavy_is_imported_before_the_first_picture():
    code = ("import sys, app_pages; assert not {'torch', 'transformers'} & set(sys.modules)").replace(
        "app_pages", "pages.ui.attribution_view, pages.ui.own_text, pages.ui.run_progress, pages.ui.frame"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=APP.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# -------------------------------------------------------------------------------------------------- the address


def test_the_address_sets_the_view_and_what_makes_no_sense_is_dropped():
    at = opened(
        granularity="word", signed="1", intensity="nonsense", threshold="7", pin="0-2", source="9-999999"
    )
    began = payload(at)["initial"]
    assert (began["granularity"], began["signed"], began["pin"]) == ("word", True, [0, 2])
    assert (began["intensity"], began["threshold"], began["source"]) == (1.0, 0.9, None)


def test_what_is_chosen_in_the_component_appears_in_the_address_and_is_not_sent_back():
    at = opened()
    before = payload(at)
    at.session_state[f"explore-{before['id'][:12]}"] = {"view": {"pin": [1, 3], "granularity": "document"}}
    ran(at.run())
    assert at.query_params["pin"] == "1-3"
    assert at.query_params["granularity"] == "document"
    assert payload(at) == before


def test_another_method_sends_other_scores_of_the_same_texts():
    at = opened()
    before = payload(at)
    example = explorations.load_example(at.query_params["example"])
    at.segmented_control(key=f"method-{example.id}").set_value("average").run()
    assert payload(ran(at))["id"] == before["id"]
    assert payload(at)["scores_id"] != before["scores_id"]
    assert np.array_equal(scores(at), example.scores["average"])
    assert at.query_params["method"] == "average"


def test_another_example_is_looked_at_with_the_same_settings_but_without_the_pin():
    at = opened(granularity="word", method="average", pin="0-2")
    other = explorations.gallery()[1][0]
    ran(at.pills(key="picked").set_value(other).run())
    assert payload(at)["initial"]["granularity"] == "word"
    assert payload(at)["initial"]["pin"] is None
    assert np.array_equal(scores(at), explorations.load_example(other).scores["average"])


def test_the_table_opens_on_its_number_by_words_unless_the_address_says_otherwise():
    example = explorations.load_example("library")
    at = opened(example="library")
    began = payload(at)["initial"]
    assert (began["granularity"], began["unit"]) == ("word", "token")
    first, last = began["pin"]
    start, end = example.response_offsets[first][0], example.response_offsets[last][1]
    assert example.text[start:end].strip() == "31,600"
    assert set(at.query_params) == {"example"}
    asked = payload(opened(example="library", granularity="sentence", pin="0-2"))["initial"]
    assert (asked["granularity"], asked["unit"], asked["pin"]) == ("sentence", "token", [0, 2])


def test_what_an_example_opens_with_can_be_cleared_and_goes_to_no_other_example():
    at = opened(example="library")
    at.session_state[f"explore-{payload(at)['id'][:12]}"] = {
        "view": {"pin": None, "granularity": "word", "unit": "token"}
    }
    ran(at.run())
    assert at.query_params["pin"] == "none"
    assert payload(opened(example="library", pin="none"))["initial"]["pin"] is None
    other = explorations.gallery()[0][0]
    ran(at.pills(key="picked").set_value(other).run())
    assert payload(at)["initial"]["granularity"] == "sentence"
    assert set(at.query_params) == {"example"}


def test_an_example_that_was_cut_says_so():
    for name, _, _ in explorations.gallery():
        cut = explorations.load_example(name).stop_reason == "length"
        assert ("was cut at 96 tokens" in texts(opened(example=name))) == cut


def test_the_legends_hold_in_light_and_in_dark():
    assert "darker" not in token_heatmap.SCRIPT.lower()
    assert token_heatmap.SCRIPT.count("stronger blue = ") == 12  # six of them brief


@given(
    some.dictionaries(
        some.sampled_from(sorted(ViewState.__annotations__)), some.from_type(object) | some.floats()
    )
)
def test_whatever_a_browser_sends_becomes_a_state_that_fits(sent):
    state = ViewState.read(sent, response_tokens=5, prompt_tokens=7)
    assert state.pin is None or 0 <= state.pin[0] <= state.pin[1] < 5
    assert state.source is None or 0 <= state.source[0] <= state.source[1] < 7
    assert state.granularity in GRANULARITIES
    assert 0.5 <= state.intensity <= 3
    assert 0 <= state.threshold <= 0.9


@given(some.text())
def test_positions_are_counted_as_a_browser_counts_them(text):
    at = _utf16(text)
    encoded = text.encode("utf-16-le", "surrogatepass")
    assert [
        encoded[2 * a : 2 * b].decode("utf-16-le", "surrogatepass") for a, b in itertools.pairwise(at)
    ] == [*text]


# ---------------------------------------------------------------------------------------------- one's own text


def test_an_own_text_is_answered_and_attributed():
    at = finished(ask(opened(run="new"), "The dog sleeps in the sun. The fox runs.", "What does the dog do?"))
    run = session.runs().get(at.query_params["run"])
    assert run.state == "done"
    assert payload(at)["response"] == run.exploration.text
    assert np.array_equal(scores(at), run.exploration.scores["average"])
    assert "no estimator" in texts(at)  # the tiny model has none, and the page says so


def test_an_own_response_is_attributed_as_it_stands():
    at = finished(ask(opened(run="new"), "The dog sleeps.", "What?", response="  The dog\n\nsleeps. "))
    assert payload(at)["response"] == "  The dog\n\nsleeps. "


@pytest.mark.parametrize(
    ("given_fields", "said"),
    [
        ({"query": "What?"}, "The context is empty"),
        ({"context": "The dog sleeps."}, "The query is empty"),
        ({"context": "The dog sleeps.", "query": "What?", "response": " "}, "The response is empty"),
    ],
)
def test_what_is_missing_is_said_and_nothing_is_lost(given_fields, said):
    at = ask(opened(run="new"), **given_fields)
    assert said in texts(at)
    assert at.text_area(key="own-context").value == given_fields.get("context", "")
    assert at.text_area(key="own-query").value == given_fields.get("query", "")


def test_a_prompt_that_is_too_long_is_told_by_how_much_and_stays_in_the_field():
    context = "The quick brown fox jumps over the lazy dog. " * 200
    at = finished(ask(opened(run="new"), context, "What?"))
    assert "more than the 512" in texts(at)
    assert at.text_area(key="own-context").value == context
    again = finished(ask(at, "The dog sleeps.", "What?"))
    assert session.runs().get(again.query_params["run"]).state == "done"


def test_another_tab_with_the_address_finds_the_run_and_the_text_that_was_typed():
    at = finished(ask(opened(run="new"), "The dog sleeps in the sun.", "What does the dog do?"))
    other = opened(run=at.query_params["run"])
    assert payload(other)["response"] == payload(at)["response"]
    assert other.text_area(key="own-context").value == "The dog sleeps in the sun."


def test_a_run_that_is_gone_is_explained():
    assert "not on this server any more" in texts(opened(run="0123456789ab"))


def test_a_model_that_is_not_there_is_told_and_can_be_tried_again(monkeypatch, tiny_folder):
    monkeypatch.setattr(session, "MODEL", "/nowhere/at/all")
    st.cache_resource.clear()
    at = ask(opened(run="new"), "The dog sleeps.", "What?")
    at = finished(at)
    assert session.engine().status == "failed"
    assert session.engine().message in texts(at)
    assert payload(opened())["response"]  # the examples need no model
    at.button(key="retry-model").click().run()
    assert session.engine().status in ("loading", "failed")


def test_after_another_try_the_whole_page_follows_the_loading(monkeypatch):
    reruns, engine = [], session.engine()
    monkeypatch.setattr(st, "rerun", lambda: reruns.append(engine.status))
    engine.status = "loading"
    model_status._line(
        engine, settled_before=True, drawing=[]
    )  # the fragment alone, after its button was pressed
    model_status._line(engine, settled_before=False, drawing=[])
    assert reruns == ["loading"]


def test_a_press_is_heard_also_where_the_model_becomes_ready_while_the_page_is_drawn(monkeypatch):
    at = opened(run="new")
    session.engine().wait()
    seen = iter([False])  # as the status begins to be drawn; then, in the same run, it is there
    monkeypatch.setattr(model_status, "is_settled", lambda engine: next(seen, True))
    assert "The context is empty" in texts(ask(at, "", "What?"))


def test_the_model_is_given_in_the_order_of_asking():
    engine, order, threads = session.engine(), [], []

    def work(ticket: object) -> None:
        with engine.hold(ticket=ticket):
            order.append(ticket)

    tickets = [object() for _ in range(6)]
    with engine.hold():
        for ticket in tickets:
            threads.append(threading.Thread(target=work, args=(ticket,)))
            threads[-1].start()
            while len(engine._queue) != len(threads) + 1:
                time.sleep(0.01)
        stopped = threading.Event()
        stopped.set()
        with pytest.raises(Cancelled), engine.hold(stopped):
            pass
        assert "5 more before yours" in session.in_queue(engine.ahead_of(tickets[-1]))
        assert session.in_queue(engine.ahead_of(tickets[0])) == "The model is busy; yours is next."
    for thread in threads:
        thread.join()
    assert order == tickets
    assert not engine.busy


def test_a_stopped_run_leaves_the_model_usable():
    at = opened(run="new")
    session.engine().start()
    session.engine().wait()
    with session.engine().hold():  # somebody else is generating
        at = ask(at, "The dog sleeps.", "What?")
        assert "yours is next" in texts(ran(at.run()))
        session.runs().get(at.query_params["run"]).cancel.set()
        at = finished(at)
    assert "Stopped" in texts(at)
    assert (
        session.runs().get(finished(ask(at, "The dog sleeps.", "What?")).query_params["run"]).state == "done"
    )


def test_a_visit_to_another_page_loses_neither_the_run_nor_the_text():
    at = opened(run="new")
    session.engine().start()
    session.engine().wait()
    with session.engine().hold():
        at = ask(at, "The dog sleeps in the sun.", "What does the dog do?")
        run_id = at.query_params["run"]
        at.query_params.clear()  # as the navigation does
        ran(at.switch_page("pages/heads.py").run())
        at.query_params.clear()
        ran(at.switch_page("pages/explore.py").run())
        assert at.text_area(key="own-context").value == "The dog sleeps in the sun."
        assert session.runs().get(run_id).active
    for _ in range(300):
        if not session.runs().get(run_id).active:
            break
        time.sleep(0.1)
    assert payload(ran(at.run()))["response"] == session.runs().get(run_id).exploration.text


def test_when_the_last_token_is_written_the_progress_speaks_of_what_follows():
    session.engine().start()
    session.engine().wait()
    task = explorations.load_example("library").task
    run = jobs.Run("test", task, jobs.Settings(max_new_tokens=3), state="running", tokens=2)
    assert "2 of at most 3 tokens" in run_progress.status_line(run)
    run.tell("done")
    assert run_progress.status_line(run) == "Attributing…"


def test_hostile_text_is_sent_as_data_and_never_as_markdown():
    at = opened(run="new")
    at.segmented_control(key="own-kind").set_value(own_text.SEVERAL).run()
    at.text_input(key="own-title-0").set_value(HOSTILE)
    at.text_area(key="own-text-0").set_value(HOSTILE)
    at.text_area(key="own-query").set_value(HOSTILE)
    at.segmented_control(key="own-way").set_value(own_text.GIVEN).run()
    at.text_area(key="own-given").set_value(HOSTILE)
    at = finished(ran(at.button(key="own-go").click().run()))
    assert payload(at)["response"] == HOSTILE
    assert payload(at)["titles"] == [HOSTILE]
    for kind in TEXT_ELEMENTS:
        assert not any("pwned" in str(element.proto) for element in at.get(kind))


# ------------------------------------------------------------------------------------------------------ uploads


def test_uploaded_files_become_documents():
    at = opened(run="new")
    at.file_uploader[0].set_value(
        [("notes.md", b"# Notes\nA note.", "text/markdown"), ("b.txt", "Zürich".encode(), "text/plain")]
    )
    ran(at.run())
    assert titles(at) == ["notes", "b"]
    assert at.segmented_control(key="own-kind").value == own_text.SEVERAL


def titles(at: AppTest) -> list[str]:
    return [at.session_state[f"own-title-{n}"] for n in at.session_state["own-documents"]]


def upload(at: AppTest, name: str) -> AppTest:
    at.file_uploader[0].set_value([(name, b"A note.", "text/plain")])
    return ran(at.run())


def test_a_document_that_has_a_title_only_outlasts_an_upload():
    at = opened(run="new")
    at.segmented_control(key="own-kind").set_value(own_text.SEVERAL).run()
    at.text_input(key="own-title-0").set_value("Report")
    assert titles(upload(ran(at.run()), "b.txt")) == ["Report", "b"]


def test_the_context_becomes_a_document_once():
    at = opened(run="new")
    at.text_area(key="own-context").set_value("The dog sleeps.")
    assert titles(upload(ran(at.run()), "a.txt")) == ["", "a"]
    at.segmented_control(key="own-kind").set_value(own_text.ONE).run()
    assert titles(upload(ran(at), "b.txt")) == ["", "a", "b"]


# ------------------------------------------------------------------------------------------------------ exports


def test_the_table_ranks_the_sources_of_the_pinned_span():
    example = explorations.load_example(explorations.gallery()[1][0])
    matrix, view = example.scores["at2"], ViewState(pin=(2, 5), granularity="sentence")
    rows = list(csv.DictReader(io.StringIO(export.ranked_table(example, matrix, view).lstrip("\ufeff"))))
    expected = [
        float(matrix[2:6, s.token_start : s.token_end].sum(axis=1).mean())
        for s in example.sources["sentence"]
    ]
    assert [float(r["score"]) for r in rows] == pytest.approx(sorted(expected, reverse=True), rel=1e-5)
    assert sum(abs(float(r["share"])) for r in rows) == pytest.approx(1)
    assert all(example.prompt.text[int(r["start"]) : int(r["end"])] == r["text"] for r in rows)


def test_the_files_say_what_their_scores_are_of():
    example = explorations.load_example(explorations.gallery()[0][0])
    matrix, view = example.scores["average"], ViewState(pin=(2, 5), granularity="word")
    whole = json.loads(export.everything(example, matrix, view, "head", (7, 3)))
    assert (whole["method"], whole["layer"], whole["head"]) == ("head", 7, 3)
    assert whole["estimator"] == {"name": None, "fingerprint": None}  # one head's attention needs none
    runs = [{"first_token": 2, "last_token": 5}]
    assert whole["target"] == {"first_token": 2, "last_token": 5, "runs": runs}
    row = next(csv.DictReader(io.StringIO(export.ranked_table(example, matrix, view, "head", (7, 3)))))
    assert (row["method"], row["layer"], row["head"], row["estimator"]) == ("head", "7", "3", "")
    assert (row["granularity"], row["first_token"], row["last_token"]) == ("word", "2", "5")
    learned = next(csv.DictReader(io.StringIO(export.ranked_table(example, matrix, view, "at2"))))
    assert learned["layer"] == ""
    assert learned["estimator_fingerprint"] == example.estimator_fingerprint
    whole = json.loads(export.everything(example, matrix, view, "at2"))
    assert whole["estimator"]["fingerprint"] == example.estimator_fingerprint


def test_a_cell_that_looks_like_a_formula_is_kept_text():
    assert export._cell("=1+1") == "'=1+1"
    assert export._cell("a=1") == "a=1"


def test_everything_as_json_adds_up_to_the_table():
    example = explorations.load_example(explorations.gallery()[0][0])
    view = ViewState(granularity="word")
    whole = json.loads(export.everything(example, example.scores["at2"], view, "at2"))
    assert np.mean(whole["scores"], axis=0) == pytest.approx(np.array(whole["target_scores"]), abs=1e-6)
    assert len(whole["sources"]) == len(example.sources["word"])


def waiting_run() -> str:
    """A run that stays active: another one holds the model."""
    engine = session.engine()
    engine.start()
    engine.wait()
    engine._queue.append("somebody else")
    task = session.explorations.load_example(session.example_ids()[0]).task
    return session.runs().start(engine, task, jobs.Settings(max_new_tokens=16)).id


def test_a_run_opened_by_its_address_is_still_there_after_another_page():
    run = waiting_run()
    at = opened(run=run)
    at.switch_page("pages/heads.py")
    ran(at.run())
    assert any("appears here when its response is done" in t.value for t in at.text)
    at.query_params.clear()
    at.switch_page("pages/explore.py")
    ran(at.run())
    assert "".join(at.query_params["run"]) == run
    assert any("yours is next" in t.value for t in at.text)
    at.query_params.clear()
    at.query_params["example"] = session.example_ids()[1]
    ran(at.run())
    ran(at.button_group(key="picked").set_value("your own text").run())
    assert "".join(at.query_params["run"]) == run


def test_a_second_press_goes_to_the_run_that_the_first_began():
    run = waiting_run()
    at = opened(run=run)
    before = len(session.runs()._runs)
    at.query_params.clear()
    at.query_params["run"] = "new"
    ran(at.run())
    ran(at.button(key="own-go").click().run())
    assert len(session.runs()._runs) == before
    assert "".join(at.query_params["run"]) == run


@pytest.mark.parametrize("history", [
    [("user", "U0"), ("user", "U1")],
    [("assistant", "A0"), ("user", "U1"), ("assistant", "A1")],
    [("user", "U0"), ("assistant", "A0"), ("assistant", "A1")],
])  # fmt: skip
def test_earlier_turns_come_back_in_their_order(history):
    from at2_core.prompts import ContextTask, Turn

    task = ContextTask(context="C", query="Q", history=tuple(Turn(*turn) for turn in history))
    typed = own_memory.as_typed(task, jobs.Settings())
    rows = range(typed["own-turns"])
    back = [
        (role, typed[key])
        for n in rows
        for role in ("user", "assistant")
        if (key := f"own-{role}-{n}") in typed
    ]
    assert back == history


def test_the_same_tokens_cut_into_other_parts_are_another_exploration(tiny_lm):
    import at2_core as at2

    one = at2.ContextTask(context="Report\nThe dog sleeps.", query="q?")
    two = at2.ContextTask(documents=[at2.Document("Report", "The dog sleeps.")], query="q?")
    found = [
        explorations.explore(tiny_lm, at2.replay(tiny_lm, task, "The dog."), None) for task in (one, two)
    ]
    assert found[0].prompt.ids == found[1].prompt.ids
    assert found[0].id != found[1].id
