"""The server's one model: picked, exchanged for everybody, unloaded, and refused what does not fit."""

from __future__ import annotations

import gc
import re
import shutil
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from at2_core import local_models
from at2_core.errors import EstimatorMismatch, ModelNotAvailable
from at2_core.footprint import footprint
from at2_core.prompts import ContextTask
from pages.ui import (
    model_engine,
    model_memory,
    model_picker,
    model_status,
    model_switch,
    run_progress,
    session,
)
from pages.ui.jobs import Run, Settings
from pages.ui.model_engine import Engine
from tests.families import folder_of
from tests.pages.driving import until

ROOT = Path(__file__).parents[2]
HOSTILE = "<script>top.pwned=1</script> ![i](http://evil.example/i.png) :red[x]"
TASK = ContextTask(context="The dog sleeps in the sun. The fox runs away.", query="What does the dog do?")
MARKUP = ("markdown", "html", "info", "error", "warning", "success", "caption")


@pytest.fixture(autouse=True)
def server(tiny_folder, tmp_path, monkeypatch):
    """A fresh server with a tiny model, and a folder with others."""
    monkeypatch.setattr(session, "MODEL", str(tiny_folder("llama")))
    monkeypatch.setattr(session, "HEAD_START", 0)
    monkeypatch.setattr(model_picker.local_models, "hub_home", lambda: tmp_path / "hub")
    monkeypatch.setenv("AT2_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.delenv("AT2_LOCK_MODEL", raising=False)
    shutil.copytree(tiny_folder("qwen3"), tmp_path / "models" / "second")
    (tmp_path / "models" / "second" / "README.md").write_text(f"---\nlicense: {HOSTILE}\n---\n")
    st.cache_resource.clear()
    yield
    for run in list(session.runs()._runs.values()):
        run.cancel.set()
    until(lambda: session.engine().switching is None and session.engine().status != "loading")
    st.cache_resource.clear()


@pytest.fixture
def second(tmp_path) -> str:
    return str(tmp_path / "models" / "second")


def ready() -> Engine:
    engine = session.engine()
    engine.start()
    engine.wait()
    return engine


def switched(engine: Engine, to: str, title: str = "second") -> Engine:
    engine.switch(to, title)
    until(lambda: engine.switching is None)
    return engine


def opened(page: str = "", **address: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    for key, value in address.items():
        at.query_params[key] = value
    at = at.run()
    if page:
        at = at.switch_page(f"pages/{page}.py").run()
    return ran(at)


def ran(at: AppTest) -> AppTest:
    assert not at.exception, at.exception
    return at


def texts(at: AppTest) -> str:
    return "\n".join(text.value for text in at.text)


def done(engine: Engine, settings: Settings | None = None) -> Run:
    run = session.runs().start(engine, TASK, settings or Settings(max_new_tokens=6))
    until(lambda: not run.active)
    return run


def button(at: AppTest, label: str):
    return next(b for b in at.button if b.label == label)


# ------------------------------------------------------------------------------------------------------ the picker


def test_the_picker_lists_what_is_at_hand_as_text():
    ready()
    at = opened()
    assert "second" not in texts(at)  # the first screen is not cluttered with it
    at = ran(at.button(key="models").click().run())
    said = texts(at)
    assert "second" in said
    assert "2 layers × 4 heads" in said
    assert "Estimators: 3 bundled" in said or "Estimator: 1 bundled" in said  # the default model's
    assert f"licence {HOSTILE}"[:60] in said
    assert "No estimator yet" in said
    assert "free for it" in said
    for kind in MARKUP:
        assert not [e for e in at.get(kind) if "pwned" in str(e.value)]


def test_a_model_is_loaded_from_the_picker_and_everybody_is_told(second):
    engine = ready()
    somebody_else = opened()
    at = ran(opened().button(key="models").click().run())
    assert "free for it" in texts(ran(at.run()))  # it stays open when the page behind it is drawn again
    load = [b for b in at.button if b.label == "Load" and not b.disabled]
    ran(load[-1].click().run())
    assert "free for it" not in texts(ran(at.run()))
    until(lambda: engine.switching is None)
    assert engine.name == second
    assert engine.lm.name == "second"
    assert "● second is ready" in texts(ran(somebody_else.run()))


def test_a_folder_that_is_typed_is_looked_at_first(tiny_folder, tmp_path):
    ready()
    at = ran(opened().button(key="models").click().run())
    at = ran(at.text_input(key=model_picker.NAMED).set_value(str(tmp_path / "nowhere" / "at" / "all")).run())
    assert "There is no folder or file" in texts(at)
    at = ran(at.text_input(key=model_picker.NAMED).set_value(str(tiny_folder("gpt2"))).run())
    assert "GPT2LMHeadModel" in texts(at)
    at = ran(at.text_input(key=model_picker.NAMED).set_value("owner/name").run())
    assert "It is not on this computer." in texts(at)


def test_the_hub_is_asked_only_on_a_press_and_a_failure_is_a_sentence(monkeypatch):
    ready()
    asked = []

    def ask(name: str):
        asked.append(name)
        raise ModelNotAvailable("The hub cannot be reached from this computer.")

    monkeypatch.setattr(model_picker.local_models, "ask_hub", ask)
    at = ran(opened().button(key="models").click().run())
    at = ran(at.text_input(key=model_picker.NAMED).set_value("owner/name").run())
    assert asked == []
    at = ran(at.button(key="model-ask-hub").click().run())
    assert asked == ["owner/name"]
    assert "The hub cannot be reached from this computer." in texts(at)


def test_a_model_that_does_not_fit_cannot_be_loaded(monkeypatch):
    ready()
    monkeypatch.setattr(model_picker, "free_memory", lambda *_: 1000)
    at = ran(opened().button(key="models").click().run())
    assert "It does not fit" in texts(at)
    assert all(b.disabled for b in at.button if b.label == "Load")


@pytest.mark.parametrize("lock", ["1", "list"])
def test_the_operator_can_keep_visitors_from_it(lock, monkeypatch, second):
    monkeypatch.setenv("AT2_LOCK_MODEL", lock)
    engine = ready()
    at = opened()
    if lock == "list":
        at = ran(at.button(key="models").click().run())
        assert not [box for box in at.text_input if box.key == model_picker.NAMED]
        assert "second" in texts(at)
        assert model_switch.place_of("somebody/elses") == ""
        return
    assert not [b for b in at.button if b.key == "models"]
    model_switch.load(second, "second")  # whatever a browser sends
    assert engine.switching is None
    assert not [b for b in at.button if b.label.startswith("Load")]
    assert "generate it again" in texts(at)  # the gallery is another model's


def test_the_environment_says_how_models_are_loaded(second, monkeypatch):
    monkeypatch.setenv("AT2_DEVICE", "cpu")
    monkeypatch.setenv("AT2_ATTENTION", "eager")
    engine = ready()
    for _ in range(2):  # the first model, and one that takes its place
        assert engine.lm.device.type == "cpu"
        assert engine.lm.model.config._attn_implementation == "eager"
        switched(engine, second)


def test_what_the_environment_asks_for_in_vain_is_said(monkeypatch):
    monkeypatch.setenv("AT2_DEVICE", "cuda:99")
    monkeypatch.setenv("AT2_QUANTIZE", "3bit")
    engine = session.engine()
    engine.start()
    until(lambda: engine.status == "failed")
    assert "The device 'cuda:99' is not usable here" in texts(opened())
    assert model_picker.room_of(engine).number == 4
    monkeypatch.setitem(engine.loading, "device", "cpu")
    engine.start(again=True)
    until(lambda: engine.status == "failed")
    assert "not in '3bit'" in engine.message


def test_quantized_weights_need_less_of_the_memory(second):
    engine = ready()
    model, room = model_picker.described(second), model_picker.room_of(engine)
    plain, eight, four = (
        local_models.memory_needed(model, room.number, bits) for bits in ("", "8bit", "4bit")
    )
    assert plain > eight > four


# ---------------------------------------------------------------------------------------------------- the exchange


def test_the_former_model_is_gone_with_all_that_belongs_to_it(second):
    engine = ready()
    run = done(engine)
    assert engine.kept(run.exploration.id) is not None
    former = weakref.ref(engine.lm.model)
    assert engine.pace.reading
    switched(engine, second)
    gc.collect()
    assert former() is None
    assert engine.kept(run.exploration.id) is None
    assert engine.pace.reading is None


def test_what_runs_ends_with_the_model_that_it_began_with(second):
    engine = ready()
    with engine.borrow() as lm:
        switch = engine.switch(second, "second")
        until(lambda: switch.state == "waiting")
        later = session.runs().start(engine, TASK, Settings(max_new_tokens=4))
        time.sleep(0.2)
        assert engine.lm is lm
        assert later.state == "waiting"
        assert "second is loaded first" in run_progress.status_line(later)
        assert "comes after one computation" in model_status.in_words(engine, switch)
        del lm
    until(lambda: not later.active)
    assert later.exploration.model == "second"


def test_what_runs_can_be_stopped_for_it_and_the_switch_called_off(second):
    engine = ready()
    job = Run("x", TASK, Settings())

    def work() -> None:
        with engine.use(job.cancel, ticket=job):
            job.cancel.wait(30)

    for stop in (False, True):
        job.cancel.clear()
        thread = threading.Thread(target=work)
        thread.start()
        until(lambda: engine.busy)
        engine.switch(second, "second")
        until(lambda: engine.switching.state == "waiting")
        with pytest.raises(ModelNotAvailable, match="already on its way"):
            engine.switch(second, "second")
        at = opened()
        ran(button(at, "Stop what runs" if stop else "Call off").click().run())
        until(lambda: engine.switching is None)
        job.cancel.set()
        thread.join(30)
        assert (engine.lm.name == "second") is stop


def test_after_a_failure_the_former_model_is_there_again_and_the_reason_is_told(tiny_folder, tmp_path):
    engine = ready()
    former = engine.lm.name
    broken = shutil.copytree(tiny_folder("qwen3"), tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no tensors")
    switched(engine, str(broken), "broken")
    assert (engine.status, engine.lm.name) == ("ready", former)
    at = opened()
    assert "cannot be loaded" in texts(at)
    assert "The former model is loaded again." in texts(at)
    assert done(engine).state == "done"
    at = ran(button(at, "Close").click().run())
    assert "cannot be loaded" not in texts(at)


def test_two_folders_of_the_same_name_are_told_apart(tiny_folder, tmp_path):
    engine = ready()
    first = engine.lm.name
    run = done(engine)
    namesake = shutil.copytree(tiny_folder("qwen3"), tmp_path / first)
    switched(engine, str(namesake), first)
    assert engine.lm.name == f"{first} · {engine.lm.fingerprint}"
    assert not session.is_of(run.exploration)
    with pytest.raises(EstimatorMismatch, match=f"made with {first}"):
        session.generation_of(run.exploration)
    switched(engine, session.MODEL, first)
    assert session.is_of(run.exploration)


def test_no_folder_goes_by_the_name_of_a_model_of_the_catalogue(tiny_folder, tmp_path):
    impostor = shutil.copytree(tiny_folder("llama"), tmp_path / session.DEFAULT_MODEL)
    engine = switched(ready(), str(impostor))
    assert engine.lm.name.startswith(f"{session.DEFAULT_MODEL} · ")
    assert engine.estimator is None


@pytest.mark.parametrize("page", ["", "heads", "compare"])
def test_what_another_model_made_stays_and_its_model_is_offered(page, second):
    engine = ready()
    run = done(engine)
    switched(engine, second)
    at = opened(page, run=run.id)
    made_with = run.exploration.model
    assert f"This was made with {made_with}; second is loaded now." in texts(at)
    if page != "heads":  # whose heads without an estimator are known to the model alone
        assert at.get("bidi_component")
    assert not [b for b in at.button if b.key == "verify-remove"]
    ran(button(at, f"Load {made_with}").click().run())
    until(lambda: engine.switching is None)
    assert engine.lm.name == made_with
    assert "was made with" not in texts(ran(at.run()))


@pytest.mark.parametrize("page", ["", "heads", "compare", "evaluate", "estimators"])
def test_no_page_breaks_while_the_model_is_away(page):
    engine = ready()
    run = done(engine)
    at = opened(page, run=run.id)
    engine._drop()  # as in the middle of a switch
    ran(at.run())
    assert engine._read(session.MODEL) == ""
    engine._settled.set()


def test_ids_of_a_response_are_not_read_by_another_model(second):
    engine = ready()
    given = tuple(done(engine).exploration.response_ids)
    with engine.borrow():
        switch = engine.switch(second, "second")
        until(lambda: switch.state == "waiting")
        run = session.runs().start(engine, TASK, Settings(max_new_tokens=6, response_ids=given))
    until(lambda: not run.active)
    assert run.state == "failed"
    assert "second was loaded before this began" in run.error


def test_an_estimator_chosen_for_another_model_waits_for_that_one(tmp_path, second):
    import numpy as np

    import at2_core as at2
    from pages.ui import estimator_choice

    engine = ready()
    theta = np.zeros((engine.lm.num_layers, engine.lm.num_heads), np.float32)
    own = at2.Estimator(theta + 0.1, "own", engine.lm.name, engine.lm.fingerprint)
    path = at2.save_estimator(own, tmp_path / "own.safetensors")
    at = opened()
    at.session_state[estimator_choice.CHOSEN] = own.fingerprint
    estimator_choice._remember(own.fingerprint, path)
    switched(engine, second)
    at = ran(at.run())
    assert "was learned for" not in texts(at)
    switched(engine, session.MODEL)
    assert at.query_params.get("estimator") is None
    ran(at.run())
    assert at.query_params["estimator"] in (own.fingerprint, [own.fingerprint])


@pytest.mark.parametrize(
    ("name", "as_shown"),
    [
        ("/srv/models/tiny", "tiny"),
        ("C:\\m\\big.gguf", "big.gguf"),
        ("owner/name", "owner/name"),
        ("plain", "plain"),
    ],
)
def test_of_a_path_visitors_are_shown_the_last_part(name, as_shown):
    assert model_engine.shown(name) == as_shown


def test_no_page_tells_where_on_the_server_a_model_is(second):
    engine = ready()
    switch = model_engine.Switch(second, "second", "fetching")
    assert session.MODEL not in model_status.in_words(engine, switch)
    for page in ("", "heads", "estimators"):
        assert session.MODEL not in texts(opened(page))


# ------------------------------------------------------------------------------------------------------- unloading


def test_an_unloaded_model_comes_back_when_it_is_needed():
    engine = ready()
    engine.unload()
    assert (engine.lm, engine.status, engine.resting) == (None, "failed", True)
    at = opened()
    assert "No model is loaded" in texts(at)
    assert engine.lm is None  # looking at an example needs none
    assert done(engine).state == "done"
    assert not engine.resting


RSS = """
import sys, time
sys.path.insert(0, {root!r})
import torch, transformers
from transformers import LlamaForCausalLM
from at2_core.footprint import give_back_memory, resident_memory
from pages.ui.model_engine import Engine

def loaded(engine):
    engine.start(again=True)
    engine.wait()
    return engine

engine = loaded(Engine("smollm2-135m-instruct"))
engine.unload()  # what is imported and set up at the first time stays
before = resident_memory()
loaded(engine)
weights = engine.lm.model.get_memory_footprint()
there = resident_memory()
engine.unload()
print(before, there, resident_memory(), weights)
"""


@pytest.mark.default_model
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the C library keeps what it was given back")
def test_unloading_gives_the_memory_back(default_lm):
    script = RSS.format(root=str(ROOT))
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240)
    assert told.returncode == 0, told.stderr
    before, there, after, weights = map(int, told.stdout.split()[-4:])
    assert there - before > 0.8 * weights
    # Holes between what stays are the C library's to keep: 20 to 60 MB, another number each time.
    assert there - after > 0.6 * weights, (before / 1e6, there / 1e6, after / 1e6, weights / 1e6)


# ---------------------------------------------------------------------------------------------------- what fits not


def test_a_run_that_will_not_fit_is_refused_with_numbers_and_what_to_do(monkeypatch):
    engine = ready()
    kept = done(engine)
    monkeypatch.setattr(model_memory, "free_memory", lambda *_: 20_000_000)
    run = done(engine)
    assert run.state == "failed"
    assert (
        "of memory beside the model, and 20 MB is free; load a smaller model, or close other programs."
        in run.error
    )
    free = footprint(engine.lm, 200, 6).bytes
    monkeypatch.setattr(model_memory, "free_memory", lambda *_: free)
    long = session.runs().start(engine, replace(TASK, context=TASK.context * 18), Settings(max_new_tokens=6))
    until(lambda: not long.active)
    assert "cut the prompt to 200 tokens, or close other programs." in long.error
    assert engine.kept(kept.exploration.id) is None  # what only saves time went first
    monkeypatch.setattr(model_memory, "free_memory", lambda *_: 10**10)
    assert done(engine).state == "done"


def test_a_refused_run_tells_its_time_once_there_is_a_pace(monkeypatch):
    engine = ready()
    monkeypatch.setattr(model_memory, "free_memory", lambda *_: 20_000_000)
    assert done(engine).error.startswith("A prompt of about ")
    assert " takes about " not in done(engine).error
    engine.pace.add(engine.lm, 100, 60.0, 1, 1.0)  # a computer that takes a minute for so little
    assert re.search(r"with 6 of response takes about \d+ s and needs ", done(engine).error)
    engine.pace.add(engine.lm, 100, 600.0)
    given = done(engine, Settings(response="It sleeps in the sun. " * 5)).error
    assert re.search(r"takes about \d+ min and needs ", given)


def test_a_long_run_is_foretold_before_it_is_asked_and_a_short_one_is_not(tiny_lm, monkeypatch):
    engine = ready()
    at = opened(run="new")
    at = ran(at.text_area(key="own-context").set_value("The dog sleeps in the sun. " * 20).run())
    assert "that is free" not in texts(at)
    monkeypatch.setattr(engine, "lm", replace(engine.lm, max_length=8192))
    at = ran(at.text_area(key="own-context").set_value("The dog sleeps in the sun. " * 600).run())
    assert re.search(
        r"About 4,\d00 tokens of prompt, guessed from the length of the text: [\d.]+ [MG]B of memory, "
        r"of [\d.]+ GB that is free, and a time that the first "
        r"run will tell\.",
        texts(at),
    )
    engine.pace.add(engine.lm, 2000, 60.0, 10, 10.0)
    assert re.search(r"and at most about \d+ min\.", texts(ran(at.run())))
    at = ran(at.text_area(key="own-context").set_value("The dog sleeps in the sun. " * 2000).run())
    assert "takes 8,192 of prompt and response together" in texts(at)
    task = replace(TASK, context=TASK.context * 20)
    said = model_memory.foretold(engine, task, Settings(response="It sleeps in the sun. " * 400))
    assert re.search(
        r"tokens of prompt and 2,200 of response, guessed from the length of the text: .* and about \d+ (s|min)\.",
        said,
    )


def test_what_is_foretold_needs_no_tokenizer(monkeypatch):
    engine = ready()
    monkeypatch.setattr(engine, "lm", replace(engine.lm, tokenizer=None, max_length=10**6))
    assert model_memory.foretold(engine, replace(TASK, context="漢字 and \ud800 " * 150_000), Settings())
    engine.lm = None
    assert model_memory.foretold(engine, replace(TASK, context="dog " * 9000), Settings()) == ""


def test_a_pasted_response_shows_how_far_it_is_and_can_be_stopped(monkeypatch):
    monkeypatch.setattr("at2_core.generation.PREFILL", 16)
    engine, told = ready(), []
    tell = Run.tell_prompt

    def stop(run: Run, done: int, total: int) -> None:
        tell(run, done, total)
        told.append(run_progress.status_line(run))
        if len(told) == 2:
            at = opened(run=run.id)
            assert 0 < at.get("progress")[0].proto.value < 100
            ran(button(at, "Stop").click().run())

    monkeypatch.setattr(Run, "tell_prompt", stop)
    long = replace(TASK, context=TASK.context * 6)
    run = session.runs().start(engine, long, Settings(response="It sleeps in the sun."))
    until(lambda: not run.active)
    assert (run.state, run.error) == ("stopped", "")
    assert len(told) == 2
    assert re.fullmatch(r"Reading the response… \d+%(, about .* left)?", told[0])
    assert "Stopped before there was a response." in texts(opened(run=run.id))
    monkeypatch.setattr(Run, "tell_prompt", tell)
    again = session.runs().start(engine, long, Settings(response="It sleeps in the sun."))
    until(lambda: not again.active)
    assert (again.state, again.read) == ("done", 1.0)
    assert again.reading_takes is None or again.reading_takes > 0


def test_the_time_of_a_pasted_response_counts_its_own_tokens():
    engine = ready()
    done(engine)
    short, long = (Run("x", TASK, Settings(response="It sleeps. " * count)) for count in (1, 20))
    for run in (short, long):
        model_memory.weigh(run, engine, engine.lm)
    assert long.reading_takes > 1.5 * short.reading_takes


# ------------------------------------------------------------------------------------- families that take a second run


def test_a_family_read_by_running_again_says_so(tiny_tokenizer, tmp_path):
    engine = ready()
    assert "second" not in model_engine.runs_again(engine.lm)
    at = opened()
    assert "slower" not in texts(at)
    falcon = folder_of("falcon", tiny_tokenizer, tmp_path)
    switched(engine, str(falcon), "falcon")
    at = ran(opened().button(key="models").click().run())
    assert "● falcon is ready, slower than most: its heads take a second run" in texts(at)
    assert (
        "Its heads are read by running each response a second time: as exact as others, but slower."
        in texts(at)
    )
    run = Run("x", TASK, Settings(max_new_tokens=3), state="running", tokens=3)
    assert run_progress.status_line(run).startswith(
        "Attributing… Its heads are read by running each response a second"
    )


def test_reading_a_long_prompt_tells_its_length_and_time():
    engine = ready()
    done(engine)
    run = Run("x", TASK, Settings(), state="running", prompt_tokens=4012)
    run.reading_since, run.read = time.monotonic() - 10, 0.25
    assert run_progress.status_line(run) == "Reading the prompt of 4,012 tokens… 25%, about 30 s left"
    run.reading_takes = 50.0
    assert "about 40 s left" in run_progress.status_line(run)
    weighed = Run("y", TASK, Settings(max_new_tokens=6))
    model_memory.weigh(weighed, engine, engine.lm)
    assert weighed.prompt_tokens > 10
    assert weighed.reading_takes > 0
