"""The shell: what it prints, how it ends, and that a killed run goes on to the same theta."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import at2_core as at2
from at2_core.__main__ import main, run
from at2_core.data import Example
from at2_core.evaluation_commands import _not_learned
from at2_core.runs import Request, RunFolder
from tests.test_learning import examples


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.jsonl"
    lines = [{"id": e.id, "context": e.task.context, "query": e.task.query} for e in examples(10)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture
def command(tiny_folder, data):
    return ["learn", "--model", str(tiny_folder("llama")), "--data", str(data), "--ablations", "8",
            "--max-new-tokens", "10", "--dtype", "float32", "--steps", "60", "--resamples", "2"]  # fmt: skip


def shell(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_learn_then_go_on_with_the_folder_alone(command, tmp_path):
    first = shell(*command, "--examples", "4", "--out", tmp_path / "r")
    assert first.exit_code == 0, first.output
    assert "correlation" in first.output
    assert len(RunFolder(tmp_path / "r").keys()) == 4
    again = shell("learn", "--out", tmp_path / "r")
    assert again.exit_code == 0
    assert "correlation" in again.output
    assert RunFolder(tmp_path / "r").progress().state == "done"


def test_fit_again_without_the_model(command, tmp_path):
    shell(*command, "--out", tmp_path / "r")
    fitted = shell("fit", tmp_path / "r", "--recipe", "reference", "--steps", "40", "--resamples", "2")
    assert fitted.exit_code == 0, fitted.output
    assert "correlation" in fitted.output
    estimator = at2.load_estimator(tmp_path / "r" / "fits" / "again" / "estimator.safetensors")
    assert estimator.theta.shape == (2, 4)
    assert RunFolder(tmp_path / "r").progress().state == "done"


def test_runs_are_listed_with_their_state(command, tmp_path):
    assert "No runs" in shell("runs", "--root", tmp_path / "runs").output
    shell(*command, "--out", tmp_path / "runs" / "mine")
    shown = shell("runs", "--root", tmp_path / "runs").output
    assert "done" in shown
    assert "mine" in shown


def test_an_estimate_comes_before_the_work(command, tmp_path):
    shown = shell(*command, "--out", tmp_path / "r", "--estimate")
    assert shown.exit_code == 0, shown.output
    assert "About 10 examples" in shown.output
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["learn", "--out", "NEW"], 2, "There is no run in"),
        (["learn", "--out", "RUN", "--model", "other"], 2, "--model cannot change when a run goes on"),
        (["learn", "--data", "none.jsonl", "--out", "NEW"], 1, "no file"),
        (["learn", "--data", "BAD", "--out", "NEW"], 1, "known to hold a query"),
        (["learn", "--data", "DATA", "--column", "query", "--out", "NEW"], 2, "ROLE=NAME"),
        (["learn", "--data", "DATA", "--contains", "zzz", "--out", "NEW"], 1, "no usable example from 'zzz'"),
        (["learn", "--data", "DATA", "--model", "/none", "--out", "NEW"], 1, "no folder or file"),
        (["learn", "--data", "DATA", "--out", "FILE/x"], 1, "cannot be written"),
        (["learn", "--data", "DATA", "--collection-seed", "-1", "--out", "NEW"], 2, "collection-seed"),
        (["evaluate", "--data", "DATA", "--contains", "zzz", "--out", "NEW"], 1, "no usable example"),
        (["evaluate", "--data", "DATA", "--top-k", "1,x", "--out", "NEW"], 2, "--top-k"),
        (
            ["evaluate", "--data", "DATA", "--methods", ",", "--out", "NEW"],
            1,
            "No method was named",
        ),
        (["evaluate", "--out", "NEW"], 2, "--data"),
        (["evaluate", "--data", "DATA", "--methods", "zzz", "--out", "NEW"], 1, "There is no method 'zzz'"),
        (["evaluate", "--data", "DATA", "--reference", "zzz", "--out", "NEW"], 2, "none of the methods"),
        (["evaluate", "--data", "DATA", "--ablations", "1", "--out", "NEW"], 2, "one ablation"),
        (["evaluate", "--data", "DATA", "--out", "RUN", "--methods", "bm25"], 1, "holds a training run"),
        (["fit", "EMPTY"], 1, "nothing can be learned"),
        (["runs", "--stop", "EMPTY"], 1, "Nobody is working"),
    ],
)
def test_what_a_person_can_mend_is_one_sentence(data, tmp_path, monkeypatch, capsys, arguments, code, says):
    (tmp_path / "bad.jsonl").write_text('{"a": 1}')
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    RunFolder(tmp_path / "run").ask(Request(model="m", data="d"))
    known = {
        "RUN": "run",
        "NEW": "new",
        "DATA": data.name,
        "BAD": "bad.jsonl",
        "FILE/x": "file/x",
        "EMPTY": "empty",
    }
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["at2", *(known.get(a, a) for a in arguments)])
    assert run() == code
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err


def test_rows_that_cannot_be_used_are_told(command, data, tmp_path):
    data.write_text(data.read_text() + '\nnonsense\n{"query": "Q"}')
    shown = shell(*command, "--out", tmp_path / "r")
    assert "2 rows" in shown.output
    assert "1 times not a record with columns" in shown.output


def test_evaluating_what_cannot_be_judged_fails_and_says_why(tiny_folder, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"query": "Q", "context": "word " * 2000}))
    est = at2.Estimator(np.full((2, 4), 0.125, np.float32), "e", "m")
    file = at2.save_estimator(est, tmp_path / "e.safetensors")
    shown = shell(
        "evaluate",
        "--model",
        tiny_folder("llama"),
        "--data",
        path,
        "--estimator",
        file,
        "--out",
        tmp_path / "o",
    )
    assert isinstance(shown.exception, at2.At2Error)
    assert "1 of 1 examples cannot be judged: 1 times: The prompt has" in shown.output


def test_examples_of_one_id_are_judged_each(tiny_folder, tmp_path):
    path = tmp_path / "d.jsonl"
    rows = [
        {"id": "same", "query": "Q?", "context": f"The fox {i} runs. Berlin is far. Who?"} for i in range(2)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    est = at2.Estimator(np.full((2, 4), 0.125, np.float32), "e", "m")
    file = at2.save_estimator(est, tmp_path / "e.safetensors")
    shown = shell("evaluate", "--model", tiny_folder("llama"), "--data", path, "--estimator", file, "--out", tmp_path / "o",
                  "--ablations", "4", "--max-new-tokens", "6", "--dtype", "float32",
                  "--methods", "at2,average,random")  # fmt: skip
    assert shown.exit_code == 0, shown.output
    assert len((tmp_path / "o" / "rows.csv").read_text().splitlines()) == 7


def test_an_evaluation_goes_on_from_its_folder_alone_and_writes_its_tables(tiny_folder, tmp_path):
    path = tmp_path / "d.jsonl"
    documents = [
        {"title": "A", "sentences": ["The fox runs.", "Berlin is far."]},
        {"title": "B", "sentences": ["Dogs sleep."]},
    ]
    path.write_text(
        json.dumps({"query": "Q?", "documents": documents, "answer": "zzz", "supporting_facts": [[1, 0]]})
    )
    asked = ["evaluate", "--model", tiny_folder("llama"), "--data", path, "--out", tmp_path / "o", "--ablations", "4",
             "--max-new-tokens", "6", "--dtype", "float32", "--methods", "average,leave_one_out,bm25"]  # fmt: skip
    first = shell(*asked)
    assert first.exit_code == 0, first.output
    table = (tmp_path / "o" / "summary.md").read_text()
    assert "MRR, other answer" in table
    rows = pd.read_csv(tmp_path / "o" / "rows.csv")
    assert rows["method"].tolist() == ["average", "leave_one_out", "bm25"]
    assert (rows["mrr"] > 0).all()
    assert not rows["supported"].any()
    assert (tmp_path / "o" / "quality.png").stat().st_size > 5000
    again = shell("evaluate", "--out", tmp_path / "o")
    assert again.exit_code == 0, again.output
    assert pd.read_csv(tmp_path / "o" / "rows.csv").equals(rows), "finished rows are read, not measured again"
    other = shell(*asked, "--seed", "2")
    assert "with seed 1, not 2" in str(other.exception)
    assert RunFolder(tmp_path / "o").progress().state == "done", "what was refused changes nothing"
    assert "--seed needs --data" in shell("evaluate", "--out", tmp_path / "o", "--seed", "2").output
    few = shell(*asked, "--min-sources", "99")
    assert "No example is left" in str(few.exception)


def test_what_was_learned_from_is_left_out(tmp_path):
    def example(number, context):
        return Example(str(number), at2.ContextTask(context=context, query=f"Q{number}?"))

    examples = [example(0, "one"), example(1, "one"), example(2, "two")]
    run = RunFolder(tmp_path / "run")
    run.keep("0" * 16, {"outcomes": np.zeros(1), "group": np.array(examples[0].group)})
    assert [e.id for e in _not_learned(examples, [run.folder])] == ["2"], (
        "examples that share its context go with it"
    )
    with pytest.raises(at2.At2Error, match="no collected examples"):
        _not_learned(examples, [tmp_path])


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a POSIX signal")
def test_killed_again_and_again_it_ends_with_the_same_theta(command, tmp_path):
    """Kills at random moments of the work, three unless AT2_KILLS says otherwise."""
    kills, rng = int(os.environ.get("AT2_KILLS", "3")), random.Random(0)
    python = [sys.executable, "-m", "at2_core"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*python, *command, "--out", str(tmp_path / "whole")], check=True, timeout=180, capture_output=True,
                   env=environment)  # fmt: skip
    cut = RunFolder(tmp_path / "cut")
    done = 0
    for _ in range(kills):
        worker = subprocess.Popen([*python, *command, "--out", str(cut.folder)], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, env=environment)  # fmt: skip
        # Loading takes seconds and an example hardly one: wait for work to begin, then for a random moment in it.
        deadline, seen = time.time() + 120, len(list(cut.folder.rglob("*")))
        while (
            len(list(cut.folder.rglob("*"))) <= seen + (done > 0)
            and time.time() < deadline
            and worker.poll() is None
        ):
            time.sleep(0.005)
        time.sleep(rng.random() * 0.3)
        if worker.poll() is None:
            worker.send_signal(signal.SIGKILL)
            done += 1
        worker.wait()
    assert done >= 1
    subprocess.run([*python, *command, "--out", str(cut.folder)], check=True, timeout=180, capture_output=True,
                   env=environment)  # fmt: skip
    thetas = [
        at2.load_estimator(tmp_path / name / "estimator.safetensors").theta for name in ("whole", "cut")
    ]
    assert np.array_equal(*thetas)


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent as a POSIX signal")
def test_ctrl_c_pauses_in_good_order(command, data, tmp_path):
    many = [{"id": e.id, "context": e.task.context, "query": e.task.query} for e in examples(400)]
    data.write_text("\n".join(map(json.dumps, many)))
    folder = RunFolder(tmp_path / "r")
    worker = subprocess.Popen([sys.executable, "-m", "at2_core", *command, "--out", str(folder.folder)],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    deadline = time.time() + 90
    while not folder.keys() and time.time() < deadline and worker.poll() is None:
        time.sleep(0.005)
    worker.send_signal(signal.SIGINT)
    _, err = worker.communicate(timeout=60)
    assert worker.returncode == 130
    assert "Go on with: python -m at2_core learn --out" in err
    assert folder.progress().state == "paused"
