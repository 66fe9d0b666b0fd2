"""Estimator files: what is written comes back, and what is not ours is refused in a sentence."""

from __future__ import annotations

import json
import pickle
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

import at2_core as at2
from at2_core.estimator import BUNDLED, check_estimator, single_head, uniform, without_heads

THETA = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
ABOUT = {"format": 1, "name": "mine", "model": "m", "model_fingerprint": "", "metadata": {}}


def test_what_is_saved_comes_back_bit_by_bit(tmp_path):
    est = at2.Estimator(
        THETA, "mine", "some-model", "abc", {"data": {"licence": "CC0"}, "validation": {"lds": 0.5}}
    )
    back = at2.load_estimator(at2.save_estimator(est, tmp_path / "deep" / "mine.safetensors"))
    assert np.array_equal(back.theta, THETA)
    assert (back.name, back.model, back.model_fingerprint, back.metadata) == (
        est.name,
        est.model,
        est.model_fingerprint,
        est.metadata,
    )
    assert back.fingerprint == est.fingerprint
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["mine.safetensors"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = at2.save_estimator(at2.Estimator(THETA, "old", "m"), tmp_path / "e.safetensors")

    def disk_full(tensors, file, metadata):
        file.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("at2_core.estimator.save_file", disk_full)
    with pytest.raises(at2.EstimatorFileError, match="no space"):
        at2.save_estimator(at2.Estimator(THETA, "new", "m"), path)
    assert at2.load_estimator(path).name == "old"


def write(path, theta=THETA, about=ABOUT):
    save_file({"theta": theta}, path, {"at2": about if isinstance(about, str) else json.dumps(about)})
    return path


@pytest.mark.parametrize(
    "about",
    [
        "",
        "[1, 2]",
        "{" * 100_000,
        {**ABOUT, "metadata": "text"},
        {**ABOUT, "name": 5},
        {"format": 1},
        "x" * 2_000_000,
    ],
)
def test_a_strange_description_is_refused(tmp_path, about):
    with pytest.raises(at2.EstimatorFileError, match=r"e\.safetensors is no estimator"):
        at2.load_estimator(write(tmp_path / "e.safetensors", about=about))


@pytest.mark.parametrize(
    "theta",
    [
        THETA[0],
        THETA.astype(np.float64),
        np.full((2, 2), np.nan, np.float32),
        np.zeros((0, 4), np.float32),
        np.zeros((2000, 2000), np.float32),
    ],
)
def test_a_strange_theta_is_refused(tmp_path, theta):
    with pytest.raises(at2.EstimatorFileError, match="is no estimator"):
        at2.load_estimator(write(tmp_path / "e.safetensors", theta=theta))


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('this ran')",))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a file",
        pickle.dumps(Bomb()),
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 20) + b"{" * 20,
    ],
)
def test_hostile_bytes_are_refused_and_run_nothing(tmp_path, content):
    path = tmp_path / "e.safetensors"
    path.write_bytes(content)
    with pytest.raises(at2.EstimatorFileError):
        at2.load_estimator(path)


def test_a_truncated_file_is_refused(tmp_path):
    path = write(tmp_path / "e.safetensors")
    whole = path.read_bytes()
    for length in (4, 50, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(at2.EstimatorFileError):
            at2.load_estimator(path)


@pytest.mark.parametrize(
    "direct",
    [np.zeros((2, 4), np.float32), np.full((3, 4), np.nan, np.float32), np.zeros((3, 4), np.float64)],
)
def test_direct_coefficients_of_another_shape_or_kind_are_refused(tmp_path, direct):
    path = tmp_path / "e.safetensors"
    save_file({"theta": THETA, "direct": direct}, path, {"at2": json.dumps(ABOUT)})
    with pytest.raises(at2.EstimatorFileError, match="is no estimator"):
        at2.load_estimator(path)


def test_a_later_format_says_so(tmp_path):
    with pytest.raises(at2.EstimatorFileError, match="format 2"):
        at2.load_estimator(write(tmp_path / "e.safetensors", about={**ABOUT, "format": 2}))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(at2.EstimatorFileError, match="bundled"):
        at2.load_estimator("no-such-model")


def test_uniform_is_average_attention():
    theta = uniform(3, 4, model="m").theta
    assert theta.sum() == pytest.approx(1)
    assert np.ptp(theta) == 0


def test_a_single_head_and_muted_heads_leave_the_rest_alone():
    est = at2.Estimator(THETA, "mine", "m")
    assert single_head(est, 1, 2).theta.sum() == single_head(est, 1, 2).theta[1, 2] == 1
    muted = without_heads(est, [(0, 0), (2, 3)]).theta
    assert muted[0, 0] == muted[2, 3] == 0
    assert np.count_nonzero(muted != THETA) == 2
    assert np.array_equal(est.theta, THETA)


@pytest.mark.default_model
def test_the_bundled_estimator_belongs_to_the_default_model(default_lm):
    est = at2.load_estimator(default_lm.name)
    check_estimator(est, default_lm)
    assert est.theta.dtype == np.float32
    assert np.abs(est.theta).sum() == pytest.approx(1, abs=1e-4)
    assert est.metadata["data"]["licence"]
    assert est.metadata["examples"] >= 500
    validation = est.metadata["validation"]
    assert validation["correlation"] > validation["correlation_average_attention"]
    assert BUNDLED.is_dir()
