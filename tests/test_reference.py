"""The reader of foreign score_estimator.pt files: a genuine one gives its theta, whatever else is refused and runs nothing."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import at2_core as at2
from at2_core import reference, torch_archive
from at2_core.reference import import_reference

LAYERS, HEADS = 3, 4
THETA = np.random.default_rng(1).normal(size=(LAYERS, HEADS)).astype(np.float32)


class Linear(torch.nn.Module):
    """Has the state of the published code's estimator: a `linear` over layers * heads features."""

    def __init__(self, bias: bool = False, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(LAYERS * HEADS, 1, bias=bias, dtype=dtype)
        # Its features are weights.permute(2, 3, 0, 1).view(..., layers * heads): layer by layer.
        self.linear.weight.data[:] = torch.from_numpy(THETA.reshape(1, -1))


def saved(**changes) -> dict:
    """What the published code gives to torch.save."""
    kwargs = {"num_layers": LAYERS, "num_heads": HEADS, "model_type": "llama"}
    return {
        "class": "LinearScoreEstimator",
        "state_dict": Linear().state_dict(),
        "feature_extractor": {"class": "AttentionFeatureExtractor", "kwargs": kwargs},
        "kwargs": {"normalize": True, "non_negative": False, "bias": False},
        "extras": {},
    } | changes


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "score_estimator.pt"


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path):
    """Every hostile file here tries to leave this mark."""
    yield
    assert not (tmp_path / "ran").exists()


def written(path: Path, what: object) -> Path:
    torch.save(what, path)
    return path


def repacked(path: Path, change, method: int = zipfile.ZIP_STORED) -> Path:
    """The genuine archive with `change(name, content)` for each entry; None leaves it out."""
    written(path, saved())
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            if (changed := change(name, content)) is not None:
                archive.writestr(name, changed)
    return path


def with_pickle(path: Path, program: bytes) -> Path:
    return repacked(path, lambda name, content: program if name.endswith("data.pkl") else content)


def refused(path: Path, why: str) -> None:
    with pytest.raises(at2.EstimatorFileError, match=why) as caught:
        import_reference(path)
    said = str(caught.value)
    assert said.startswith(f"{path.name} was not imported, and nothing in it was run: ")
    assert said.endswith(".")
    assert len(said) < 400
    assert "\n" not in said


# ------------------------------------------------------------------------------------------------- genuine


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_genuine_file_gives_its_theta_layer_by_layer(path, dtype):
    est = import_reference(
        written(path, saved(state_dict=Linear(dtype=dtype).state_dict())), model="org/model"
    )
    assert est.theta.dtype == np.float32
    assert np.array_equal(est.theta, torch.from_numpy(THETA).to(dtype).float().numpy())
    assert est.theta[2, 1] == est.theta.ravel()[2 * HEADS + 1]
    assert est.model == "org/model"


def test_it_agrees_with_torch_and_says_where_it_comes_from_and_that_it_has_no_figures(path):
    est = import_reference(written(path, saved()), name="madrylab/at2-model")
    weight = torch.load(path, weights_only=True)["state_dict"]["linear.weight"]
    assert np.array_equal(est.theta.ravel(), weight.numpy().ravel())
    assert est.name == est.metadata["imported"]["from"] == "madrylab/at2-model"
    assert est.metadata["imported"]["model_type"] == "llama"
    assert "neither validation figures" in est.metadata["imported"]["note"]
    assert est.metadata["settings"] == {"normalize": True, "non_negative": False, "bias": False}
    assert "validation" not in est.metadata
    back = at2.load_estimator(at2.save_estimator(est, path.with_suffix(".safetensors")))
    assert back.fingerprint == est.fingerprint


def test_a_tensor_that_is_a_view_of_a_larger_one_is_read_at_its_place(path):
    whole = torch.arange(2 * LAYERS * HEADS, dtype=torch.float32)
    state = collections.OrderedDict({"linear.weight": whole[LAYERS * HEADS :].view(1, -1)})
    est = import_reference(written(path, saved(state_dict=state)))
    assert est.theta.ravel().tolist() == list(range(LAYERS * HEADS, 2 * LAYERS * HEADS))


def test_a_bias_of_zero_is_left_out_and_another_one_refused(path):
    state = Linear(bias=True).state_dict()
    state["linear.bias"][:] = 0
    assert np.array_equal(import_reference(written(path, saved(state_dict=state))).theta, THETA)
    state["linear.bias"][:] = 0.5
    refused(written(path, saved(state_dict=state)), r"bias \(0\.5\)")


# ------------------------------------------------------------------------------------------------- hostile


class Runs:
    """Unpickling this calls something."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "place", ["class", "extras", "state_dict", "feature_extractor", "kwargs"]
)  # nested, and in the place of what is read
def test_a_command_in_the_pickle_is_named_and_not_run(path, tmp_path, place):
    refused(
        written(path, saved(**{place: {"x": [Runs(os.system, f"touch {tmp_path}/ran")]}})), "posix system"
    )


def test_the_hostile_files_do_run_in_an_unpickler(path, tmp_path):
    """Else the tests around here would show nothing."""
    torch.save(saved(extras=Runs(os.system, f"touch {tmp_path}/ran")), path)
    torch.load(path, weights_only=False)
    (tmp_path / "ran").unlink()


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (Runs(eval, "__import__('os').system('touch ran')"), "__builtin__ eval"),
        (Runs(getattr, collections.OrderedDict, "mro"), "getattr"),
        (Runs(torch.hub.load, "owner/repository"), "torch.hub load"),
        (Runs(torch.load, "/etc/passwd"), "torch.serialization load"),
        (torch.device("cpu"), "torch device"),
        (np.float64(1), "numpy"),
        (torch.nn.Parameter(torch.zeros(1)), "_rebuild_parameter"),
    ],
)
def test_every_name_outside_the_list_is_refused(path, call, named):
    refused(written(path, saved(extras={"x": call})), named)


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02ccollections\nOrderedDict\n(X\x03\x00\x00\x00lentR.",  # called with arguments
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02ccollections\nOrderedDict\n)\x81.",  # NEWOBJ
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b.",  # state for a function
        b"\x80\x02}Q.",
        b"\x80\x02(i__builtin__\neval\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02r\xff\xff\xff\x7f.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x02]]]",
        b"\x80\x02}}}s.",
        b"\x80\x02h\x05.",
        b"\x80\x02((tt.",
        b"",
        b".",
        os.urandom(200),
    ],
)
def test_a_strange_program_is_refused_in_a_sentence(path, program):
    refused(with_pickle(path, program), "it ")


def test_a_deep_nesting_is_refused_without_falling_over(path):
    refused(with_pickle(path, b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."), "damaged")
    deep = b"]" * 50_000 + b"a" * 49_999
    genuine = written(path, saved(extras="EXTRAS"))
    with zipfile.ZipFile(genuine) as archive:
        program = archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))
    for text in (b"LinearScoreEstimator", b"EXTRAS", b"llama"):
        constant = b"X" + struct.pack("<I", len(text)) + text
        assert constant in program
        with_pickle(path, program.replace(constant, deep))
        if text == b"LinearScoreEstimator":
            refused(path, "holds 'AttentionFeatureExtractor', not a linear")
        else:  # where nobody looks it does no harm
            assert import_reference(path).theta.shape == (LAYERS, HEADS)


def test_a_bare_pickle_is_not_even_looked_at(path, tmp_path):
    path.write_bytes(pickle.dumps(Runs(os.system, f"touch {tmp_path}/ran")))
    refused(path, "bare pickle")
    buffer = io.BytesIO()
    torch.save(saved(), buffer, _use_new_zipfile_serialization=False)
    path.write_bytes(buffer.getvalue())
    refused(path, "bare pickle")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(path):
    grown = repacked(
        path,
        lambda name, content: b"\x00" * 100_000_000 if name.endswith("data/0") else content,
        zipfile.ZIP_DEFLATED,
    )
    assert grown.stat().st_size < 200_000
    refused(grown, "compressed")


def test_entries_that_overlap_or_lie_about_their_size_are_refused(path):
    written(path, saved())
    whole = bytearray(path.read_bytes())
    start = whole.index(b"PK\x01\x02")  # the list of entries: compressed size at 20, size at 24
    struct.pack_into("<II", whole, start + 20, 2**31, 2**31)
    path.write_bytes(whole)
    refused(path, "larger than the file")


def test_a_large_file_a_large_description_and_many_entries_are_refused(path, monkeypatch):
    refused(with_pickle(path, b"\x80\x02" + b"N" * (torch_archive.MAX_PICKLE + 1) + b"."), "description")
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(torch_archive.MAX_ENTRIES + 1):
            archive.writestr(f"archive/data/{i}", b"")
    refused(path, "files")
    written(path, saved())
    monkeypatch.setattr(torch_archive, "MAX_BYTES", 100)
    refused(path, "MB")


def test_a_truncated_file_is_refused_wherever_it_ends(path):
    whole = written(path, saved()).read_bytes()
    for length in (0, 3, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path, "it ")


def test_a_flipped_bit_in_the_numbers_is_noticed(path):
    whole = bytearray(written(path, saved()).read_bytes())
    whole[whole.index(THETA.tobytes()) + 5] ^= 1
    path.write_bytes(whole)
    refused(path, "damaged")


# ---------------------------------------------------------------------------------------------- wrong contents


def weight(tensor: torch.Tensor) -> dict:
    return saved(state_dict={"linear.weight": tensor})


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (weight(torch.zeros(LAYERS, HEADS)), r"shape \(3, 4\)"),
        (weight(torch.zeros(1, 11)), r"shape \(1, 11\), but 3 layers of 4 heads"),
        (weight(torch.zeros(1, 12, dtype=torch.float64)), "DoubleStorage"),
        (weight(torch.zeros(1, 12, dtype=torch.int64)), "LongStorage"),
        (weight(torch.full((1, 12), torch.nan)), "not finite"),
        (weight(torch.full((1, 12), torch.inf)), "not finite"),
        (weight(torch.zeros(1, 24)[:, ::2]), "do not fit"),
        (weight(torch.zeros(1, 1).expand(1, 12)), "do not fit"),
        (weight([1.0] * 12), "damaged"),
        (saved(state_dict={}), "damaged"),
        (saved(state_dict={**Linear().state_dict(), "other": torch.zeros(1)}), "'other'"),
        (saved(**{"class": "MLP"}), "'MLP' over"),
        (saved(feature_extractor={"class": "Other", "kwargs": {}}), "'Other'"),
        (saved(feature_extractor={"class": "AttentionFeatureExtractor", "kwargs": {}}), "damaged"),
        *[
            (saved(feature_extractor={"class": "AttentionFeatureExtractor", "kwargs": {"num_layers": a, "num_heads": b}}), w)
            for a, b, w in [(2, 4, "2 layers of 4"), (-3, -4, "no sense"), (3.0, 4, "no sense"), (10**6, 10**6, "no sense")]
        ],
        ([1, 2], "damaged"),
        (THETA.tolist(), "damaged"),
    ],
)  # fmt: skip
def test_what_is_no_theta_for_these_heads_is_refused(path, what, why):
    refused(written(path, what), why)


def test_storage_bytes_that_are_too_few_are_refused(path):
    refused(repacked(path, lambda name, content: content[:-4] if "data/0" in name else content), "do not fit")
    refused(repacked(path, lambda name, content: None if "data/0" in name else content), "damaged")
    refused(repacked(path, lambda name, content: b"big" if "byteorder" in name else content), "big-endian")


def test_no_file_at_all_is_said(path):
    refused(path, "there is no such file")


def test_the_limits_leave_room_for_the_largest_model(path):
    layers, heads = 160, 160
    state = {"linear.weight": torch.zeros(1, layers * heads)}
    kwargs = {"num_layers": layers, "num_heads": heads, "model_type": "large"}
    extractor = {"class": "AttentionFeatureExtractor", "kwargs": kwargs}
    written(path, saved(state_dict=state, feature_extractor=extractor))
    assert import_reference(path).theta.shape == (layers, heads)
    assert reference.FILE == "score_estimator.pt"
