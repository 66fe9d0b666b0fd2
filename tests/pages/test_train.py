"""The Train page: a new run from examples of any kind, runs that any page can follow, and figures that say what they are."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import at2_core as at2
from at2_core import data, models
from at2_core.data import read_data
from at2_core.fitting import FitSettings
from at2_core.runs import Progress, Request, RunFolder, Settings
from pages.ui import draft as drafts
from pages.ui import session, train_draft, train_process, train_reading, train_report, train_runs
from pages.ui.train_charts import by_examples, by_step

APP = Path(__file__).parents[2] / "app.py"
HOSTILE = "<b>x</b> **y** ![i](http://evil.example/i.png) :red[z] $a$"
SMALL = Settings(num_ablations=16, max_new_tokens=8)


@pytest.fixture
def home(tiny_folder, tmp_path, monkeypatch):
    """The folder of runs, empty, on a server that has the tiny model."""
    monkeypatch.setattr(
        models, "load_model", partial(models.load_model, device="cpu", dtype="float32")
    )  # by itself it takes bfloat16 where it can
    monkeypatch.setattr(session, "HEAD_START", 0)
    monkeypatch.setattr(session, "MODEL", str(tiny_folder("llama")))
    monkeypatch.setenv("AT2_RUNS", str(tmp_path / "runs"))
    st.cache_resource.clear()
    st.cache_data.clear()
    yield tmp_path / "runs"
    until(lambda: session.engine().status != "loading")  # loading changes torch's default dtype for everybody
    st.cache_resource.clear()


@pytest.fixture(scope="session")
def examples_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("examples") / "foxes.jsonl"
    rows = [
        {
            "query": f"What does fox {i} do?",
            "context": f"Fox {i} jumps over the dog. The dog {i} sleeps. Paris has {i} towers.",
        }
        for i in range(12)
    ]
    rows[1] |= {"query": HOSTILE, "context": HOSTILE}
    lines = [json.dumps(row) for row in [*rows, {"query": "and then?"}, {"context": "Nothing asked."}]]
    path.write_text("\n".join([*lines, "{broken"]), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def finished(tiny_lm, examples_file, tmp_path_factory) -> Path:
    """A run that has been done, learned by the real engine."""
    folder = tmp_path_factory.mktemp("finished") / "done-run"
    run = RunFolder(folder)
    run.ask(Request(tiny_lm.name, str(examples_file), settings=SMALL, about={"name": HOSTILE}))
    few = FitSettings(steps=60, resamples=3, splits=2)
    at2.learn(tiny_lm, read_data(examples_file).examples, folder, settings=SMALL, fit_settings=few)
    return folder


def until(true, seconds: float = 60) -> None:
    for _ in range(int(seconds / 0.1)):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to that")


def opened(**params: str) -> AppTest:
    at = AppTest.from_file(str(APP), default_timeout=60)
    at.run()
    at.switch_page("pages/train.py")
    for name, value in params.items():
        at.query_params[name] = value
    return ran(at.run())


def ran(at: AppTest) -> AppTest:
    assert not at.exception, at.exception
    return at


def texts(at: AppTest) -> str:
    return "\n".join(element.value for element in at.text)


def given(path: Path | str) -> AppTest:
    """The form, with the path of a file entered."""
    at = opened()
    at.segmented_control(key="train-kind").set_value(drafts.PATH)
    ran(at.run())
    at.text_input(key="train-path").set_value(str(path))
    return ran(at.run())


def made(home: Path, name: str, *, state: str | None = None, **facts) -> RunFolder:
    run = RunFolder(home / name)
    run.ask(Request("tiny", "d.jsonl", about={"name": "d"}))
    if state:
        run.tell(Progress(state=state, **facts))
    return run


def copied(finished: Path, home: Path) -> RunFolder:
    shutil.copytree(finished, home / finished.name)
    return RunFolder(home / finished.name)


# ------------------------------------------------------------------------------------------------- a new run


def test_an_empty_page_says_what_training_is_for_and_what_to_do_first(home):
    at = opened()
    assert "how much each attention head of a model counts" in texts(at)
    assert "Begin with a file" in texts(at)
    assert at.button(key="train-start").disabled
    assert at.text_input(key="train-model").value == session.MODEL
    assert "draft" not in at.query_params
    assert not home.exists(), "looking leaves nothing behind"


def test_a_file_shows_how_many_rows_can_be_used_why_not_the_others_and_its_columns(home, examples_file):
    at = given(examples_file)
    assert "12 of 15 rows can be used." in texts(at)
    table = at.dataframe[0].value
    assert dict(zip(table["why not"], table["for instance row"], strict=True)) == {
        "no context and no documents": 13,
        "no query": 14,
        "not a record with columns": 15,
    }
    picked = {role: at.selectbox(key=f"train-column-{role}").value for role in train_draft.ROLES}
    assert picked["query"] == "query"
    assert picked["context"] == "context"
    assert set(picked.values()) == {"query", "context", ""}
    assert at.number_input(key="train-examples").value == 12
    assert not at.button(key="train-start").disabled


def test_the_first_three_examples_are_shown_as_text(home, examples_file):
    at = given(examples_file)
    assert "What does fox 0 do?" in texts(at)
    assert HOSTILE in texts(at)
    assert "What does fox 2 do?" in texts(at)
    assert "fox 3" not in texts(at)
    assert not [m.value for m in at.markdown if "evil" in m.value]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.jsonl", None, "There is no file"),
        ("notes.txt", b"hello", "is none of .jsonl"),
        ("broken.parquet", b"PAR1nothing", "cannot be read as .parquet"),
        ("broken.json", b"{", "cannot be read as .json"),
        ("empty.jsonl", b"", "has no row that is a record"),
        ("odd.csv", b"frage,text\nWas?,Ein Text.\n", "no column that is known to hold a query"),
        ("rows.jsonl", b'{"query": "", "context": ""}\n', "None of the rows can be used"),
    ],
)
def test_what_cannot_be_used_gets_one_sentence(home, tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    at = given(tmp_path / name)
    assert texts(at).count(says) == 1
    assert str(tmp_path / name) not in texts(at) or content is None
    assert at.button(key="train-start").disabled


def test_columns_that_nobody_can_guess_can_be_chosen(home, tmp_path):
    (tmp_path / "odd.csv").write_text("frage,text\nWas?,Ein Text.\nWer?,Noch ein Text.\n")
    at = given(tmp_path / "odd.csv")
    at.selectbox(key="train-column-query").set_value("frage")
    ran(at.run())
    assert "2 of 2 rows can be used." in texts(at)
    assert "Was?" in texts(at)
    assert not at.button(key="train-start").disabled


def test_another_file_starts_from_its_own_columns(home, tmp_path, examples_file):
    (tmp_path / "odd.csv").write_text("frage,text\nWas?,Ein Text.\n")
    at = given(tmp_path / "odd.csv")
    at.selectbox(key="train-column-query").set_value("frage")
    ran(at.run())
    at.text_input(key="train-path").set_value(str(examples_file))
    ran(at.run())
    assert at.selectbox(key="train-column-query").value == "query"
    assert "12 of 15" in texts(at)


def test_a_reload_finds_the_upload_and_the_settings_again(home, examples_file):
    at = opened()
    at.file_uploader[0].upload(examples_file.name, examples_file.read_bytes(), "application/json")
    ran(at.run())
    at.number_input(key="train-ablations").set_value(17)
    ran(at.run())
    draft = at.query_params["draft"]
    again = opened(draft=draft)
    assert "foxes.jsonl" in texts(again)
    assert "12 of 15 rows" in texts(again)
    assert again.number_input(key="train-ablations").value == 17
    assert again.number_input(key="train-examples").value == 12


def test_other_data_begins_with_the_usual_number_of_examples(home, tmp_path, examples_file):
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(examples_file.read_text().splitlines()[:4]))
    at = given(few)
    assert at.number_input(key="train-examples").value == 4
    at.number_input(key="train-examples").set_value(2)
    assert ran(at.run()).number_input(key="train-examples").value == 2
    again = opened(draft=at.query_params["draft"])
    assert again.number_input(key="train-examples").value == 2
    at.text_input(key="train-path").set_value(str(examples_file))
    assert ran(at.run()).number_input(key="train-examples").value == 12


def test_an_upload_of_another_kind_is_one_sentence(home):
    at = opened()
    with pytest.raises(at2.At2Error, match=r"x.exe is none of .jsonl"):
        train_draft.FORM.take("../x.exe", b"MZ")
    assert not home.exists()
    assert at.button(key="train-start").disabled


def test_a_form_that_was_cleared_is_clear_after_a_reload(home):
    at = given("/nowhere.jsonl")
    draft = at.query_params["draft"]
    at.text_input(key="train-path").set_value("")
    at.segmented_control(key="train-kind").set_value(drafts.UPLOAD)
    ran(at.run())
    assert opened(draft=draft).segmented_control(key="train-kind").value == drafts.UPLOAD


def test_half_a_character_is_shown_as_what_can_be_sent(home, tmp_path):
    file = tmp_path / "half.jsonl"
    half = '"a\\ud83d?"'
    file.write_text(
        f'{{"query": {half}, "context": {half}, {half}: 1}}\n{{"query": "q", "documents": [{{{half}: 1}}]}}\n'
    )
    at = given(file)
    assert "1 of 2 rows can be used." in texts(at)
    ran(at.selectbox(key="train-column-id").select_index(-1).run())


def test_what_cannot_be_guessed_is_read_once(home, tmp_path, monkeypatch):
    (tmp_path / "odd.csv").write_text("frage,text\nWas?,Ein Text.\n")
    read, times = data.read_data, []
    monkeypatch.setattr(data, "read_data", lambda *asked: (times.append(asked), read(*asked))[1])
    at = given(tmp_path / "odd.csv")
    before = len(times)
    ran(at.run())
    assert len(times) == before
    assert "no column that is known to hold" in texts(at)


def test_columns_of_a_data_set_that_nobody_can_guess_can_be_typed(home, monkeypatch):
    monkeypatch.setattr(data, "hub_rows", lambda name: [(1, {"frage": "Was?", "text": "Ein Text."})])
    at = opened()
    at.segmented_control(key="train-kind").set_value(drafts.HUB)
    ran(at.run())
    at.text_input(key="train-hub").set_value("owner/odd")
    ran(at.run())
    assert "say which of frage, text does" in texts(at)
    assert at.selectbox(key="train-column-query").proto.accept_new_options
    states = at._tree.get_widget_states()  # AppTest knows no way to type an option that is not offered
    typed = {at.selectbox(key=f"train-column-{role}").proto.id: name
             for role, name in {"query": "frage", "context": "text"}.items()}  # fmt: skip
    for widget in states.widgets:
        if widget.id in typed:
            widget.string_value = typed[widget.id]
    ran(at._run(states))
    assert "1 of 1 rows can be used." in texts(at)
    assert not at.button(key="train-start").disabled


def test_a_hub_that_did_not_answer_is_asked_again(home, monkeypatch):
    answers = [OSError("no network"), [(1, {"query": "Was?", "context": "Ein Text."})]]

    def hub_rows(name: str):
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(data, "hub_rows", hub_rows)
    assert "no network" in train_reading.look("hub:owner/name").complaint
    assert train_reading.look("hub:owner/name").examples is not None


@pytest.mark.parametrize("draft", ["../../etc", "zzzz", "", "0" * 12, "0" * 12 + "/.."])
def test_an_address_that_names_no_draft_gives_an_empty_form(home, draft):
    assert "Begin with a file" in texts(opened(draft=draft))


@pytest.mark.parametrize(
    "content", ["", "[]", '{"ablations": "many", "kind": "x", "seed": -1, "upload": "../x"}']
)
def test_a_damaged_draft_is_an_empty_form(home, content):
    folder = home / ".drafts" / ("a" * 12)
    folder.mkdir(parents=True)
    (folder / "draft.json").write_text(content)
    at = opened(draft="a" * 12)
    assert at.number_input(key="train-ablations").value == Settings.num_ablations


# ------------------------------------------------------------------------------------------------- its start


def test_start_writes_down_what_was_chosen_and_shows_the_run(home, examples_file, monkeypatch):
    started = []
    monkeypatch.setattr(train_process, "start", lambda run: started.append(run.name) or True)
    at = opened()
    at.file_uploader[0].upload(examples_file.name, examples_file.read_bytes(), "application/json")
    ran(at.run())
    for field, value in {
        "examples": 5,
        "ablations": 8,
        "new-tokens": 9,
        "prompt-tokens": 99,
        "fit-seed": 3,
    }.items():
        at.number_input(key=f"train-{field}").set_value(value)
    at.segmented_control(key="train-granularity").set_value("word")
    at.text_input(key="train-licence").set_value("CC0")
    ran(at.run())
    at.button(key="train-start").click()
    ran(at.run())
    (run,) = train_runs.runs()
    request = run.request()
    assert at.query_params["run_folder"] == run.name
    assert "draft" not in at.query_params
    assert started == [run.name]
    assert request.settings == Settings(8, granularity="word", max_new_tokens=9, max_prompt_tokens=99)
    assert (request.model, request.max_examples, dict(request.fit)) == (session.MODEL, 5, {"seed": 3})
    assert dict(request.about) == {"name": "foxes.jsonl", "licence": "CC0"}
    assert request.data == str(run.folder / "data-foxes.jsonl")
    assert Path(request.data).read_bytes() == examples_file.read_bytes()


def test_a_run_has_the_last_edit_also_where_the_click_comes_with_it(home, examples_file, monkeypatch):
    monkeypatch.setattr(train_process, "start", lambda run: True)
    at = given(examples_file)
    at.number_input(key="train-ablations").set_value(8)
    at.button(key="train-start").click()
    ran(at.run())
    (run,) = train_runs.runs()
    assert run.request().settings.num_ablations == 8


def test_a_click_that_comes_after_the_start_shows_the_run(home, examples_file, monkeypatch):
    monkeypatch.setattr(train_process, "start", lambda run: True)
    at = given(examples_file)
    draft = at.query_params["draft"]
    at.button(key="train-start").click()
    ran(at.run())
    (run,) = train_runs.runs()
    at.query_params.clear()
    at.query_params["draft"] = draft  # the browser did not know of the run's address yet
    ran(at.run())
    assert len(train_runs.runs()) == 1
    assert "".join(at.query_params["run_folder"]) == run.name


def test_a_second_click_starts_nothing(home, examples_file, monkeypatch):
    from pages.ui import train_form

    started = []
    monkeypatch.setattr(train_process, "start", lambda run: started.append(run.name) or True)
    once = train_form._start
    monkeypatch.setattr(train_form, "_start", lambda *args: (once(*args), once(*args)))
    at = given(examples_file)
    at.button(key="train-start").click()
    ran(at.run())
    assert len(started) == 1
    assert len(train_runs.runs()) == 1


def test_a_folder_that_cannot_be_written_is_one_sentence(home, examples_file):
    at = given(examples_file)
    for path in sorted(home.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    home.rmdir()
    home.write_text("a file, where a folder should be")
    at.button(key="train-start").click()
    ran(at.run())
    assert "cannot be made" in texts(at)


def test_the_estimate_comes_from_the_loaded_model(home, examples_file):
    at = given(examples_file)
    at.number_input(key="train-new-tokens").set_value(8)
    ran(at.run())
    at.button(key="train-estimate").click()
    ran(at.run())
    until(lambda: "of memory for the fit" in texts(ran(at.run())))
    assert "About 12 examples" in texts(at)


def test_the_estimate_of_another_model_comes_with_the_run(home, examples_file):
    at = given(examples_file)
    at.text_input(key="train-model").set_value("another/model")
    ran(at.run())
    at.button(key="train-estimate").click()
    ran(at.run())
    assert "another one is loaded here" in texts(at)


# ------------------------------------------------------------------------------------------------- the process


def test_two_starts_make_one_process_and_a_pause_reaches_it_while_it_loads(home, tiny_folder, examples_file):
    run = RunFolder(home / "r")
    run.ask(Request(str(tiny_folder("llama")), str(examples_file), settings=SMALL, device="cpu"))
    began = [None] * 3
    threads = [
        threading.Thread(target=lambda i=i: began.__setitem__(i, train_process.start(run))) for i in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(began) == [False, False, True]
    assert train_process.seen(run).state == "starting"
    with pytest.raises(at2.At2Error, match="stop it first"):
        train_runs.delete(run)
    train_process.pause(run)
    assert train_process.stopping(run)
    until(lambda: not train_process.alive(run))
    assert train_process.seen(run).state == "paused"
    train_runs.delete(run)
    assert not run.folder.exists()


def test_a_model_that_is_not_there_fails_with_its_sentence(home, examples_file):
    run = RunFolder(home / "r")
    run.ask(Request(str(home / "no-such-model"), str(examples_file)))
    assert train_process.start(run)
    until(lambda: train_process.seen(run).state == "failed")
    at = opened(run_folder="r")
    assert "no-such-model" in texts(at)
    assert train_process.seen(run).message in texts(at)
    assert "Traceback" not in texts(at)
    assert at.button(key="train-resume").label == "Try again"


def test_a_process_that_dies_without_a_word_shows_its_last_lines(home, monkeypatch):
    run = made(home, "r")
    monkeypatch.setattr(train_process.sys, "executable", "/bin/false")
    train_process.start(run)
    until(lambda: not train_process.alive(run))
    (run.folder / "output.txt").write_text("Traceback\n**what** it said")
    at = opened(run_folder="r")
    assert train_process.DIED in texts(at)
    assert "**what** it said" in texts(at)


# ------------------------------------------------------------------------------------------------- the runs


def test_the_list_says_how_far_each_run_is(home):
    made(home, "old", state="done", stage="fit", done=10, total=10)
    made(home, "half", state="paused", stage="collect", done=3, total=40)
    made(home, "dead", state="running", stage="collect", done=1, total=2, seconds_left=30)
    made(home, "fresh")
    at = opened()
    said = texts(at)
    assert "✓ done" in said
    assert "○ paused, 3 of 40 examples" in said
    assert "○ interrupted, 1 of 2 examples" in said
    assert "○ not begun" in said
    assert "how much each attention head" not in said, "the purpose is for those who have no run yet"


def test_a_run_that_works_is_followed_and_can_be_paused(home):
    run = made(home, "r")
    cancel = threading.Event()
    with run.working(cancel):
        run.tell(Progress("running", "collect", 3, 40, {"no response": 2}, seconds_left=200, per_minute=12.4))
        at = opened(run_folder="r")
        said = texts(at)
        assert "Collecting: 3 of 40 examples" in said
        assert "12 examples per minute" in said
        assert "about 3 min left" in said
        assert "2 skipped: 2 no response." in said
        assert not [b for b in at.button if b.key in ("train-resume", "train-delete-for-good")]
        at.button(key="train-pause").click()
        ran(at.run())
        assert cancel.wait(5)
        assert "Stopping in good order" in texts(at)
        assert at.button(key="train-pause").disabled
        run.tell(Progress("paused", "collect", 3, 40))
    assert "Paused" in texts(ran(at.run()))
    assert at.button(key="train-resume").label == "Resume"


def test_stopping_says_that_the_run_is_kept(home):
    run = made(home, "r")
    with run.working(threading.Event()):
        run.tell(Progress("running", "collect", 3, 40))
        at = opened(run_folder="r")
        at.button(key="train-stop").click()
        ran(at.run())
        run.tell(Progress("paused", "collect", 3, 40))
    assert f"The run is kept in {run.folder}" in texts(ran(at.run()))


@pytest.mark.parametrize("name", ["../outside", "..", ".", "a/b", "a\\b", "/etc", ".drafts", HOSTILE, ""])
def test_an_address_reaches_only_the_runs_of_the_folder(home, name):
    made(home, "inside", state="done")
    made(home.parent, "outside", state="done")
    at = opened(run_folder=name)
    assert not at.get("plotly_chart")
    assert at.button(key="train-start").disabled, "the form of a new run"
    assert not name or f"no run called {name!r}" in texts(at)


def test_a_click_on_a_run_shows_it_and_another_page_does_not_lose_it(home):
    made(home, "one", state="paused")
    at = opened()
    at.button(key="train-open-one").click()
    ran(at.run())
    assert at.query_params["run_folder"] == "one"
    at.switch_page("pages/heads.py").run()
    at.query_params.clear()
    at.switch_page("pages/train.py").run()
    assert at.query_params["run_folder"] == "one"
    at.button(key="train-new").click()
    assert ran(at.run()).button(key="train-start")


def test_a_run_is_deleted_after_a_confirmation_and_not_while_somebody_works_there(home):
    run = made(home, "r", state="paused")
    at = opened(run_folder="r")
    with run.working(threading.Event()):
        at.button(key="train-delete-for-good").click()
        ran(at.run())
        assert run.folder.is_dir()
        assert "stop it first" in texts(at)
    at.button(key="train-delete-for-good").click()
    ran(at.run())
    assert not list(home.glob("*r*/request.json"))
    assert "run_folder" not in at.query_params


def test_a_folder_name_is_a_label_and_not_markdown():
    assert train_runs.plain("a*b_[c](d):e:$f$") == r"a\*b\_\[c\]\(d\)\:e\:\$f\$"


# ------------------------------------------------------------------------------------------------- what came out


def test_the_figures_are_those_of_the_report(home, finished):
    run = copied(finished, home)
    report = run.read("fits/default/report.json")
    at = opened(run_folder=run.name)
    said = texts(at)
    assert f"correlates {report['correlation']:.3f} with what the ablations did" in said
    assert f"{report['correlation_average_attention']:.3f}" in said
    assert train_report.more_examples(report["learning_curve"]) in said
    assert f"{report['stability']['rank_correlation']:.2f} (rank correlation)" in said
    assert "largest heads" not in said, "eight heads have no top twenty"
    assert len(at.get("plotly_chart")) == 3
    assert HOSTILE in said, "the name of the data, as text"
    held = by_step(report).data[0]
    assert np.allclose(held.y, [row["validation"] for row in report["history"]])
    assert list(by_examples(report).data[0].x) == [row["examples"] for row in report["learning_curve"]]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"correlation": "x", "history": 5}', None])
def test_a_damaged_report_is_one_sentence(home, finished, content):
    run = copied(finished, home)
    if content is None:
        (run.folder / "estimator.safetensors").write_bytes(b"no estimator")
    else:
        (run.folder / "fits/default/report.json").write_text(content)
    at = opened(run_folder=run.name)
    assert "report cannot be read" in texts(at)


@pytest.mark.parametrize(("gain", "says"), [(0.009, "hardly"), (0.011, "probably"), (-0.2, "hardly")])
def test_the_learning_curve_says_whether_more_examples_would_help(gain, says):
    rows = [
        {"examples": n, "correlation": c, "deviation": 0} for n, c in ((5, 0.1), (10, 0.5), (20, 0.5 + gain))
    ]
    assert says in train_report.more_examples(rows)
    assert "too few" in train_report.more_examples(rows[:1])


def test_nothing_held_out_is_said(home, finished):
    report = RunFolder(finished).read("fits/default/report.json")
    assert "were held out" in train_report.in_words(report)[0]
    whole = report["examples"]
    none = report | {"examples_training": whole, "examples_validation": whole}
    assert "none could be held out" in train_report.in_words(none)[0]


def test_using_it_in_explore_hands_over_the_file(home, finished, monkeypatch):
    run = copied(finished, home)
    taken = []
    from pages.ui import estimator_choice

    monkeypatch.setattr(estimator_choice, "use_estimator", taken.append)
    at = opened(run_folder=run.name)
    at.button(key="train-use").click()
    ran(at.run())
    assert taken == [run.folder / "estimator.safetensors"]
    assert [b for b in at.button_group if b.key == "picked"], "the Explore page"


def test_opening_the_page_imports_nothing_heavy():
    modules = ", ".join(f"pages.ui.{path.stem}" for path in sorted(APP.parent.glob("pages/ui/train_*.py")))
    code = f"import sys, {modules}; assert not {{'torch', 'transformers'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=APP.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
