"""Explorations: saved and opened without loss or torch, and the gallery is what the code computes today."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import at2_core as at2
from at2_core import exploration
from at2_core.exploration import explore, gallery, load, load_example, save

TASK = at2.ContextTask(
    documents=(
        at2.Document("A <b>title</b>", "Der Fuchs 🦊 läuft. 犬は眠る。", [(0, 1), (18, 2)]),
        at2.Document("", "The dog sleeps."),
    ),
    query="Who sleeps?",
    system="Be brief.",
    history=(at2.Turn("user", "Hello"), at2.Turn("assistant", "Hi")),
)


@pytest.fixture(scope="module")
def made(tiny_lm):
    gen = at2.generate(tiny_lm, TASK, max_new_tokens=12, temperature=1.0, seed=1)
    theta = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    est = at2.Estimator(theta, "mine", tiny_lm.name)
    return explore(tiny_lm, gen, est, title="T", note="N", settings={"max_new_tokens": 12})


def test_what_is_saved_comes_back(tmp_path, made):
    back = load(save(made, tmp_path / "x.safetensors"))
    for name in ("id", "title", "note", "model", "estimator", "task", "prompt", "text", "response_ids",
                 "response_offsets", "stop_reason", "sources", "sentences", "settings", "all_sources",
                 "segments", "markers"):  # fmt: skip
        assert getattr(back, name) == getattr(made, name), name
    assert np.array_equal(back.logprobs, made.logprobs)
    for method in ("at2", "average"):
        largest = np.abs(made.scores[method]).max()
        assert np.abs(back.scores[method] - made.scores[method]).max() < largest * 1e-3
        own = made.own_scores[method]
        assert own.shape == (len(made.response_ids),) * 2
        assert own.any()
        assert np.abs(back.own_scores[method] - own).max() < np.abs(own).max() * 1e-3


def test_scores_are_those_of_attribute(tiny_lm, made):
    gen = exploration.generation(made)
    att = at2.attribute(tiny_lm, gen, at2.uniform_estimator(tiny_lm), "sentence")
    summed = [made.scores["average"][:, s.token_start : s.token_end].sum(1) for s in made.sources["sentence"]]
    assert np.abs(np.stack(summed, 1) - att.scores).max() < 1e-5


def test_scores_of_the_response_are_those_of_attribute(tiny_lm, made):
    gen = exploration.generation(made)
    att = at2.attribute(tiny_lm, gen, at2.uniform_estimator(tiny_lm), "word", "all")
    assert att.sources == list(made.all_sources["word"])
    both = np.hstack([made.scores["average"], made.own_scores["average"]])
    summed = [both[:, s.token_start : s.token_end].sum(1) for s in att.sources]
    assert np.abs(np.stack(summed, 1) - att.scores).max() < 1e-5


def test_a_file_of_the_former_format_opens_without_scores_of_the_response(tmp_path, made):
    path = save(made, tmp_path / "x.safetensors")
    with safe_open(path, framework="np") as file:
        about = json.loads(file.metadata()["at2"])
        names = [name for name in file.keys() if not name.startswith("own/")]  # noqa: SIM118
        arrays = {name: file.get_tensor(name) for name in names}
    assert about["format"] == 2
    for key in ("own_scales", "markers"):
        del about[key]
    save_file(arrays, path, {"at2": json.dumps(about | {"format": 1})})
    back = load(path)
    assert back.own_scores == {}
    assert back.id == made.id
    assert back.sources == made.sources
    assert back.all_sources == made.all_sources


def test_the_gallery_opens_whatever_format_its_files_have():
    for name, _, _ in gallery():
        example = load_example(name)
        assert set(example.scores) == {"at2", "average"}
        assert not example.has_thought
        assert set(example.own_scores) in (set(), {"at2", "average"})
        assert example.sources_in("sentence", "context") == example.sources["sentence"]


def test_a_file_of_a_later_format_is_refused(tmp_path, made, monkeypatch):
    monkeypatch.setattr(exploration, "FORMAT", 3)
    path = save(made, tmp_path / "x.safetensors")
    with pytest.raises(at2.ExplorationFileError, match="format 3"):
        load(path)


@pytest.mark.parametrize(
    ("response", "kind", "attributed"),
    [
        ("The fox.", "response", ["The fox."]),
        ("<think>\n\n</think>\n\nThe fox.", "response", ["The fox."]),
        ("<think>Hm.</think> The fox. It ran.", "answer", ["The fox. It ran."]),
        ("<think>Hm.</think>The fox.<think>Or?</think>The dog.", "answer", ["The fox.", "The dog."]),
        ("<think>The fox or", "thought", ["The fox or"]),
        ("<think>The fox or</think>\n", "thought", ["The fox or"]),
        ("<think>", "response", ["<think>"]),
    ],
)
def test_where_nothing_is_picked_all_that_is_answered_is_attributed(tiny_lm, response, kind, attributed):
    found = explore(tiny_lm, at2.replay(tiny_lm, TASK, response), None)
    at = [(found.response_offsets[a][0], found.response_offsets[b][1]) for a, b in found.target]
    assert (found.target_kind, [response[a:b].strip() for a, b in at]) == (kind, attributed)
    rows = [t for first, last in found.target for t in range(first, last + 1)]
    assert found.rows().tolist() == rows
    assert found.rows((1, 2)).tolist() == [1, 2]


def test_thoughts_are_told_by_the_markers_that_are_given(tiny_lm):
    task = at2.ContextTask(context="The fox runs.", query="Who runs?")
    gen = at2.replay(tiny_lm, task, "[Hm. The fox?] A fox.")
    plain = explore(tiny_lm, gen, None)
    marked = exploration.with_markers(plain, ("[", "]"))
    assert not plain.has_thought
    assert marked.has_thought
    assert marked.id == plain.id
    assert [s.text for s in marked.sources_in("sentence", "thought")] == ["Hm. ", "The fox?"]
    assert [marked.text[a:b] for a, b in marked.sentences] == ["[", "Hm. ", "The fox?", "] ", "A fox."]
    assert explore(tiny_lm, gen, None, markers=("[", "]")).segments == marked.segments


def test_a_damaged_file_is_refused(tmp_path, made):
    path = save(made, tmp_path / "x.safetensors")
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:100], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(at2.ExplorationFileError):
            load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda about, arrays: about.update(task=None),
        lambda about, arrays: about.update(task="text"),
        lambda about, arrays: about.update(title=5),
        lambda about, arrays: about.update(settings=5),
        lambda about, arrays: about["task"].update(query=[1]),
        lambda about, arrays: about["parts"][0].update(token_start=-5),
        lambda about, arrays: about["parts"][0].update(token_start="a"),
        lambda about, arrays: about["parts"][0].update(end=10**9),
        lambda about, arrays: arrays["prompt_ids"].__setitem__(0, -1),
        lambda about, arrays: arrays["prompt_offsets"].__setitem__(0, [-3, 2]),
        lambda about, arrays: arrays["prompt_offsets"].__setitem__(1, [9, 2]),
        lambda about, arrays: arrays["response_offsets"].__setitem__(0, [0, 10**6]),
        lambda about, arrays: about["parts"][0].update(kind="<script>"),
        lambda about, arrays: about.update(markers=["", ""]),
        lambda about, arrays: about.update(markers=[1, 2]),
        lambda about, arrays: about.update(markers="<think>"),
        lambda about, arrays: arrays.update({"own/at2": arrays["own/at2"][:-1]}),
        lambda about, arrays: arrays["own/at2"].__setitem__(0, np.nan),
        lambda about, arrays: about["task"].update(prompt=5),
        lambda about, arrays: about["task"]["documents"][0].update(pages=[[0, "1"]]),
        lambda about, arrays: about["task"]["documents"][0].update(pages=[[5, 1], [0, 2]]),
        lambda about, arrays: about["task"]["documents"][0].update(pages=7),
        lambda about, arrays: arrays.update(logprobs=arrays["logprobs"][:1]),
        lambda about, arrays: (
            arrays.update({"scores/<script>": arrays["scores/average"]})
            or about["scales"].update({"<script>": 1.0})
        ),
    ],
)
def test_a_file_whose_parts_do_not_fit_is_refused(tmp_path, made, change):
    path = save(made, tmp_path / "x.safetensors")
    with safe_open(path, framework="np") as file:
        about = json.loads(file.metadata()["at2"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    change(about, arrays)
    save_file(arrays, path, {"at2": json.dumps(about)})
    with pytest.raises(at2.ExplorationFileError, match="damaged"):
        load(path)


def test_a_file_from_before_documents_had_pages_is_read(tmp_path, made):
    path = save(made, tmp_path / "x.safetensors")
    with safe_open(path, framework="np") as file:
        about = json.loads(file.metadata()["at2"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    for document in about["task"]["documents"]:
        del document["pages"]
    save_file(arrays, path, {"at2": json.dumps(about)})
    assert [document.pages for document in load(path).task.documents] == [(), ()]


def test_a_lone_surrogate_in_a_task_can_be_saved(tmp_path, tiny_lm):
    task = at2.ContextTask(context="The fox \ud800 runs.", query="Who?")
    made = explore(tiny_lm, at2.generate(tiny_lm, task, max_new_tokens=4), None)
    back = load(save(made, tmp_path / "x.safetensors"))
    assert back.task.context == "The fox \ufffd runs."


def test_an_estimator_is_no_exploration(tmp_path):
    path = at2.save_estimator(
        at2.Estimator(np.ones((2, 2), np.float32), "e", "m"), tmp_path / "e.safetensors"
    )
    with pytest.raises(at2.ExplorationFileError):
        load(path)


def test_the_gallery_opens_without_torch():
    code = (
        "import sys; from at2_core.exploration import gallery, load_example\n"
        "n = [len(load_example(i).text) for i, _, _ in gallery()]\n"
        "assert len(n) == 6 and all(n), n\n"
        "assert not {'torch', 'transformers', 'streamlit'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_unknown_example_is_said_so():
    with pytest.raises(at2.ExplorationFileError, match="gallery"):
        load_example("nothing")


@pytest.mark.default_model
def test_a_gallery_example_computed_again_is_the_same(default_lm):
    stored = load_example(gallery()[0][0])
    est = at2.load_estimator(default_lm.name)
    gen = at2.generate(default_lm, stored.task, max_new_tokens=stored.settings["max_new_tokens"])
    assert gen.text == stored.text
    assert est.fingerprint == stored.estimator_fingerprint, (
        "run the gallery script again after a change of theta"
    )
    again = explore(default_lm, gen, est)
    assert again.id == stored.id
    for method, scores in stored.scores.items():
        assert np.abs(again.scores[method] - scores).max() < 2e-3 * np.abs(scores).max()
