"""A run's folder: it belongs to one model, one process works in it, and nothing in it is ever half."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import at2_core as at2
from at2_core.progress import Progress
from at2_core.run_places import find_runs, new_folder
from at2_core.runs import Request, RunFolder, Settings

REQUEST = Request(model="m", data="d.jsonl", columns={"query": "q"}, max_examples=5, about={"licence": "CC0"})


def test_what_was_asked_for_comes_back(tmp_path):
    RunFolder(tmp_path / "r").ask(REQUEST)
    assert RunFolder(tmp_path / "r").request() == REQUEST
    assert RunFolder(tmp_path / "none").request() is None


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (Request(model="n", data="d.jsonl"), "model 'm', not 'n'"),
        (Request(model="m", data="e.jsonl"), "data 'd.jsonl', not 'e.jsonl'"),
        (Request(model="m", data="d.jsonl", settings=Settings(num_ablations=9)), "num_ablations 32, not 9"),
    ],
)
def test_a_folder_of_another_request_is_refused(tmp_path, other, says):
    run = RunFolder(tmp_path)
    run.ask(REQUEST)
    with pytest.raises(at2.RunFolderMismatch, match=says):
        run.ask(other)
    assert run.request() == REQUEST


def test_more_examples_may_be_asked_for(tmp_path):
    run = RunFolder(tmp_path)
    run.ask(REQUEST)
    run.ask(Request(**{**REQUEST.__dict__, "max_examples": 50}))
    assert run.request().max_examples == 50


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"format": 1, "model": 5, "settings": {"x": 1}}', "[" * 100_000]
)
def test_a_damaged_request_is_refused_or_none(tmp_path, content):
    (tmp_path / "request.json").write_text(content)
    run = RunFolder(tmp_path)
    if content.endswith("}"):
        with pytest.raises(at2.RunFolderMismatch, match="damaged"):
            run.request()
    else:
        assert run.request() is None


def test_one_process_works_in_a_folder(tmp_path):
    script = (
        "import sys, threading, time; from at2_core.progress import Progress\n"
        "from at2_core.runs import RunFolder\n"
        "run = RunFolder(sys.argv[1]); event = threading.Event()\n"
        "with run.working(event):\n"
        "    run.tell(Progress(state='running', stage='collect', done=1, total=2)); print('in', flush=True)\n"
        "    event.wait(60)\n"
        "print('stopped', flush=True)"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout.readline().strip() == "in"
    run = RunFolder(tmp_path)
    assert run.is_worked_on()
    assert run.progress().state == "running"
    with pytest.raises(at2.At2Error, match="Another process"), run.working(threading.Event()):
        pass
    run.ask_to_stop()
    assert worker.stdout.readline().strip() == "stopped"
    worker.wait(10)
    assert not run.is_worked_on()
    assert not run.stop_asked()


def test_a_killed_process_leaves_an_interrupted_run(tmp_path):
    script = (
        "import sys, threading, time; from at2_core.progress import Progress\n"
        "from at2_core.runs import RunFolder\n"
        "run = RunFolder(sys.argv[1])\n"
        "with run.working(threading.Event()):\n"
        "    run.tell(Progress(state='running')); print('in', flush=True); time.sleep(60)"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    worker.stdout.readline()
    worker.kill()
    worker.wait(10)
    deadline = time.time() + 5
    while RunFolder(tmp_path).progress().state != "interrupted" and time.time() < deadline:
        time.sleep(0.05)
    assert RunFolder(tmp_path).progress().state == "interrupted"


def test_arrays_come_back_and_a_damaged_file_is_made_again(tmp_path):
    run = RunFolder(tmp_path)
    run.keep("0a", {"predictors": np.arange(6.0), "group": np.array("g")})
    assert run.keys() == ["0a"]
    assert str(run.arrays("0a")["group"]) == "g"
    path = tmp_path / "examples" / "0a.npz"
    path.write_bytes(path.read_bytes()[:50])
    assert run.arrays("0a") is None
    assert not run.has("0a")


def test_a_pickle_in_place_of_an_example_is_not_opened(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    (tmp_path / "examples").mkdir()
    np.savez(tmp_path / "examples" / "0a.npz", predictors=np.array([Hostile()], dtype=object))
    assert RunFolder(tmp_path).arrays("0a") is None
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_is_a_sentence_and_leaves_nothing_half(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    run.keep("0a", {"x": np.ones(3)})

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(at2.At2Error, match=r"disk is full.*nothing that was collected before is lost"):
        run.keep("0b", {"x": np.ones(3)})
    assert [p.name for p in (tmp_path / "examples").iterdir()] == ["0a.npz"]


def test_the_log_survives_a_line_cut_short(tmp_path):
    run = RunFolder(tmp_path)
    run.log("started", model="m")
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"at": "2')
    assert [e["event"] for e in run.events()] == ["started"]


def test_runs_are_found_the_last_touched_first(tmp_path):
    assert find_runs(tmp_path / "none") == []
    for name in ("a", "b"):
        RunFolder(tmp_path / name).ask(REQUEST)
        time.sleep(0.02)
    (tmp_path / "other").mkdir()
    assert [r.name for r in find_runs(tmp_path)] == ["b", "a"]
    RunFolder(tmp_path / "a").tell(Progress(state="running"))
    assert [r.name for r in find_runs(tmp_path)] == ["a", "b"]


def test_a_new_folder_is_new_and_has_a_plain_name(tmp_path):
    first = new_folder(tmp_path, "../../<b>Dolly</b> 15k?")
    assert first.parent == tmp_path
    assert first.name.startswith("b-dolly-b-15k-")
    first.mkdir()
    assert new_folder(tmp_path, "../../<b>Dolly</b> 15k?").name == first.name + "-2"
    assert json.dumps(new_folder(tmp_path, "日本").name).startswith('"run-')


def test_a_disk_that_does_not_answer_costs_no_example(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    run.keep("0a", {"x": np.ones(3)})

    def busy(*args, **options):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(np, "load", busy)
    with pytest.raises(at2.At2Error, match="cannot be read"):
        run.arrays("0a")
    assert run.has("0a")


def test_a_folder_whose_owner_cannot_be_read_is_not_taken_for_new(tmp_path):
    run = RunFolder(tmp_path)
    run.identify("m", "f", "float32", Settings())
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(at2.RunFolderMismatch, match="damaged"):
        run.identify("n", "g", "float32", Settings())
