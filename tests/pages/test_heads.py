"""The Heads page, driven as a browser would: what it draws equals what the engine says, also of how sure theta is."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace

import numpy as np
import pytest

import at2_core as at2
from at2_core.attribution import source_features
from at2_core.estimator import save_estimator
from pages.ui import session
from tests.pages.driving import THETA, payloads, ready, texts
from tests.pages.head_driving import address, click, drawn, grid, matrices, opened, spec


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


def test_the_contribution_grid_is_theta_times_attention_to_the_sources(exploration, tiny_lm):
    generation = at2.replay(tiny_lm, exploration.task, exploration.text)
    features = at2.head_features(tiny_lm, generation, "sentence")  # (layers, heads, T, S)
    everything = THETA * features[:, :, 1:4].mean(axis=2).sum(axis=2)
    at = opened(grid="contribution", pin="1-3")
    np.testing.assert_allclose(drawn(grid(at)), everything.T, atol=1e-6)
    assert f"add up to the score {everything.sum():.4f}" in texts(at)
    at = opened(grid="contribution", pin="1-3", source="1")
    np.testing.assert_allclose(drawn(grid(at)), (THETA * features[:, :, 1:4, 1].mean(axis=2)).T, atol=1e-6)


def test_what_heads_wrote_is_shown_without_any_coefficient(exploration, tiny_lm):
    generation = at2.replay(tiny_lm, exploration.task, exploration.text)
    sources = at2.cut(generation.rendered, "sentence")
    wrote = source_features(tiny_lm, generation, sources, [slice(1, 4)], direct=True)[:, :, 0].numpy()
    at = opened(grid="written", pin="1-3")
    np.testing.assert_allclose(drawn(grid(at)), wrote.sum(axis=2).T, atol=1e-6)
    assert "made the response's tokens likelier" in texts(at)
    assert f"{wrote.sum():+.2f} nats a token".replace("-", "−") in texts(at)
    at = opened(grid="written", pin="1-3", source="1")
    np.testing.assert_allclose(drawn(grid(at)), wrote[:, :, 1].T, atol=1e-6)


def test_an_estimator_with_direct_coefficients_shows_both_and_counts_both(
    exploration, estimator, tiny_lm, tmp_path
):
    direct = np.linspace(-1, 1, THETA.size, dtype=np.float32).reshape(THETA.shape)
    both = replace(estimator, direct=direct)
    save_estimator(both, tmp_path / "theta.safetensors")
    ready()
    session.engine().estimator = both
    at = opened(grid="direct")
    np.testing.assert_allclose(drawn(grid(at)), direct.T)
    at = opened(grid="contribution")
    whole = at2.attribute(tiny_lm, session.generation_of(exploration), both).scores.mean(axis=0).sum()
    assert abs(drawn(grid(at)).sum() - whole) < 1e-5
    session.engine().estimator = estimator
    assert "δ" not in "".join(grid_names(opened(grid="direct"))), "without them the grid is that of theta"
    np.testing.assert_allclose(drawn(grid(opened(grid="direct"))), THETA.T)


def grid_names(at):
    return next(c.options for c in at.segmented_control if c.key == "heads-grid")


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
    assert "the top source" in texts(at)
    assert "rank correlation" in texts(at)
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
    first = scores.reshape(len(exploration.response_ids), -1)[:, 0].mean()
    assert f"The first token takes {100 * first:.0f} % of this head's attention and is left out" in texts(at)
    assert "The first token takes" not in texts(opened(layer="0", head="2", view="text", sink="1"))


def test_theta_is_drawn_while_the_model_is_still_loading(exploration, monkeypatch):
    monkeypatch.setattr(session.Engine, "_load", lambda engine: None)
    at = opened(wait=False)
    np.testing.assert_allclose(drawn(grid(at)), THETA.T)
    assert "Loading the model" in texts(at)
    at = opened(wait=False, grid="contribution")
    assert not at.get("plotly_chart")


def test_while_the_model_is_taken_a_click_changes_all_but_the_pattern(exploration):
    ready()
    with session.engine().hold():  # a generation is running
        at = click(opened(), 2)
        assert address(at) == {"layer": "0", "head": "2"}
        assert any("Layer 0, head 2" in heading.value for heading in at.markdown)
        assert at.button(key="heads-mute-0-2")
        (ranking,) = payloads(at, "heads-ranking")
        assert ranking["picks"] == [[0, 2]]
        assert "The model is busy. The attention" in texts(at)
        session.runs()._runs["test"].state = "running"
        assert "busy with your own text" in texts(at.run())
        session.runs()._runs["test"].state = "done"
        assert not payloads(at, "heads-matrix")
        assert not opened(grid="contribution").get("plotly_chart")
    assert list(matrices(at.run())) == ["0.2"]


def test_negative_numbers_carry_a_minus_sign(exploration):
    at = opened(layer="0", head="1")
    assert "coefficient −0.3," in texts(at)
    figure = json.loads(grid(at).proto.spec)
    assert figure["data"][0]["colorbar"]["ticktext"] == ["−0.4", "0", "0.4"]
    assert not any("-" in label for label in figure["data"][1]["customdata"])


def test_a_token_on_the_text_is_not_said_to_be_of_the_first_document(exploration):
    (sent,) = payloads(opened(view="text"), "heads-text")
    rows = np.frombuffer(base64.b64decode(sent["sources"]["token"]), "<i4").reshape(-1, 7)
    assert set(rows[:, 4]) == {-1}
    assert {part["role"] for part in sent["parts"]} >= {"Query"}


def test_a_model_that_cannot_be_loaded_is_said_beside_the_grid(exploration, monkeypatch):
    monkeypatch.setattr(session, "MODEL", "no-such-model-in-any-catalogue.gguf")
    session.engine().start()
    while session.engine().status == "loading":
        time.sleep(0.05)
    at = opened(wait=False)
    np.testing.assert_allclose(drawn(grid(at)), THETA.T)
    assert session.engine().message in texts(at)


def test_without_an_estimator_every_head_counts_the_same_and_the_page_says_so(exploration, monkeypatch):
    monkeypatch.setattr(session, "ESTIMATOR", "")
    at = opened()
    np.testing.assert_allclose(drawn(grid(at)), np.full((4, 2), 1 / 8))
    assert "average attention" in texts(at)


# ------------------------------------------------------------------------------------------------- how sure theta is


DEVIATION = np.array([[0.02, 0.2, 0.1, 0.05], [0.01, 0.1, 0.02, 0.2]], np.float32)


UNSURE = {(0, 1), (0, 2), (1, 0), (1, 3)}  # |theta| below two deviations


@pytest.fixture
def with_deviation(exploration, estimator, tmp_path):
    save_estimator(replace(estimator, deviation=DEVIATION), tmp_path / "theta.safetensors")
    return exploration


def test_cells_rows_and_notes_say_how_sure_a_coefficient_is(with_deviation):
    at = opened()
    labels = spec(at)["data"][1]["customdata"]
    assert labels[5].startswith("+0.4 ± 0.1<br>rank 1 of 8")
    assert labels[1].startswith("−0.3 ± 0.2 (unsure)<br>")
    (sent,) = payloads(at, "heads-ranking")
    np.testing.assert_allclose(sent["deviations"], DEVIATION.ravel()[sent["order"]])
    assert "coefficient +0.4 ± 0.1, rank 1 of 8" in texts(at)


def test_the_grid_can_show_the_deviation_while_the_ranking_keeps_theta(with_deviation):
    at = opened()
    at.toggle(key="heads-deviation").set_value(True).run()
    np.testing.assert_allclose(drawn(grid(at)), DEVIATION.T)
    assert spec(at)["data"][1]["customdata"][5].startswith("0.1<br>coefficient +0.4 ± 0.1")
    assert address(at) == {"deviation": "1"}
    assert "4 of 8 heads are unsure" in texts(at)
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
    assert "±" not in texts(at) + "".join(spec(at)["data"][1]["customdata"])
    assert payloads(at, "heads-ranking")[0]["deviations"] is None


def test_the_contribution_grid_has_no_deviations(with_deviation):
    at = opened(grid="contribution", deviation="1", fade="1")
    assert not [t for t in at.toggle if t.key in ("heads-deviation", "heads-fade")]
    assert payloads(at, "heads-ranking")[0]["deviations"] is None
