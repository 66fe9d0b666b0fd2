"""A server with the tiny model, and what there is to look at on it: an exploration, a training run, an evaluation.

runs, evaluations    their folders, empty
trained, judged      a run and an evaluation that were done by the real engine, for `copied`
exploration          by the tiny model, findable as ?run=test
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import streamlit as st

import at2_core as at2
from at2_core import catalogue, models
from at2_core.data import read_data
from at2_core.estimator import Estimator, save_estimator
from at2_core.evaluation import evaluate
from at2_core.evaluation_runs import EvaluationRequest, ask
from at2_core.fitting import FitSettings
from at2_core.progress import Progress
from at2_core.runs import Request, RunFolder
from pages.ui import jobs, session
from pages.ui.compare_board import board
from tests.pages.driving import DOCUMENTS, MARKUP, METHODS, RESPONSE, SMALL, THETA, until


@pytest.fixture(autouse=True)
def drafts(tmp_path, monkeypatch):
    """Whatever a test types is kept in a folder of its own."""
    monkeypatch.setenv("AT2_DRAFTS", str(tmp_path / "drafts"))


@pytest.fixture
def tiny_server(tiny_folder, tmp_path, monkeypatch):
    """A fresh server that has the tiny model, and no runs, evaluations and estimators but the bundled ones."""
    exact = partial(
        models.load_model, device="cpu", dtype="float32"
    )  # by itself it takes bfloat16 where it can
    monkeypatch.setattr(models, "load_model", exact)
    monkeypatch.setattr(session, "MODEL", str(tiny_folder("llama")))
    monkeypatch.setattr(session, "HEAD_START", 0)
    monkeypatch.setattr(catalogue, "own_home", lambda: tmp_path / "estimators")
    monkeypatch.setenv("AT2_EVALUATIONS", str(tmp_path / "evaluations"))
    monkeypatch.setenv("AT2_RUNS", str(tmp_path / "runs"))
    st.cache_resource.clear()
    st.cache_data.clear()
    yield
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture
def folders(tiny_server, tmp_path):
    yield tmp_path
    until(lambda: session.engine().status != "loading")  # loading changes torch's default dtype for everybody


@pytest.fixture
def runs(folders) -> Path:
    return folders / "runs"


@pytest.fixture
def evaluations(folders) -> Path:
    return folders / "evaluations"


# ------------------------------------------------------------------------------------------------- a training run


@pytest.fixture(scope="session")
def foxes(tmp_path_factory) -> Path:
    """Twelve examples, and three rows that are none."""
    path = tmp_path_factory.mktemp("examples") / "foxes.jsonl"
    rows = [
        {
            "query": f"What does fox {i} do?",
            "context": f"Fox {i} jumps over the dog. The dog {i} sleeps. Paris has {i} towers.",
        }
        for i in range(12)
    ]
    rows[1] |= {"query": MARKUP, "context": MARKUP}
    lines = [json.dumps(row) for row in [*rows, {"query": "and then?"}, {"context": "Nothing asked."}]]
    path.write_text("\n".join([*lines, "{broken"]), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(tiny_lm, foxes, tmp_path_factory) -> Path:
    """A run that has been done, learned by the real engine."""
    folder = tmp_path_factory.mktemp("trained") / "done-run"
    run = RunFolder(folder)
    run.ask(Request(tiny_lm.name, str(foxes), settings=SMALL, about={"name": MARKUP}))
    few = FitSettings(steps=60, resamples=3, splits=2)
    at2.learn(tiny_lm, read_data(foxes).examples, folder, settings=SMALL, fit_settings=few)
    return folder


# ------------------------------------------------------------------------------------------------- an evaluation


@pytest.fixture(scope="session")
def towns(tmp_path_factory) -> Path:
    """Six examples with a known truth, one of a single source, and a row that is none."""
    path = tmp_path_factory.mktemp("examples") / "towns.jsonl"
    rows = [
        {
            "id": f"town-{i}" if i != 1 else MARKUP,
            "query": f"Where is tower {i}?",
            "documents": [
                {"title": "A", "sentences": [f"Tower {i} is in Paris.", "It rains.", "Dogs sleep."]},
                {"title": "B", "sentences": ["Foxes run.", f"The moon has {i} seas."]},
            ],
            "answer": "Paris",
            "supporting_facts": [[0, 0]],
            "response": "It is in Paris." if i % 2 else "It is in Rome.",
        }
        for i in range(6)
    ]
    rows.append({"id": "short", "query": "What?", "context": "One sentence.", "response": "Nothing."})
    path.write_text("\n".join([*map(json.dumps, rows), "{broken"]), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def judged(tiny_lm, tiny_folder, towns, tmp_path_factory) -> Path:
    """An evaluation that has been done, by the real engine."""
    folder = tmp_path_factory.mktemp("judged") / "towns-done"
    run = RunFolder(folder)
    request = EvaluationRequest(str(tiny_folder("llama")), str(towns), {"response": "response"}, methods=METHODS,
                                ablations=8, max_new_tokens=8)  # fmt: skip
    ask(run, request)
    examples = read_data(towns, dict(request.columns)).examples
    evaluate(tiny_lm, examples, METHODS, out_dir=folder, num_ablations=8, max_new_tokens=8)
    run.tell(Progress("done", "evaluate", 7, 7))
    return folder


# ------------------------------------------------------------------------------------------------- an exploration


@pytest.fixture
def estimator(tiny_lm, tmp_path) -> Estimator:
    made = Estimator(THETA, "made for this test", tiny_lm.name, tiny_lm.fingerprint)
    save_estimator(made, tmp_path / "theta.safetensors")
    return made


@pytest.fixture
def generation(tiny_lm):
    return at2.replay(tiny_lm, at2.ContextTask(documents=DOCUMENTS, query="What does the dog do?"), RESPONSE)


@pytest.fixture
def exploration(tiny_lm, generation, estimator, tiny_server, tmp_path, monkeypatch):
    """By the tiny model, findable as ?run=test, on a server that has this estimator."""
    monkeypatch.setattr(session, "ESTIMATOR", str(tmp_path / "theta.safetensors"))
    made = at2.explore(tiny_lm, generation, estimator)
    session.runs()._runs["test"] = jobs.Run(
        "test", generation.task, jobs.Settings(), state="done", exploration=made
    )
    yield made
    until(lambda: not any(job.active for job in board()._jobs.values()))
