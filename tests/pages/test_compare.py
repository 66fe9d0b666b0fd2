"""The Compare page, driven as a browser would: its columns hold what the engine says, and the address is its state."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import at2_core as at2
from at2_core import baselines
from at2_core.catalogue import Entry
from at2_core.estimator import Estimator
from pages.ui import compare_methods, compare_state
from pages.ui.compare_methods import Way
from pages.ui.compare_state import State
from tests.pages.comparing import address, choose, opened, scores, sent, settled
from tests.pages.driving import APP, HOSTILE, THETA, ready, texts


@pytest.fixture
def other(tiny_lm, tmp_path, monkeypatch):
    """A second estimator of the same model, in the catalogue."""
    made = Estimator(THETA[::-1].copy(), f"AT2 {HOSTILE}", tiny_lm.name, tiny_lm.fingerprint)
    monkeypatch.setattr(
        compare_methods, "list_estimators", lambda: [Entry("own", tmp_path / "other.safetensors", made)]
    )
    return made


# ------------------------------------------------------------------------------------------------- the columns


def test_it_opens_with_at2_average_attention_and_bm25_and_a_plain_address(
    exploration, tiny_lm, generation, estimator
):
    at = opened()
    shown = scores(at, exploration)
    assert list(shown) == ["at2", "average", "bm25"]
    assert address(at) == {}
    expected = at2.attribute(tiny_lm, generation, estimator, granularity="sentence").scores
    np.testing.assert_allclose(shown["at2"], expected, atol=1e-6)
    bm25 = baselines.matrix(
        baselines.find_method("bm25"), tiny_lm, generation, exploration.sources["sentence"]
    )
    np.testing.assert_allclose(shown["bm25"], bm25.scores, atol=1e-6)
    assert all(c["cost"].startswith("0 forward passes · ") for c in sent(at)["columns"])


def test_pieces_of_the_prompt_are_its_sources_and_whole_other_parts(exploration):
    payload = sent(opened(granularity="word"))
    units = payload["prompt"].encode("utf-16-le")
    pieces = np.frombuffer(base64.b64decode(payload["pieces"]), "<i4").reshape(-1, 2)
    texts = [units[2 * a : 2 * b].decode("utf-16-le") for a, b in pieces]
    sources = exploration.sources["word"]
    assert [texts[piece] for piece, _ in payload["sources"]] == [source.text for source in sources]
    assert any("🦊" in source.text for source in sources)  # a character that counts two in a browser
    assert [document for _, document in payload["sources"]] == [source.document for source in sources]
    assert {"What does the dog do?", "Foxes", HOSTILE} <= set(texts)


def test_a_costly_method_says_its_cost_and_waits_for_the_button(exploration, tiny_lm, generation):
    at = opened(methods="average,leave_one_out")
    sources = exploration.sources["sentence"]
    assert scores(at, exploration)["leave_one_out"] is None
    assert f"Leave one out: {len(sources) + 1} forward passes" in texts(at)
    settled(at.button(key="compute-leave_one_out").click().run())
    logps = at2.log_prob(
        at2.ablate(
            tiny_lm, generation, sources, np.vstack([np.ones(len(sources)), 1 - np.eye(len(sources))])
        )[..., None]
    )
    shown = scores(at, exploration)["leave_one_out"]
    np.testing.assert_allclose(shown, (logps[0] - logps[1:]).T, atol=1e-4)
    assert "forward passes" not in "\n".join(
        line for line in texts(at).splitlines() if line.startswith("Leave")
    )
    again = opened(methods="average,leave_one_out")  # a reload, or another person
    np.testing.assert_array_equal(scores(again, exploration)["leave_one_out"], shown)


def test_another_estimator_of_the_model_is_a_method_and_its_name_is_text(
    exploration, tiny_lm, generation, other
):
    key = f"theta-{other.fingerprint}"
    at = opened(methods=f"at2,{key}")
    shown = scores(at, exploration)
    expected = at2.attribute(tiny_lm, generation, other, granularity="sentence").scores
    np.testing.assert_allclose(shown[key], expected, atol=1e-6)
    assert np.abs(shown[key] - shown["at2"]).max() > 1e-3
    assert [c["name"] for c in sent(at)["columns"]] == ["AT2", f"AT2 {HOSTILE}"]
    assert not [m.value for m in at.markdown if "<script" in m.value]
    assert not [b.label for b in at.button if "<script" in b.label]


def test_estimators_of_the_same_name_are_told_apart_and_each_scores_by_its_own_theta(
    exploration, tiny_lm, generation, tmp_path, monkeypatch
):
    twins = [
        Estimator(theta, "AT2", tiny_lm.name, tiny_lm.fingerprint) for theta in (THETA[::-1].copy(), -THETA)
    ]
    entries = [Entry(str(n), tmp_path / f"{n}.safetensors", twin) for n, twin in enumerate(twins)]
    monkeypatch.setattr(compare_methods, "list_estimators", lambda: entries)
    keys = [f"theta-{twin.fingerprint}" for twin in twins]
    at = opened(methods=f"at2,{keys[1]}")
    for _ in range(2):  # what is drawn, and what comes back from the browser with the next run
        shown = scores(at, exploration)
        assert list(shown) == ["at2", keys[1]]
        expected = at2.attribute(tiny_lm, generation, twins[1], granularity="sentence").scores
        np.testing.assert_allclose(shown[keys[1]], expected, atol=1e-6)
        names = [c["name"] for c in sent(at)["columns"]]
        assert names[1] == f"AT2 · {twins[1].fingerprint}"
        assert names[0].startswith("AT2 · ")
        settled(at)
    settled(at.multiselect[0].set_value([keys[1], keys[0]]).run())
    assert address(at) == {"methods": f"{keys[1]},{keys[0]}"}
    assert len(set(at.multiselect[0].options)) == len(at.multiselect[0].options)


def test_a_name_that_looks_like_another_with_its_fingerprint_is_told_apart_too():
    made = [Estimator(theta, "mine", "m", "f") for theta in (THETA, -THETA, 2 * THETA)]
    names = ["mine", "mine", f"mine · {made[0].fingerprint}"]
    ways = {
        f"theta-{e.fingerprint}": Way(f"theta-{e.fingerprint}", n, "", e)
        for e, n in zip(made, names, strict=True)
    }
    assert len({way.name for way in compare_methods.told_apart(ways).values()}) == 3


def test_an_estimator_of_another_model_is_not_offered(exploration, tiny_lm, tmp_path, monkeypatch):
    foreign = Estimator(THETA, "foreign", "another-model", "0" * 12)
    monkeypatch.setattr(compare_methods, "list_estimators", lambda: [Entry("own", tmp_path / "x", foreign)])
    at = opened(methods=f"average,theta-{foreign.fingerprint}")
    assert list(scores(at, exploration)) == ["average"]
    assert "foreign" not in at.multiselect[0].options


def test_one_method_is_too_few_and_none_leaves_a_sentence(exploration):
    at = opened(methods="average,bm25")
    at.multiselect[0].set_value(["average"]).run()
    assert "Choose at least two methods" in texts(at)
    at.multiselect[0].set_value([]).run()
    assert "Choose at least two methods" in texts(at)
    assert not [c for c in at.get("bidi_component") if "-compare-" in c.proto.id]


# ------------------------------------------------------------------------------------------------- the address


def test_what_is_chosen_is_in_the_address_and_comes_back_from_it(exploration):
    at = opened()
    at.multiselect[0].set_value(["at2", "random", "bm25"]).run()
    choose(at, pin=[1, 2], unit="token", difference=["bm25", "at2"])
    at.segmented_control[0].set_value("word").run()
    wanted = {
        "methods": "at2,random,bm25",
        "granularity": "word",
        "unit": "token",
        "pin": "1-2",
        "difference": "bm25,at2",
    }
    assert address(at) == wanted
    again = opened(**wanted)
    assert address(again) == wanted
    assert sent(again)["initial"] == {"pin": [1, 2], "unit": "token", "difference": ["bm25", "at2"]}
    assert sent(again)["granularity"] == "word"


def test_what_was_pinned_on_explore_is_pinned_here_until_it_is_let_go(exploration):
    ready()
    fresh = AppTest.from_file(str(APP), default_timeout=60)
    fresh.query_params["run"] = "test"
    fresh.session_state["explore-kept"] = (exploration.id, {"pin": "1-2"})
    fresh.run()
    fresh.session_state["explore-kept"] = (exploration.id, {"pin": "1-2"})
    settled(fresh.switch_page("pages/compare.py").run())
    assert address(fresh) == {"pin": "1-2"}
    assert address(choose(fresh)) == {}


def test_a_pin_does_not_send_the_matrices_again(exploration):
    at = opened()
    before = sent(at)
    assert sent(choose(at, pin=[0, 3])) == before


def test_nonsense_in_the_address_is_dropped(exploration):
    at = opened(methods="nonsense,at2,at2", granularity="letter", unit="x", pin="5-2", difference="at2,at2")
    assert list(scores(at, exploration)) == ["at2"]
    assert address(at) == {"methods": "at2"}


@pytest.mark.parametrize("state", [
    State(("at2", "average")),
    State(("bm25", "at2", "random"), "word", "token", (0, 4), ("random", "bm25")),
])  # fmt: skip
def test_a_state_survives_its_address(state):
    usual = ("at2", "average")
    assert (
        compare_state.read(compare_state.write(state, usual), ["at2", "average", "bm25", "random"], usual, 5)
        == state
    )


def test_what_a_browser_sends_is_checked(exploration):
    at = opened()
    choose(at, pin=[3, 10**9], unit=7, difference=["at2", "leave_one_out"])
    assert address(at) == {}


def test_a_response_that_is_gone_is_told(exploration):
    at = AppTest.from_file(str(APP), default_timeout=60)
    at.query_params["run"] = "gone"
    ran = at.switch_page("pages/compare.py").run()
    assert not ran.exception
    assert "That generation is not on this server any more; here is an example." in texts(ran)
