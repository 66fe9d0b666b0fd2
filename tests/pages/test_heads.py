"""The Heads page, driven as a browser would: what it draws equals what the engine says, and the address is its state."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from hypothesis import given
from hypothesis import strategies as some
from streamlit.testing.v1 import AppTest

import at2_core as at2
from at2_core import exploration as explorations
from at2_core import models
from at2_core.estimator import Estimator, save_estimator
from pages.ui import example_views, head_state, session
from pages.ui.head_grid import head_figure, ranks
from pages.ui.head_mute import change, rank_correlation, source_scores
from pages.ui.head_reading import short, source_name
from pages.ui.jobs import Run, Settings

APP = Path(__file__).parents[2] / "app.py"
THETA = np.array([[0.1, -0.3, 0.05, 0.2], [0.0, 0.4, -0.15, 0.25]], np.float32)  # strongest: layer 1, head 1
DOCUMENTS = [
    at2.Document("Foxes", "The quick brown fox jumps. The dog sleeps in the sun."),
    at2.Document("<script>alert(1)</script>", "Paris is the capital of France. *Berlin* is not."),
]


# ------------------------------------------------------------------------------------------------ the page


@pytest.fixture
def estimator(tiny_lm, tmp_path):
    made = Estimator(THETA, "made for this test", tiny_lm.name, tiny_lm.fingerprint)
    save_estimator(made, tmp_path / "theta.safetensors")
    return made


@pytest.fixture
def exploration(tiny_lm, estimator, tiny_folder, tmp_path, monkeypatch):
    """An exploration by the tiny model, findable as ?run=test, on a server that has the tiny model and this estimator."""
    exact = partial(
        models.load_model, device="cpu", dtype="float32"
    )  # by itself it takes bfloat16 where it can
    monkeypatch.setattr(models, "load_model", exact)
    monkeypatch.setattr(session, "MODEL", str(tiny_folder("llama")))
    monkeypatch.setattr(session, "ESTIMATOR", str(tmp_path / "theta.safetensors"))
    st.cache_resource.clear()
    task = at2.ContextTask(documents=DOCUMENTS, query="What does the dog do?")
    made = at2.explore(tiny_lm, at2.replay(tiny_lm, task, "The dog sleeps. Paris is far away."), estimator)
    session.runs()._runs["test"] = Run("test", task, Settings(), state="done", exploration=made)
    yield made
    st.cache_resource.clear()


def opened(wait: bool = True, **params: str) -> AppTest:
    if wait:
        session.engine().start()
        session.engine().wait()
    at = AppTest.from_file(str(APP), default_timeout=60)
    at.query_params["run"] = "test"
    at.run()
    for name, value in params.items():
        at.query_params[name] = value
    at.switch_page("pages/heads.py").run()
    assert not at.exception
    return at


def grid(at: AppTest):
    return at.get("plotly_chart")[0]


def drawn(chart) -> np.ndarray:
    """The numbers in the heatmap, (heads, layers)."""
    z = json.loads(chart.proto.spec)["data"][0]["z"]
    if isinstance(z, list):
        return np.array(z)
    shape = [int(n) for n in z["shape"].split(",")]
    return np.frombuffer(base64.b64decode(z["bdata"]), z["dtype"]).reshape(shape)


def payloads(at: AppTest, key: str) -> list[dict]:
    """What components whose key begins so were sent, parsed as the browser does."""
    found = [c.proto for c in at.get("bidi_component") if f"-{key}" in c.proto.id]
    return [json.loads(proto.json) for proto in found]


def matrices(at: AppTest) -> dict[str, np.ndarray]:
    (sent,) = payloads(at, "heads-matrix")
    shape = len(sent["response"]), len(sent["prompt"])
    return {
        h["id"]: np.frombuffer(base64.b64decode(h["weights"]), "<f4").reshape(shape) for h in sent["heads"]
    }


def click(at: AppTest, *points: int) -> AppTest:
    """What the browser sends for a click (or shift-clicks) on the grid; Streamlit has no public way to say it."""
    states = at._tree.get_widget_states()
    widget = states.widgets.add()
    widget.id = grid(at).proto.id
    chosen = [{"point_index": p, "curve_number": 1} for p in points]
    selection = {"points": chosen, "point_indices": list(points), "box": [], "lasso": []}
    widget.string_value = json.dumps({"selection": selection})
    return at._run(states)


def send(at: AppTest, key: str, **state) -> AppTest:
    """What a component sends when its state changes."""
    (component,) = [c for c in at.get("bidi_component") if f"-{key}" in c.proto.id]
    states = at._tree.get_widget_states()
    widget = states.widgets.add()
    widget.id = component.proto.id
    widget.json_value = json.dumps(state)
    return at._run(states)


def address(at: AppTest) -> dict[str, str]:
    return {k: v[0] if isinstance(v, list) else v for k, v in at.query_params.items() if k in head_state.KEYS}


def said(at: AppTest) -> str:
    return "\n".join(text.value for text in at.text)


def test_the_grid_shows_theta_with_layers_across_and_frames_the_strongest_head(exploration):
    at = opened()
    np.testing.assert_allclose(drawn(grid(at)), THETA.T)
    assert json.loads(grid(at).proto.spec)["data"][1]["selectedpoints"] == [5]
    assert address(at) == {}


def test_the_ranking_lists_every_head_largest_first(exploration):
    (sent,) = payloads(opened(), "heads-ranking")
    assert [divmod(i, sent["heads"]) for i in sent["order"][:3]] == [(1, 1), (0, 1), (1, 3)]
    np.testing.assert_allclose(sent["values"], sorted(THETA.ravel(), key=abs, reverse=True))


def test_a_click_on_a_cell_shows_that_heads_attention(exploration, tiny_lm):
    at = click(opened(), 2)
    assert address(at) == {"layer": "0", "head": "2"}
    generation = at2.replay(tiny_lm, exploration.task, exploration.text)
    expected = at2.head_attention(tiny_lm, generation, 0, 2)
    np.testing.assert_allclose(matrices(at)["0.2"], expected, atol=1e-6)


def test_a_click_leaves_the_grid_the_same_widget(exploration):
    at = opened()
    before = grid(at).proto.id
    assert grid(click(at, 3)).proto.id == before


def test_shift_clicks_put_heads_side_by_side_and_four_is_the_most(exploration):
    at = click(opened(), 2)
    click(at, 2, 4)
    assert address(at) == {"layer": "0", "head": "2", "compare": "1.0"}
    assert list(matrices(at)) == ["0.2", "1.0"]
    click(at, 0, 1, 2, 3, 4)
    assert len(matrices(at)) == 4


def test_while_comparing_a_click_adds_a_head_and_a_second_takes_it_away(exploration):
    at = opened(layer="0", head="2")
    at.toggle(key="heads-comparing").set_value(True).run()
    for head in (4, 7, 0):
        click(at, head)
    assert list(matrices(at)) == ["0.2", "1.0", "1.3", "0.0"]
    assert json.loads(grid(at).proto.spec)["data"][1]["selectedpoints"] == [2, 4, 7, 0]
    click(at, 1)  # a fifth
    assert len(matrices(at)) == 4
    click(at, 7)
    assert address(at) == {"layer": "0", "head": "2", "compare": "1.0,0.0"}
    at.toggle(key="heads-comparing").set_value(False).run()
    assert address(at) == {"layer": "0", "head": "2"}
    click(at, 7)
    assert list(matrices(at)) == ["1.3"]


def test_taking_the_frame_away_keeps_the_head(exploration):
    at = click(opened(), 2)
    click(at)
    assert address(at) == {"layer": "0", "head": "2"}
    assert json.loads(grid(at).proto.spec)["data"][1]["selectedpoints"] == [2]


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


def test_the_contribution_grid_is_theta_times_attention_to_the_sources(exploration, tiny_lm):
    generation = at2.replay(tiny_lm, exploration.task, exploration.text)
    features = at2.head_features(tiny_lm, generation, "sentence")  # (layers, heads, T, S)
    everything = THETA * features[:, :, 1:4].mean(axis=2).sum(axis=2)
    at = opened(grid="contribution", pin="1-3")
    np.testing.assert_allclose(drawn(grid(at)), everything.T, atol=1e-6)
    assert f"add up to the score {everything.sum():.4f}" in said(at)
    at = opened(grid="contribution", pin="1-3", source="1")
    np.testing.assert_allclose(drawn(grid(at)), (THETA * features[:, :, 1:4, 1].mean(axis=2)).T, atol=1e-6)


def test_muting_shows_the_attribution_without_the_heads_and_says_what_changed(exploration, tiny_lm):
    at = opened(mute="1.1,0.3", view="without")
    generation = at2.replay(tiny_lm, exploration.task, exploration.text)
    kept = THETA.copy()
    kept[1, 1] = kept[0, 3] = 0
    expected = sum(
        kept[layer, head] * at2.head_attention(tiny_lm, generation, layer, head)
        for layer in range(2)
        for head in range(4)
    )
    before, after = (
        np.frombuffer(base64.b64decode(sent["scores"]), "<f4").reshape(expected.shape)
        for sent in payloads(at, "heads-without")
    )
    np.testing.assert_allclose(after, expected, atol=1e-6)
    np.testing.assert_allclose(before, exploration.scores["at2"], atol=1e-6)
    assert "the top source" in said(at)
    assert "rank correlation" in said(at)
    at.button(key="heads-unmute").click().run()
    assert "mute" not in address(at)
    assert len(matrices(at)) == 1


def test_attention_can_be_seen_on_the_text(exploration, tiny_lm):
    at = opened(layer="0", head="2", view="text")
    (sent,) = payloads(at, "heads-text")
    generation = at2.replay(tiny_lm, exploration.task, exploration.text)
    scores = np.frombuffer(base64.b64decode(sent["scores"]), "<f4")
    np.testing.assert_allclose(scores, at2.head_attention(tiny_lm, generation, 0, 2).ravel(), atol=1e-6)
    assert sent["compact"] is True


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
    session.engine().start()
    session.engine().wait()
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
    session.engine().start()
    session.engine().wait()
    at = AppTest.from_file(str(APP), default_timeout=60).run()
    assert not at.exception
    at.switch_page("pages/heads.py").run()
    assert address(at) == {"pin": "1-3"}


def test_an_example_of_another_model_has_no_contributions_and_the_page_says_so(exploration, monkeypatch):
    another = replace(exploration, model="another/model")
    monkeypatch.setattr(explorations, "gallery", lambda: [("another", "Another", "")])
    monkeypatch.setattr(explorations, "load_example", {"another": another}.__getitem__)
    session.engine().start()
    session.engine().wait()
    at = AppTest.from_file(str(APP), default_timeout=60)
    at.query_params["example"] = "another"
    at.switch_page("pages/heads.py").run()
    at.query_params["grid"] = "contribution"
    at.run()
    assert not at.exception
    assert "This was made with another/model" in said(at)


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
    assert says in said(at)
    assert "your former text" in said(at)
    assert ("It was too long." in said(at)) == (state == "failed")
    assert "no response yet" not in said(at)
    assert at.selectbox(key="heads-example").value == "your own text"
    example = session.example_ids()[0]
    at.selectbox(key="heads-example").set_value(example).run()
    assert at.query_params["example"] == example or at.query_params["example"] == [example]


def test_while_an_own_text_is_not_there_the_picker_says_which_example_is(exploration):
    second = session.example_ids()[1]
    session.engine().start()
    session.engine().wait()
    at = AppTest.from_file(str(APP), default_timeout=60)
    at.query_params["example"] = second
    at.run()
    at.query_params.clear()
    at.query_params["run"] = "new"
    at.switch_page("pages/heads.py").run()
    assert at.selectbox(key="heads-example").value == second
    assert "no response yet; here is an example" in said(at)


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


def test_theta_is_drawn_while_the_model_is_still_loading(exploration, monkeypatch):
    monkeypatch.setattr(session.Engine, "_load", lambda engine: None)
    at = opened(wait=False)
    np.testing.assert_allclose(drawn(grid(at)), THETA.T)
    assert "Loading the model" in said(at)
    at = opened(wait=False, grid="contribution")
    assert not at.get("plotly_chart")


def test_while_the_model_is_taken_a_click_changes_all_but_the_pattern(exploration):
    session.engine().start()
    session.engine().wait()
    with session.engine().hold():  # a generation is running
        at = click(opened(), 2)
        assert address(at) == {"layer": "0", "head": "2"}
        assert any("Layer 0, head 2" in heading.value for heading in at.markdown)
        assert at.button(key="heads-mute-0-2")
        (ranking,) = payloads(at, "heads-ranking")
        assert ranking["picks"] == [[0, 2]]
        assert "The model is busy. The attention" in said(at)
        session.runs()._runs["test"].state = "running"
        assert "busy with your own text" in said(at.run())
        session.runs()._runs["test"].state = "done"
        assert not payloads(at, "heads-matrix")
        assert not opened(grid="contribution").get("plotly_chart")
    assert list(matrices(at.run())) == ["0.2"]


def test_negative_numbers_carry_a_minus_sign(exploration):
    at = opened(layer="0", head="1")
    assert "coefficient −0.3," in said(at)
    figure = json.loads(grid(at).proto.spec)
    assert figure["data"][0]["colorbar"]["ticktext"] == ["−0.4", "0", "0.4"]
    assert not any("-" in label for label in figure["data"][1]["customdata"])


def test_a_token_on_the_text_is_not_said_to_be_of_the_first_document(exploration):
    (sent,) = payloads(opened(view="text"), "heads-text")
    rows = np.frombuffer(base64.b64decode(sent["sources"]["token"]), "<i4").reshape(-1, 5)
    assert set(rows[:, 4]) == {-1}
    assert {part["role"] for part in sent["parts"]} >= {"Query"}


def test_a_model_that_cannot_be_loaded_is_said_beside_the_grid(exploration, monkeypatch):
    monkeypatch.setattr(session, "MODEL", "no-such-model-in-any-catalogue.gguf")
    session.engine().start()
    while session.engine().status == "loading":
        time.sleep(0.05)
    at = opened(wait=False)
    np.testing.assert_allclose(drawn(grid(at)), THETA.T)
    assert session.engine().message in said(at)


def test_without_an_estimator_every_head_counts_the_same_and_the_page_says_so(exploration, monkeypatch):
    monkeypatch.setattr(session, "ESTIMATOR", "")
    at = opened()
    np.testing.assert_allclose(drawn(grid(at)), np.full((4, 2), 1 / 8))
    assert "average attention" in said(at)


# ------------------------------------------------------------------------------------------ how sure theta is

DEVIATION = np.array([[0.02, 0.2, 0.1, 0.05], [0.01, 0.1, 0.02, 0.2]], np.float32)
UNSURE = {(0, 1), (0, 2), (1, 0), (1, 3)}  # |theta| below two deviations


@pytest.fixture
def with_deviation(exploration, estimator, tmp_path):
    save_estimator(replace(estimator, deviation=DEVIATION), tmp_path / "theta.safetensors")
    return exploration


def spec(at: AppTest) -> dict:
    return json.loads(grid(at).proto.spec)


def test_cells_rows_and_notes_say_how_sure_a_coefficient_is(with_deviation):
    at = opened()
    labels = spec(at)["data"][1]["customdata"]
    assert labels[5].startswith("+0.4 ± 0.1<br>rank 1 of 8")
    assert labels[1].startswith("−0.3 ± 0.2 (unsure)<br>")
    (sent,) = payloads(at, "heads-ranking")
    np.testing.assert_allclose(sent["deviations"], DEVIATION.ravel()[sent["order"]])
    assert "coefficient +0.4 ± 0.1, rank 1 of 8" in said(at)


def test_the_grid_can_show_the_deviation_while_the_ranking_keeps_theta(with_deviation):
    at = opened()
    at.toggle(key="heads-deviation").set_value(True).run()
    np.testing.assert_allclose(drawn(grid(at)), DEVIATION.T)
    assert spec(at)["data"][1]["customdata"][5].startswith("0.1<br>coefficient +0.4 ± 0.1")
    assert address(at) == {"deviation": "1"}
    assert "4 of 8 heads are unsure" in said(at)
    (sent,) = payloads(at, "heads-ranking")
    np.testing.assert_allclose(sent["values"], sorted(THETA.ravel(), key=abs, reverse=True))


def test_unsure_heads_can_be_faded_in_grid_and_ranking(with_deviation):
    at = opened()
    assert len(spec(at)["data"]) == 4
    at.toggle(key="heads-fade").set_value(True).run()
    certain = drawn(grid(at)).T
    assert {head for head, value in np.ndenumerate(certain) if np.isnan(value.astype(float))} == UNSURE
    assert spec(at)["data"][4]["opacity"] < 0.5
    (sent,) = payloads(at, "heads-ranking")
    assert {divmod(i, 4) for i, faint in zip(sent["order"], sent["faint"], strict=True) if faint} == UNSURE
    assert address(at) == {"fade": "1"}
    before = grid(at).proto.id
    assert grid(click(at, 3)).proto.id == before


def test_without_deviations_nothing_of_this_is_shown(exploration):
    at = opened(deviation="1", fade="1")
    np.testing.assert_allclose(drawn(grid(at)), THETA.T)
    assert not [t for t in at.toggle if t.key in ("heads-deviation", "heads-fade")]
    assert "±" not in said(at) + "".join(spec(at)["data"][1]["customdata"])
    assert payloads(at, "heads-ranking")[0]["deviations"] is None


def test_the_contribution_grid_has_no_deviations(with_deviation):
    at = opened(grid="contribution", deviation="1", fade="1")
    assert not [t for t in at.toggle if t.key in ("heads-deviation", "heads-fade")]
    assert payloads(at, "heads-ranking")[0]["deviations"] is None


# ---------------------------------------------------------------------------------------------- its parts

texts = some.text(alphabet="0123456789.,-x٣ ", max_size=12)


@given(some.fixed_dictionaries({}, optional=dict.fromkeys(head_state.KEYS, texts)))
def test_any_address_gives_a_state_that_its_own_address_gives_again(params):
    def read(address):
        return head_state.read(address, (30, 9), (3, 4), num_tokens=20, num_sources=5)

    state = read(params)
    assert 1 <= len(state.picks) <= head_state.MAX_COMPARED
    assert all(0 <= layer < 30 and 0 <= head < 9 for layer, head in state.picks + state.mute)
    assert read(head_state.write(state, (3, 4))) == state


def test_points_of_the_figure_are_the_heads_in_reading_order():
    figure = head_figure(THETA, "coefficient", ((0, 2),), ((1, 1),))
    points = list(zip(figure.data[1].x, figure.data[1].y, strict=True))
    assert points == [divmod(i, 4) for i in range(8)]
    assert "+0.4<br>rank 1 of 8" in figure.data[1].customdata[5]
    assert [(t.x, t.y) for t in figure.data[2:] if t.x] == [((1,), (1,))]


def test_equal_heads_are_drawn_without_dividing_by_zero():
    assert head_figure(np.zeros((2, 4), np.float32), "coefficient", (), ()).data[0].zmax == 1.0


def test_a_text_on_one_line_keeps_its_direction_and_its_length():
    assert short("one \u202etwo\n three") == "one two three"
    assert len(short("word " * 40, 24)) <= 24


def test_ranks_go_by_size_not_by_sign():
    assert ranks(THETA).tolist() == [[6, 2, 7, 4], [8, 1, 5, 3]]


def test_rank_correlation_by_counting_pairs_of_ranks():
    a, b = np.array([3.0, 1.0, 2.0, 5.0]), np.array([30.0, 10.0, 20.0, 50.0])
    assert rank_correlation(a, b) == pytest.approx(1)
    assert rank_correlation(a, -b) == pytest.approx(-1)
    # Without ties: 1 - 6 * sum of squared rank differences / (n * (n * n - 1)).
    c = np.array([1.0, 3.0, 2.0, 4.0])
    assert rank_correlation(a, c) == pytest.approx(1 - 6 * (2**2 + 2**2) / (4 * 15))
    assert rank_correlation(a, np.ones(4)) is None
    assert rank_correlation(a[:2], b[:2]) is None


def test_source_scores_are_means_over_the_span_and_sums_over_tokens(exploration):
    sources = exploration.sources["sentence"]
    scores = source_scores(exploration.scores["at2"], sources, (1, 3))
    s = sources[2]
    by_hand = exploration.scores["at2"][1:4, s.token_start : s.token_end].mean(axis=0).sum()
    assert scores[2] == pytest.approx(by_hand, rel=1e-5)
    assert change(scores, scores).top_before == change(scores, scores).top_after
    assert change(scores[:0], scores[:0]) is None
