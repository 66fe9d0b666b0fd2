"""The Estimators page, and what choosing an estimator there changes on Explore and Heads."""

from __future__ import annotations

import base64
import io
import json
import os
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
import torch
from streamlit.testing.v1 import AppTest

import at2_core as at2
from at2_core import catalogue, models
from at2_core.catalogue import add_estimator, list_estimators
from pages.ui import estimator_cards, estimator_choice, estimator_scores, session
from pages.ui.jobs import Run, Settings

APP = Path(__file__).parents[2] / "app.py"
RNG = np.random.default_rng(3)
MINE, OTHER = (RNG.normal(size=(2, 4)).astype(np.float32) for _ in range(2))
HOSTILE = "<script>top.pwned=1</script> ![i](http://evil.example/i.png) **b** :red[x] \x1b[31m"
MARKUP = ("markdown", "html", "info", "error", "warning", "success", "caption", "badge")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch, tiny_folder):
    """A fresh server with the tiny model, and an empty folder of estimators."""
    exact = partial(models.load_model, device="cpu", dtype="float32")
    monkeypatch.setattr(models, "load_model", exact)
    monkeypatch.setattr(session, "MODEL", str(tiny_folder("llama")))
    monkeypatch.setattr(session, "HEAD_START", 0)
    monkeypatch.setattr(catalogue, "own_home", lambda: tmp_path / "home")
    st.cache_resource.clear()
    yield tmp_path / "home"
    st.cache_resource.clear()


@pytest.fixture
def exploration(tiny_lm):
    """Findable as ?run=test; the tiny model has no estimator of its own."""
    task = at2.ContextTask(context="The dog sleeps in the sun. Paris is far.", query="What does the dog do?")
    made = at2.explore(tiny_lm, at2.replay(tiny_lm, task, "The dog sleeps. Paris is far away."), None)
    session.runs()._runs["test"] = Run("test", task, Settings(), state="done", exploration=made)
    return made


def estimator(tiny_lm, theta=MINE, name="mine", **fields) -> at2.Estimator:
    return at2.Estimator(theta, name, tiny_lm.name, tiny_lm.fingerprint, **fields)


def ready() -> None:
    session.engine().start()
    session.engine().wait()


def opened(page: str = "estimators", wait: bool = True, **address: str) -> AppTest:
    if wait:
        ready()
    at = AppTest.from_file(str(APP), default_timeout=60)
    for key, value in address.items():
        at.query_params[key] = value
    if page != "explore":
        at.run()
        for key, value in address.items():
            at.query_params[key] = value
        at.switch_page(f"pages/{page}.py")
    return ran(at.run())


def ran(at: AppTest) -> AppTest:
    assert not at.exception, at.exception
    return at


def said(at: AppTest) -> str:
    return "\n".join(text.value for text in at.text)


def press(at: AppTest, kind: str, nth: int = 0) -> AppTest:
    return ran([b for b in at.button if (b.key or "").startswith(f"estimator-{kind}-")][nth].click().run())


def go(at: AppTest, page: str, **address: str) -> AppTest:
    """To another page, as the navigation does it: with an address of its own."""
    at.query_params.clear()
    for key, value in address.items():
        at.query_params[key] = value
    return ran(at.switch_page(f"pages/{page}.py").run())


def sent(at: AppTest) -> np.ndarray:
    """The score matrix that Explore sent to the browser."""
    data = json.loads(at.get("bidi_component")[0].proto.json)
    return np.frombuffer(base64.b64decode(data["scores"]), "<f4").reshape(
        data["counts"][1], data["counts"][0]
    )


def theta_drawn(at: AppTest) -> np.ndarray:
    z = json.loads(at.get("plotly_chart")[0].proto.spec)["data"][0]["z"]
    if isinstance(z, list):
        return np.array(z).T
    return (
        np.frombuffer(base64.b64decode(z["bdata"]), z["dtype"])
        .reshape([int(n) for n in z["shape"].split(",")])
        .T
    )


def by_hand(tiny_lm, exploration, theta: np.ndarray) -> np.ndarray:
    """theta times each head's attention, one head at a time."""
    generation = at2.replay(tiny_lm, exploration.task, exploration.text)
    return sum(
        theta[layer, head] * at2.head_attention(tiny_lm, generation, layer, head)
        for layer in range(2)
        for head in range(4)
    )


# ------------------------------------------------------------------------------------------------- the list


def test_it_lists_each_estimator_with_what_one_wants_to_know(tiny_lm):
    metadata = {
        "data": {"name": "my data", "licence": "CC0"},
        "validation": {
            "correlation": 0.4321,
            "examples_validation": 76,
            "correlation_average_attention": 0.1,
        },
    }
    add_estimator(estimator(tiny_lm, metadata=metadata, deviation=np.abs(MINE)))
    text = said(opened())
    for part in (
        "0.432 on 76 held-out",
        "average attention reaches 0.100",
        "my data",
        "CC0",
        "2 layers × 4 heads",
    ):
        assert part in text
    assert f"fits {tiny_lm.name}" in text
    assert "with their deviations" in text


def test_what_does_not_fit_says_why_and_cannot_be_used():
    at = opened()
    bundled = list_estimators()[0]
    why = "does not fit tiny-llama, which has 2 layers of 4 heads"
    assert f"For {bundled.model} · {why}\nθ: 30 layers × 9 heads" in said(at)
    uses = [b.disabled for b in at.button if (b.key or "").startswith("estimator-use-")]
    assert uses
    assert all(uses)


def test_a_damaged_file_is_listed_with_the_reason_and_can_be_removed(home):
    home.mkdir()
    (home / "broken.safetensors").write_bytes(b"not a file")
    at = opened()
    assert "broken.safetensors is no estimator" in said(at)
    press(at, "remove")
    assert not (home / "broken.safetensors").exists()
    assert "broken" not in said(at)


def test_the_page_opens_while_the_model_is_loading(monkeypatch, tiny_lm):
    monkeypatch.setattr(session.Engine, "_load", lambda engine: None)
    add_estimator(estimator(tiny_lm))
    at = opened(wait=False)
    assert "mine" in said(at)
    assert "Loading the model" in said(at)


# ------------------------------------------------------------------------------------------------ in and out


def reference_file(path: Path, theta: np.ndarray = MINE, extras: object = None) -> bytes:
    kwargs = {"num_layers": 2, "num_heads": 4, "model_type": "llama"}
    what = {
        "class": "LinearScoreEstimator",
        "state_dict": {"linear.weight": torch.from_numpy(theta.reshape(1, -1))},
        "feature_extractor": {"class": "AttentionFeatureExtractor", "kwargs": kwargs},
        "kwargs": {},
        "extras": extras or {},
    }
    torch.save(what, path)
    return path.read_bytes()


def upload(at: AppTest, name: str, content: bytes) -> AppTest:
    at.file_uploader[0].set_value([(name, content, "application/octet-stream")])
    ran(at.run())
    return ran(at.button(key="estimators-import").click().run())


def test_an_uploaded_file_is_imported_and_usable(tiny_lm, tmp_path, home):
    file = at2.save_estimator(estimator(tiny_lm, name="theirs"), tmp_path / "theirs.safetensors")
    at = upload(opened(), "theirs.safetensors", file.read_bytes())
    assert "Imported theirs: 2 layers of 4 heads." in said(at)
    (entry,) = [e for e in list_estimators() if e.kind == "imported"]
    assert entry.path.parent == home / "imported"
    press(at, "use")
    assert at.session_state[estimator_choice.CHOSEN] == entry.fingerprint


def test_a_file_of_the_published_code_is_taken_for_the_loaded_model(tiny_lm, tmp_path):
    at = upload(opened(), "score_estimator.pt", reference_file(tmp_path / "s.pt"))
    (entry,) = [e for e in list_estimators() if e.kind == "imported"]
    assert np.array_equal(entry.estimator.theta, MINE)
    assert entry.model == tiny_lm.name
    assert entry.name == "score_estimator"
    assert "No validation figures" in said(at)


def test_what_is_there_already_is_said_to_be(tiny_lm, tmp_path):
    file = at2.save_estimator(estimator(tiny_lm, name="theirs"), tmp_path / "theirs.safetensors")
    at = upload(opened(), "theirs.safetensors", file.read_bytes())
    assert "Imported theirs: 2 layers of 4 heads." in said(at)
    at = upload(at, "again.safetensors", file.read_bytes())
    assert "You already have theirs: 2 layers of 4 heads." in said(at)
    assert len([e for e in list_estimators() if e.kind == "imported"]) == 1


def test_name_and_model_are_for_one_import(tiny_lm, tmp_path):
    file = at2.save_estimator(estimator(tiny_lm, name="theirs"), tmp_path / "theirs.safetensors")
    at = opened()
    at.text_input(key="estimators-name-0").set_value("first")
    at = upload(at, "theirs.safetensors", file.read_bytes())
    assert "Imported first" in said(at)
    fields = [at.text_input(key=f"estimators-{field}-1") for field in ("hub", "name", "model")]
    assert [field.value for field in fields] == [""] * 3


class Runs:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_hostile_upload_is_refused_by_its_own_name_as_text_and_runs_nothing(tmp_path):
    content = reference_file(tmp_path / "s.pt", extras={"x": Runs(f"touch {tmp_path}/ran")})
    at = upload(opened(), f"{HOSTILE}.pt", content)
    assert f"{HOSTILE}.pt was not imported, and nothing in it was run: it asks for 'posix system'" in said(at)
    assert not (tmp_path / "ran").exists()
    assert {e.kind for e in list_estimators()} == {"bundled"}
    no_markup(at)


def test_a_hub_id_that_cannot_be_reached_is_a_sentence(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    at = opened()
    at.text_input(key="estimators-hub-0").set_value("owner/name")
    ran(at.button(key="estimators-import").click().run())
    assert "'owner/name' is neither in the hub's cache" in said(at)
    at = opened()
    ran(at.button(key="estimators-import").click().run())
    assert "Choose a file first" in said(at)


def test_hostile_metadata_is_never_markup(tiny_lm):
    metadata = {"data": {"name": HOSTILE, "licence": HOSTILE}, "validation": {"correlation": HOSTILE}}
    add_estimator(at2.Estimator(MINE, HOSTILE, HOSTILE, "", metadata))
    at = opened()
    assert "<script>" in said(at)
    no_markup(at)
    press(at, "use")
    no_markup(at)


def no_markup(at: AppTest) -> None:
    for kind in MARKUP:
        assert not any("pwned" in str(element.proto) for element in at.get(kind))
    for widget in (*at.button, *at.segmented_control, *at.get("download_button")):
        assert "pwned" not in str(widget.proto)


def test_removing_asks_first_and_falls_back_to_the_usual_one(tiny_lm):
    entry = add_estimator(estimator(tiny_lm))
    at = press(opened(), "use")
    at = go(at, "estimators")
    assert "Delete mine-" in said(at)
    assert entry.path.exists()
    press(at, "remove")
    assert not entry.path.exists()
    assert at.session_state[estimator_choice.CHOSEN] == ""
    assert "the model's usual θ again" in at.toast[0].value


def test_the_zip_holds_the_file_and_the_card(tiny_lm):
    with zipfile.ZipFile(io.BytesIO(estimator_cards.hub_zip(add_estimator(estimator(tiny_lm))))) as archive:
        assert sorted(archive.namelist()) == ["mine/README.md", "mine/estimator.safetensors"]
        assert archive.read("mine/README.md").startswith(b"---\n")


# ---------------------------------------------------------------------------------------- without an estimator


def test_without_an_estimator_every_page_says_so_and_tells_the_ways_to_one(exploration, tiny_lm):
    for page in ("explore", "heads", "estimators"):
        at = opened(page, run="test")
        assert f"There is no estimator for {tiny_lm.name} yet. Average attention is shown instead" in said(at)
        assert "python -m at2_core learn --model tiny-llama " in said(at)
        assert session.MODEL not in said(at)
        links = [link.proto.page for link in at.get("page_link")]
        assert any("estimators" in link for link in links)


def test_where_one_in_the_catalogue_fits_the_way_to_it_is_shown(exploration, tiny_lm):
    add_estimator(estimator(tiny_lm))
    labels = [link.proto.label for link in opened("explore", run="test").get("page_link")]
    assert "Choose the one that fits" in labels
    assert "Average attention is in use" in said(opened())
    assert "Average attention is in use" not in said(opened(estimator=estimator(tiny_lm).fingerprint))


# ------------------------------------------------------------------------------------------------- using one


def test_explore_shows_the_scores_of_the_chosen_one(exploration, tiny_lm):
    entry = add_estimator(estimator(tiny_lm))
    at = go(press(opened(), "use"), "explore", run="test")
    np.testing.assert_allclose(sent(at), by_hand(tiny_lm, exploration, MINE), atol=1e-6)
    assert at.query_params["estimator"] == entry.fingerprint
    assert "Chosen θ: mine." in said(at)
    assert "no estimator" not in said(at)
    offered = at.segmented_control(key=f"method-{exploration.id}").options
    assert offered == ["Chosen θ", "Average attention", "One head"]  # nothing came before it


def test_the_former_one_can_be_compared_on_the_same_text(exploration, tiny_lm):
    add_estimator(estimator(tiny_lm))
    add_estimator(estimator(tiny_lm, OTHER, "other"))
    at = go(press(opened(), "use"), "estimators")
    at = go(press(at, "use", 1), "explore", run="test")
    np.testing.assert_allclose(sent(at), by_hand(tiny_lm, exploration, OTHER), atol=1e-6)
    assert "Chosen θ: other; former θ: mine." in said(at)
    before = json.loads(at.get("bidi_component")[0].proto.json)
    at.segmented_control(key=f"method-{exploration.id}").set_value("former").run()
    np.testing.assert_allclose(sent(ran(at)), by_hand(tiny_lm, exploration, MINE), atol=1e-6)
    after = json.loads(at.get("bidi_component")[0].proto.json)
    assert before["id"] == after["id"]  # the browser keeps its texts and its pin
    assert at.query_params["method"] == "former"


def test_the_usual_one_is_the_former_one_and_is_not_computed_again(tiny_lm, tmp_path, monkeypatch):
    usual = estimator(tiny_lm, OTHER, "usual")
    monkeypatch.setattr(session, "ESTIMATOR", str(at2.save_estimator(usual, tmp_path / "usual.safetensors")))
    task = at2.ContextTask(context="The dog sleeps.", query="What?")
    made = at2.explore(tiny_lm, at2.replay(tiny_lm, task, "The dog."), usual)
    session.runs()._runs["test"] = Run("test", task, Settings(), state="done", exploration=made)
    add_estimator(estimator(tiny_lm))
    at = go(press(opened(), "use"), "explore", run="test", method="former")
    assert np.array_equal(sent(at), made.scores["at2"])
    assert list(estimator_scores._kept()) == [(made.id, estimator(tiny_lm).fingerprint)]


@pytest.mark.parametrize("method", ["former", "average", None])
def test_a_link_keeps_its_method_while_the_model_loads(tiny_lm, tmp_path, monkeypatch, method):
    usual = estimator(tiny_lm, OTHER, "usual")
    monkeypatch.setattr(session, "ESTIMATOR", str(at2.save_estimator(usual, tmp_path / "usual.safetensors")))
    task = at2.ContextTask(context="The dog sleeps.", query="What?")
    made = at2.explore(tiny_lm, at2.replay(tiny_lm, task, "The dog."), None)
    session.runs()._runs["test"] = Run("test", task, Settings(), state="done", exploration=made)
    load = session.Engine._load
    monkeypatch.setattr(session.Engine, "_load", lambda engine: None)
    link = {"method": method} if method else {}
    at = opened("explore", False, run="test", estimator=add_estimator(estimator(tiny_lm)).fingerprint, **link)
    assert "need the model" in said(at)
    assert ("".join(at.query_params["method"]) if method else at.query_params.get("method")) == method
    load(session.engine())
    assert ran(at.run()).segmented_control(key=f"method-{made.id}").value == (method or "at2")


def test_a_method_picked_while_the_model_loads_stays(exploration, tiny_lm, monkeypatch):
    load = session.Engine._load
    monkeypatch.setattr(session.Engine, "_load", lambda engine: None)
    entry = add_estimator(estimator(tiny_lm))
    at = opened("explore", False, run="test", estimator=entry.fingerprint, method="former")
    at.segmented_control(key=f"method-{exploration.id}-pending").set_value("head").run()
    at.segmented_control(key=f"method-{exploration.id}-pending").set_value("average").run()
    load(session.engine())
    assert ran(at.run()).segmented_control(key=f"method-{exploration.id}").value == "average"


def test_scores_are_computed_once_for_an_exploration_and_an_estimator(exploration, tiny_lm, monkeypatch):
    from at2_core import attribution

    calls = []
    real = attribution.all_token_scores
    monkeypatch.setattr(attribution, "all_token_scores", lambda *a: calls.append(a) or real(*a))
    entry = add_estimator(estimator(tiny_lm))
    for _ in range(2):
        at = opened("explore", run="test", estimator=entry.fingerprint)
        ran(at.run())
    assert len(calls) == 1


def test_a_link_opens_the_estimator_in_another_session_and_after_a_visit_elsewhere(exploration, tiny_lm):
    entry = add_estimator(estimator(tiny_lm))
    at = opened("explore", run="test", estimator=entry.fingerprint)
    np.testing.assert_allclose(sent(at), by_hand(tiny_lm, exploration, MINE), atol=1e-6)
    at = go(go(at, "heads", run="test"), "explore", run="test")
    assert at.query_params["estimator"] == entry.fingerprint
    np.testing.assert_allclose(sent(at), by_hand(tiny_lm, exploration, MINE), atol=1e-6)


def test_a_file_outside_the_catalogue_is_found_again_by_its_link(exploration, tiny_lm, tmp_path):
    run_file = at2.save_estimator(estimator(tiny_lm), tmp_path / "run" / "estimator.safetensors")
    estimator_choice._remember(estimator(tiny_lm).fingerprint, run_file)
    at = opened("explore", run="test", estimator=estimator(tiny_lm).fingerprint)
    np.testing.assert_allclose(sent(at), by_hand(tiny_lm, exploration, MINE), atol=1e-6)
    run_file.unlink()
    ran(at.run())
    assert "There is no estimator" in said(at)
    np.testing.assert_allclose(sent(at), exploration.scores["average"])


@pytest.mark.parametrize("asked", ["0123456789ab", HOSTILE, "../../etc/passwd"])
def test_an_unknown_one_in_the_address_is_said_as_text_and_the_usual_one_shown(exploration, asked):
    for page in ("explore", "heads"):
        at = opened(page, run="test", estimator=asked)
        assert "There is no estimator '" in said(at)
        no_markup(at)
    np.testing.assert_allclose(
        sent(opened("explore", run="test", estimator=asked)), exploration.scores["average"]
    )


def test_one_of_another_model_is_refused_in_a_sentence_and_nothing_changes(exploration, tiny_lm, tmp_path):
    wrong = at2.Estimator(np.ones((3, 5), np.float32), "wrong", "another-model")
    path = at2.save_estimator(wrong, tmp_path / "wrong.safetensors")
    ready()
    with pytest.raises(at2.EstimatorMismatch, match="another-model with 3 layers of 5 heads"):
        estimator_choice.use_estimator(path)
    add_estimator(wrong)
    at = opened("explore", run="test", estimator=wrong.fingerprint)
    assert "'wrong' is for another-model" in said(at)
    np.testing.assert_allclose(sent(at), exploration.scores["average"])


def test_heads_shows_the_theta_of_the_chosen_one(exploration, tiny_lm):
    add_estimator(estimator(tiny_lm))
    at = go(press(opened(), "use"), "heads", run="test")
    np.testing.assert_allclose(theta_drawn(at), MINE)
    assert "θ: mine." in said(at)
    assert at.query_params["estimator"] == estimator(tiny_lm).fingerprint
