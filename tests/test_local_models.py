"""What is said of a model before it is loaded: against the loaded model, and against files that lie."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from at2_core import local_models
from at2_core.catalogue import Entry
from at2_core.download import FORMAT, MANIFEST
from at2_core.errors import ModelNotAvailable
from at2_core.estimator import Estimator
from at2_core.gguf_header import read_gguf_header
from at2_core.local_models import (
    LocalModel,
    ask_hub,
    describe_model,
    estimators_of,
    find_models,
    memory_needed,
)
from at2_core.models import CATALOGUE, DEFAULT_MODEL

KINDS = ("llama", "qwen3", "gemma2", "gpt2")
HOSTILE = "<script>top.pwned=1</script> ![i](http://evil.example/i.png) \x1b[31m"
relaxed = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """No model anywhere but where the test puts it."""
    monkeypatch.setattr(local_models, "default_cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(local_models, "hub_home", lambda: tmp_path / "hub")
    return tmp_path


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_described_as_the_model_that_it_is(kind, tiny_folder, tiny_model):
    folder, lm = tiny_folder(kind), tiny_model(kind)
    model = describe_model(str(folder))
    assert model.shape == (lm.num_layers, lm.num_heads)
    assert model.parameters == lm.model.num_parameters()
    assert model.file_bytes == sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert (model.context, model.dtype) == (512, "F32")
    assert (model.title, model.architecture) == (lm.name, type(lm.model).__name__)
    assert not model.problem
    assert memory_needed(model, 4) > lm.model.get_memory_footprint()
    assert memory_needed(model, 2) < memory_needed(model, 4)


@pytest.mark.parametrize(
    ("matter", "licence"),
    [
        ("---\nlicense: apache-2.0\nlanguage: en\n---\n# x", "apache-2.0"),
        ('---\ntags: [x]\nlicense: other\nlicense_name: "llama 3.2"\n---\n', "llama 3.2"),
        ("license: mit\n", ""),  # no front matter
        (f"---\nlicense: {HOSTILE}\n---\n", "<script>top.pwned=1</script> ![i](http://evil.example/i.png…"),
        ("---\nlicense: [\n---\n", "["),
    ],
)
def test_the_licence_is_one_plain_line_of_the_front_matter(matter, licence, tiny_folder, tmp_path):
    folder = copied(tiny_folder("llama"), tmp_path / "m")
    (folder / "README.md").write_text(matter)
    assert describe_model(str(folder)).licence == licence


def test_what_cannot_be_loaded_says_why(tiny_folder, tmp_path):
    pickled = copied(tiny_folder("llama"), tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert "no weights as .safetensors" in describe_model(str(pickled)).problem
    half = copied(tiny_folder("llama"), tmp_path / "half")
    parts = {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}
    (half / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    assert describe_model(str(half)).problem == "It is incomplete: 1 of its weight files are not there."
    other = copied(tiny_folder("llama"), tmp_path / "other")
    (other / "config.json").write_text(json.dumps({"is_encoder_decoder": True}))
    assert "no decoder-only model" in describe_model(str(other)).problem
    (tmp_path / "empty").mkdir()
    assert "no config.json" in describe_model(str(tmp_path / "empty")).problem


@pytest.mark.parametrize(
    "name", ["/nowhere/at all", "a/b/c", "x\x00y", "z" * 5000, "", "~no-such-user/x.gguf"]
)
def test_a_name_that_can_be_no_model_is_refused_with_a_sentence(name, alone):
    with pytest.raises(ModelNotAvailable, match=r"no hub id \(owner/name\)"):
        describe_model(name)


def test_a_file_that_is_no_gguf_is_refused(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(ModelNotAvailable, match=r"not a \.gguf file"):
        describe_model(str(tmp_path / "model.bin"))


@given(content=some.binary(max_size=200), config=some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=9), lambda inner: some.lists(inner, max_size=2)
))  # fmt: skip
@relaxed
def test_files_that_lie_are_described_without_an_error(content, config, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(content)
    keys = (
        "num_hidden_layers",
        "num_attention_heads",
        "head_dim",
        "architectures",
        "text_config",
        "hidden_size",
    )
    (tmp_path / "config.json").write_text(json.dumps(dict.fromkeys(keys, config)))
    model = describe_model(str(tmp_path))
    assert all(0 <= n < 1 << 50 for n in (model.layers, model.heads, model.parameters, model.context))
    assert memory_needed(model, 2) >= 0
    (tmp_path / "config.json").write_bytes(content)
    assert isinstance(describe_model(str(tmp_path)), LocalModel)


def test_sizes_that_no_tensor_has_count_as_unknown(tiny_folder, tmp_path):
    folder = copied(tiny_folder("llama"), tmp_path / "m")
    header = json.dumps(
        {"w": {"dtype": HOSTILE, "shape": [1 << 40, 1 << 40]}, "v": {"dtype": "F32", "shape": [-3]}}
    ).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    model = describe_model(str(folder))
    assert model.parameters == memory_needed(model, 2) == 0
    assert len(model.dtype) <= 12


# --------------------------------------------------------------------------------------------------------- .gguf


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory) -> Path:
    """A header as the library writes it, with a vocabulary and two tensors."""
    import gguf

    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(3)
    writer.add_head_count(6)
    writer.add_head_count_kv(2)
    writer.add_embedding_length(48)
    writer.add_context_length(2048)
    writer.add_licence("MIT") if hasattr(writer, "add_licence") else writer.add_license("MIT")
    writer.add_token_list(["a", "bc", "ü"])
    writer.add_token_scores([0.5, 1.0, 2.0])
    writer.add_tensor("token_embd.weight", np.zeros((3, 48), np.float32))
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((48, 48), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_is_described_from_its_header(gguf_file):
    model = describe_model(str(gguf_file))
    assert (model.kind, model.title, model.shape, model.context) == ("gguf", "small.gguf", (3, 6), 2048)
    assert model.parameters == 3 * 48 + 48 * 48
    assert model.cache_numbers == 2 * 3 * 2 * 8
    assert (model.licence, model.architecture, model.problem) == ("MIT", "llama", "")


@given(data=some.data())
@relaxed
def test_a_gguf_file_that_is_cut_short_is_told(gguf_file, tmp_path, data):
    content = gguf_file.read_bytes()
    cut = data.draw(some.integers(0, content.index(b"blk.0.attn_q.weight")))  # the last tensor's name
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(content[:cut])
    with pytest.raises(ModelNotAvailable) as raised:
        read_gguf_header(broken)
    assert describe_model(str(broken)).problem == str(raised.value)
    assert str(raised.value) == "'broken.gguf' is no .gguf file, or it is damaged."


@given(at=some.integers(0, 400), byte=some.integers(0, 255))
@relaxed
def test_a_gguf_file_with_another_byte_is_described_or_told(gguf_file, tmp_path, at, byte):
    content = bytearray(gguf_file.read_bytes())
    content[at] = byte
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(content)
    model = describe_model(str(broken))
    assert model.problem in ("", "'broken.gguf' is no .gguf file, or it is damaged.")
    assert all(0 <= n < 1 << 50 for n in (model.parameters, model.layers, model.heads, model.context))


# ------------------------------------------------------------------------------------------------ where they are


def test_models_are_found_in_folders_in_folders_and_in_the_hubs_cache(alone, tiny_folder, gguf_file):
    copied(tiny_folder("llama"), alone / "models" / "one")
    copied(tiny_folder("qwen3"), alone / "models" / "group" / "two")
    copied(tiny_folder("gpt2"), alone / "models" / "a" / "b" / "too-deep")
    shutil.copy(gguf_file, alone / "models" / "group" / "three.gguf")
    revision = "0123abcd" * 5
    repository = alone / "hub" / "models--owner--name"
    copied(tiny_folder("llama"), repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    (alone / "hub" / "models--owner--half" / "refs").mkdir(parents=True)
    (alone / "hub" / "models--owner--half" / "refs" / "main").write_text("../../..")
    found = find_models([alone / "models", alone / "models" / "one", alone / "nowhere"])
    assert [model.title for model in found] == [DEFAULT_MODEL, "three.gguf", "two", "one", "owner/name"]
    assert [model.kind for model in found] == ["catalogue", "gguf", "folder", "folder", "hub"]
    assert found[-1].fetched
    assert found[-1].parameters == found[-2].parameters


def test_the_catalogue_says_what_is_to_fetch_and_what_is_here(alone, tiny_folder):
    entry = CATALOGUE[DEFAULT_MODEL]
    model = describe_model(DEFAULT_MODEL)
    assert (model.fetched, model.file_bytes, model.licence) == (False, entry.wheel_bytes, "Apache-2.0")
    folder = alone / "cache" / "models" / f"{DEFAULT_MODEL}-{entry.wheel_sha256[:12]}-{FORMAT}"
    copied(tiny_folder("llama"), folder)
    assert not describe_model(DEFAULT_MODEL).fetched  # nobody has said that it is complete
    (folder / MANIFEST).write_text("{}")
    model = describe_model(DEFAULT_MODEL)
    assert (model.fetched, model.shape, model.context) == (True, (2, 4), 8192)


@pytest.mark.default_model
def test_the_default_model_is_described_as_it_is_loaded(default_lm):
    model = describe_model(DEFAULT_MODEL)
    assert model.fetched
    assert model.shape == (default_lm.num_layers, default_lm.num_heads)
    assert (model.parameters, model.context) == (default_lm.model.num_parameters(), default_lm.max_length)


def test_estimators_are_those_of_these_weights_or_of_this_name():
    def entry(model: str, fingerprint: str, shape: tuple[int, int] = (2, 4)) -> Entry:
        return Entry("own", Path("x"), Estimator(np.zeros(shape, np.float32), "e", model, fingerprint))

    by_name, by_weights, other, larger = (
        entry("mine", ""), entry("theirs", "aaaa"), entry("mine", "bbbb"), entry("mine", "aaaa", (3, 4)),
    )  # fmt: skip
    entries = [by_name, by_weights, other, larger, Entry("own", Path("x"), problem="damaged")]
    model = LocalModel("/models/mine", "mine", "folder", layers=2, heads=4)
    assert estimators_of(model, entries) == [by_name, other]
    assert estimators_of(model, entries, "aaaa") == [by_name, by_weights]


# ------------------------------------------------------------------------------------------------------- the hub


@pytest.fixture
def hub():
    """A hub that knows one model, and counts who asks."""
    asked = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            known = self.path.startswith("/api/models/owner/name")
            files = [{"rfilename": "model.safetensors", "size": 700}, {"rfilename": "pytorch_model.bin", "size": 900},
                     {"rfilename": "onnx/model.safetensors", "size": 50}]  # fmt: skip
            told = {"id": "owner/name", "modelId": "owner/name", "siblings": files, "tags": [], "private": False,
                    "downloads": 1, "likes": 0, "safetensors": {"parameters": {"BF16": 350}, "total": 350},
                    "cardData": {"license": HOSTILE}}  # fmt: skip
            body = json.dumps(told if known else {"error": "Repository not found"}).encode()
            self.send_response(200 if known else 404)
            if not known:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_the_hub_is_asked_for_sizes_and_what_it_says_is_plain(hub, alone, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    address, asked = hub
    assert not describe_model("owner/name").fetched
    assert asked == []  # a look at what is here sends nothing
    model = ask_hub("owner/name", endpoint=address)
    assert (model.file_bytes, model.parameters, model.fetched, model.problem) == (700, 350, False, "")
    assert "\x1b" not in model.licence
    assert len(model.licence) <= 60
    with pytest.raises(ModelNotAvailable, match="has no model owner/other"):
        ask_hub("owner/other", endpoint=address)


def test_a_hub_that_cannot_be_reached_is_one_sentence():
    with pytest.raises(
        ModelNotAvailable, match=r"cannot be reached from this computer .* folder or a .gguf file"
    ):
        ask_hub("owner/name", endpoint="http://127.0.0.1:9", seconds=1)
