"""The catalogue of estimators, its shell commands, and the card for the hub: foreign text stays text everywhere."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as some
from markdown_it import MarkdownIt

import at2_core as at2
from at2_core import catalogue
from at2_core.__main__ import run
from at2_core.card import model_card, plain, quality
from at2_core.catalogue import add_estimator, find_estimator, list_estimators, remove_estimator
from at2_core.estimator import BUNDLED

THETA = np.random.default_rng(2).normal(size=(2, 4)).astype(np.float32)
HOSTILE = (
    "---\nevil: 1\n--- <script>alert(1)</script> ![i](http://evil.example/i.png) | `x` \x1b[31mred\u202e "
    "www.evil.example me@evil.example https://evil.example [a](javascript:1) # h\n\n# heading\n```\n"
)
METADATA = {
    "data": {"name": "dolly", "licence": "CC BY-SA 3.0"},
    "validation": {"correlation": 0.4381, "correlation_average_attention": 0.12, "examples_validation": 76},
    "settings": {"num_ablations": 32},
}


def made(name: str = "mine", **fields) -> at2.Estimator:
    return at2.Estimator(
        **{"theta": THETA, "name": name, "model": "org/model", "metadata": METADATA, **fields}
    )


def reference_file(path: Path) -> Path:
    kwargs = {"num_layers": 2, "num_heads": 4, "model_type": "llama"}
    what = {
        "class": "LinearScoreEstimator",
        "state_dict": {"linear.weight": torch.from_numpy(THETA.reshape(1, -1))},
        "feature_extractor": {"class": "AttentionFeatureExtractor", "kwargs": kwargs},
        "kwargs": {},
        "extras": {},
    }
    torch.save(what, path)
    return path


# ----------------------------------------------------------------------------------------------- the catalogue


def test_the_bundled_ones_are_listed_and_a_missing_folder_is_no_matter(tmp_path):
    entries = list_estimators(tmp_path / "nowhere")
    assert {e.kind for e in entries} == {"bundled"}
    assert [e.path for e in entries] == sorted(BUNDLED.glob("*.safetensors"))
    assert not (tmp_path / "nowhere").exists()


def test_own_and_imported_ones_are_kept_apart_and_the_same_one_only_once(tmp_path):
    own = add_estimator(made(), own_dir=tmp_path / "home")
    file = at2.save_estimator(made("theirs", theta=2 * THETA), tmp_path / "theirs.safetensors")
    for _ in range(2):
        imported = add_estimator(file, own_dir=tmp_path / "home")
    mine = [e for e in list_estimators(tmp_path / "home") if e.kind != "bundled"]
    assert [(e.kind, e.name) for e in mine] == [("own", "mine"), ("imported", "theirs")]
    assert [e.path for e in mine] == [own.path, imported.path]
    assert mine[0].figures == {k: METADATA["validation"][k] for k in METADATA["validation"]}
    assert (mine[0].shape, mine[0].model, mine[0].fingerprint) == ((2, 4), "org/model", made().fingerprint)


def test_what_is_there_already_is_not_imported_again(tmp_path):
    home = tmp_path / "home"
    (bundled, *_) = list_estimators(home)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(bundled.path.read_bytes())
    assert add_estimator(copy, own_dir=home).path == bundled.path
    assert add_estimator(copy, name="another", own_dir=home).name == "another"
    own = add_estimator(made(), own_dir=home)
    assert add_estimator(own.path, own_dir=home).path == own.path


def test_a_file_of_the_published_code_is_imported_with_the_name_and_the_model_given(tmp_path):
    path = reference_file(tmp_path / "score_estimator.pt")
    entry = add_estimator(path, name="published", model="org/model", own_dir=tmp_path / "home")
    assert (entry.kind, entry.name, entry.model, entry.path.suffix) == (
        "imported",
        "published",
        "org/model",
        ".safetensors",
    )
    assert np.array_equal(at2.load_estimator(entry.path).theta, THETA)


def test_damaged_files_are_listed_with_the_reason(tmp_path):
    add_estimator(made(), own_dir=tmp_path)
    (tmp_path / "broken.safetensors").write_bytes(b"not a file")
    (tmp_path / "folder.safetensors").mkdir()
    listed = {e.path.name: e for e in list_estimators(tmp_path) if e.kind == "own"}
    assert listed["broken.safetensors"].estimator is None
    assert "is no estimator" in listed["broken.safetensors"].problem
    assert listed["broken.safetensors"].name == "broken.safetensors"
    assert listed["folder.safetensors"].problem
    assert len(listed) == 3


def test_only_ones_own_are_removed(tmp_path):
    home = tmp_path / "home"
    entry = add_estimator(made(), own_dir=home)
    elsewhere = at2.save_estimator(made("elsewhere", theta=3 * THETA), tmp_path / "elsewhere.safetensors")
    for which in (list_estimators(home)[0], elsewhere, "smollm2-135m-instruct"):
        with pytest.raises(at2.EstimatorFileError, match="not removed"):
            remove_estimator(which, home)
    assert elsewhere.is_file()
    (home / "broken.safetensors").write_bytes(b"x")
    remove_estimator("broken.safetensors", home)
    remove_estimator(entry.fingerprint, home)
    assert {e.kind for e in list_estimators(home)} == {"bundled"}


def test_a_link_out_of_the_folder_is_not_followed_when_removing(tmp_path):
    home, outside = tmp_path / "home", at2.save_estimator(made(), tmp_path / "outside.safetensors")
    home.mkdir()
    (home / "link.safetensors").symlink_to(outside)
    with pytest.raises(at2.EstimatorFileError, match="not removed"):
        remove_estimator(home / "link.safetensors", home)
    assert outside.is_file()


def test_a_name_cannot_lead_out_of_the_folder(tmp_path):
    entry = add_estimator(made("../../../etc/" + HOSTILE), own_dir=tmp_path / "home")
    assert entry.path.parent == tmp_path / "home"
    assert re.fullmatch(r"[a-z0-9-]+\.safetensors", entry.path.name)
    assert entry.name.isprintable()


def test_an_estimator_is_found_by_fingerprint_name_and_file(tmp_path):
    entry = add_estimator(made(), own_dir=tmp_path)
    for which in (entry.fingerprint, "mine", entry.path.stem, entry.path.name, entry.path):
        assert find_estimator(which, tmp_path).path == entry.path
    with pytest.raises(at2.EstimatorFileError, match=entry.fingerprint):
        find_estimator("no such", tmp_path)


def test_a_full_disk_is_a_sentence(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(at2.At2Error, match="cannot be written"):
        add_estimator(made(), own_dir=tmp_path / "file")


@pytest.mark.parametrize("source", ["owner/name", "neither", "a/b/c", "nowhere/file.pt", "../up"])
def test_what_cannot_be_fetched_is_one_sentence(tmp_path, monkeypatch, source):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(at2.EstimatorFileError) as caught:
        add_estimator(source, own_dir=tmp_path)
    assert source in str(caught.value)
    assert ("connection" in str(caught.value)) == (source == "owner/name")


def test_an_estimator_of_the_hub_is_taken_from_its_cache(tmp_path, monkeypatch):
    folder = tmp_path / "hub" / "models--owner--name"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    reference_file(folder / "snapshots" / ("0" * 40) / "score_estimator.pt")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    entry = add_estimator("owner/name", own_dir=tmp_path / "home")
    assert entry.name == "owner/name"
    assert np.array_equal(entry.estimator.theta, THETA)


# ------------------------------------------------------------------------------------------------------ the card


def card(estimator: at2.Estimator) -> tuple[dict, str]:
    """(front matter as YAML reads it, body)."""
    _, front, body = model_card(estimator).split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_folder_for_the_hub_holds_the_file_and_its_card(tmp_path):
    folder = catalogue.export_to_hub_folder(made(), tmp_path / "upload")
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "estimator.safetensors"]
    assert at2.load_estimator(folder / "estimator.safetensors").fingerprint == made().fingerprint
    front, body = card(made())
    assert front["license"] == "cc-by-sa-3.0"
    assert front["base_model"] == "org/model"
    assert "at2" in front["tags"]
    for said in (
        "dolly",
        "CC BY-SA 3.0",
        "0.438",
        "76 held-out",
        "2 layers × 4 heads",
        "load_estimator",
        "32",
    ):
        assert said in body


def rendered(body: str) -> str:
    return MarkdownIt("gfm-like", {"linkify": False}).render(body)


def test_hostile_metadata_can_neither_break_the_front_matter_nor_add_markup():
    hostile = dict.fromkeys(("method", "date", "examples"), HOSTILE) | {
        "data": {"name": HOSTILE, "licence": HOSTILE},
        "settings": {HOSTILE: HOSTILE},
        "validation": HOSTILE,
    }
    front, body = card(made(HOSTILE, model=HOSTILE, model_fingerprint=HOSTILE, metadata=hostile))
    assert set(front) == {"license", "license_name", "library_name", "tags"}
    assert front["license"] == "other"
    assert re.fullmatch(r"[a-z0-9.-]+", front["license_name"])
    plain_html, html = rendered(card(made())[1]), rendered(body)
    for tag in ("<a ", "<h1", "<h2", "<pre", "<code", "<table"):
        assert html.count(tag) == plain_html.count(tag), tag
    for tag in ("<script", "<img", "<strong", "<hr"):
        assert tag not in html
    for linked in ("www.", "https://evil", "me@evil"):  # what GitHub's Markdown makes links of
        assert linked not in body
    assert "&lt;script&gt;alert" in html


@given(
    some.text(),
    some.text(),
    some.dictionaries(some.text(max_size=5), some.text() | some.floats(), max_size=3),
)
def test_whatever_the_metadata_says_the_card_has_the_same_parts(name, licence, settings):
    est = made(name, model=name, metadata={"data": {"name": name, "licence": licence}, "settings": settings})
    front, body = card(est)
    assert set(front) <= {"license", "license_name", "base_model", "library_name", "tags"}
    html = rendered(body)
    assert (html.count("<h1"), html.count("<h2"), html.count("<table"), html.count("<a ")) == (1, 1, 1, 1)


@given(some.text())
def test_plain_text_is_one_printable_line(text):
    line = plain(text, 50)
    assert len(line) <= 50
    assert line.isprintable()


@pytest.mark.parametrize(
    "validation",
    [None, "x", {}, {"correlation": "0.5"}, {"correlation": float("nan")}, {"correlation": True}],
)
def test_figures_that_are_none_are_not_shown(validation):
    assert quality(made(metadata={"validation": validation})).startswith("No validation figures")


def test_what_was_removed_and_how_it_was_held_out_stand_beside_the_figure():
    validation = {
        "correlation": 0.5,
        "examples_validation": 7,
        "examples_training": 12,
        "stability": {"splits": 5},
    }
    found = quality(
        made(metadata={"validation": validation, "settings": {"granularity": "sentence"}, "examples": 20})
    )
    assert (
        found
        == "Correlation with real ablations of sentences 0.500 on 7 held-out examples, the mean of 5 such splits."
    )
    one = {"correlation": 0.5, "examples_validation": 1, "examples_training": 12, "stability": "x"}
    found = quality(made(metadata={"validation": one, "settings": {"granularity": ["x"]}}))
    assert found == "Correlation with real ablations 0.500 on 1 held-out example."


# ----------------------------------------------------------------------------------------------------- the shell


@pytest.fixture
def shell(monkeypatch, capsys, tmp_path):
    """`shell("list")`: (exit status, what was printed, what was complained about)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        given = [str(a) for a in arguments]
        monkeypatch.setattr(
            sys, "argv", ["at2_core", "estimators", *given, "--folder", str(tmp_path / "home")]
        )
        status = run()
        return status, *capsys.readouterr()

    return call


def test_the_shell_imports_lists_shows_exports_and_removes(shell, tmp_path):
    path = reference_file(tmp_path / "score_estimator.pt")
    assert shell("import", path, "--model", "org/model", "--name", "published")[0] == 0
    fingerprint = made().fingerprint
    status, listed, _ = shell("list")
    assert status == 0
    assert re.search(rf"{fingerprint} +imported +2x4 +- +org/model +published", listed)
    _, shown, _ = shell("show", fingerprint)
    assert "2 layers of 4 heads" in shown
    strongest = divmod(int(np.abs(THETA).argmax()), 4)
    assert f"strongest:  layer {strongest[0]} head {strongest[1]} (" in shown
    assert shell("export", fingerprint, tmp_path / "upload")[0] == 0
    assert (tmp_path / "upload" / "README.md").is_file()
    assert shell("remove", "published", "--yes")[0] == 0
    assert fingerprint not in shell("list")[1]


def test_the_shell_tells_mistakes_in_one_line_with_status_one(shell, tmp_path):
    (tmp_path / "x.pt").write_bytes(b"\x80\x02.")
    for arguments in (
        ("import", tmp_path / "x.pt"),
        ("show", "nothing"),
        ("remove", "smollm2-135m-instruct", "--yes"),
    ):
        status, _, complaint = shell(*arguments)
        assert status == 1
        assert complaint.count("\n") == 1


def test_a_hostile_name_reaches_the_terminal_without_its_escapes(shell, tmp_path):
    add_estimator(made(HOSTILE, metadata={"data": {"name": HOSTILE}}), own_dir=tmp_path / "home")
    (tmp_path / "home" / "broken.safetensors").write_bytes(json.dumps({}).encode())
    for arguments in (("list",), ("show", made().fingerprint)):
        printed = shell(*arguments)[1]
        assert "script" in printed
        assert not set("\x1b\u202e") & set(printed)
    assert "damaged" in shell("list")[1]
