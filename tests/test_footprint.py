"""What a run takes, estimated: against what the model really keeps, and against the measured peak of a process."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from at2_core import footprint as module
from at2_core.cache import new_cache
from at2_core.footprint import Pace, Sizes, footprint, free_memory, gradient_footprint, longest_prompt

ROOT = Path(__file__).parents[1]
KINDS = ("llama", "qwen3", "gemma2", "gpt2")
relaxed = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


@pytest.mark.parametrize("kind", KINDS)
def test_the_keys_and_values_of_a_token_are_those_that_the_cache_holds(kind, tiny_model):
    lm = tiny_model(kind)
    cache, ids = new_cache(lm.model), torch.arange(40)[None]
    lm.model(ids, past_key_values=cache, use_cache=True)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    s = Sizes.of(lm)
    assert 40 * (s.key + s.value) * s.bytes == held


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_take_what_autograd_keeps(kind, tiny_model):
    lm, tokens = tiny_model(kind), 200
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in lm.model.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    embedded = lm.model.get_input_embeddings()(torch.arange(tokens)[None]).detach().requires_grad_(True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        logits = lm.model(inputs_embeds=embedded, use_cache=False).logits
    estimated = gradient_footprint(lm, tokens, 1).bytes - module.SLACK
    assert sum(kept.values()) - logits.nbytes <= 2.5 * estimated
    assert estimated <= 2.5 * sum(kept.values())


@given(prompt=some.integers(1, 100_000), response=some.integers(1, 2_000), more=some.integers(1, 5_000))
@relaxed
def test_more_tokens_never_take_less(tiny_lm, prompt, response, more):
    for given_one in (False, True):
        if not (
            prompt <= 2048 < prompt + more
        ):  # beyond, a prompt is read in pieces, which takes less at once
            assert (
                footprint(tiny_lm, prompt + more, response, given=given_one).bytes
                >= footprint(tiny_lm, prompt, response, given=given_one).bytes
            )
        longer = footprint(tiny_lm, prompt, response + more, given=given_one).bytes
        assert longer >= footprint(tiny_lm, prompt, response, given=given_one).bytes
    assert (
        gradient_footprint(tiny_lm, prompt + more, response).bytes
        > gradient_footprint(tiny_lm, prompt, response).bytes
    )


@given(free=some.integers(0, 2_000_000_000), response=some.integers(1, 500))
@relaxed
def test_the_longest_prompt_fits_and_a_longer_one_does_not(tiny_lm, free, response):
    longest = longest_prompt(tiny_lm, response, free, at_most=4096)
    if longest:
        assert footprint(tiny_lm, longest, response).bytes <= free
    if longest not in (2048, 4096):
        assert footprint(tiny_lm, longest + 1, response).bytes > free


def test_the_slow_kernel_takes_the_weights_of_a_layer_besides(tiny_lm):
    eager = replace(tiny_lm, in_place=False)
    more = footprint(eager, 1000, 1, given=True).bytes - footprint(tiny_lm, 1000, 1, given=True).bytes
    assert more >= 2 * tiny_lm.num_heads * 1001**2 * 4


def test_time_is_unknown_until_a_run_was_timed_and_then_follows_it(tiny_lm):
    pace = Pace()
    assert footprint(tiny_lm, 500, 10, pace=pace).seconds is None
    assert footprint(tiny_lm, 500, 10).seconds is None
    pace.add(tiny_lm, 500, 2.0, 10, 1.0)
    assert footprint(tiny_lm, 500, 11, pace=pace).seconds == pytest.approx(2.0 + 10 * 0.1)
    assert pace.until_first(tiny_lm, 1000) > 4.0  # twice the tokens, and four times the pairs of tokens
    pace.add(tiny_lm, 500, 4.0)
    assert pace.until_first(tiny_lm, 500) == pytest.approx(3.0)


def test_free_memory_is_what_the_container_leaves(tmp_path, monkeypatch):
    assert 0 < free_memory() < 1 << 50
    assert module._container_leaves(tmp_path) == float("inf")
    for name, text in {
        "memory.max": "1000",
        "memory.current": "900",
        "memory.stat": "anon 1\ninactive_file 300\n",
    }.items():
        (tmp_path / name).write_text(text)
    assert module._container_leaves(tmp_path) == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert module._container_leaves(tmp_path) == float("inf")
    monkeypatch.setattr(module, "_container_leaves", lambda: 123)
    assert free_memory("cpu") == 123


MEASURED = """
import sys
sys.path.insert(0, {root!r})
import torch, transformers
import at2_core as at2
from at2_core.exploration import explore
from at2_core.footprint import footprint, resident_memory
from pathlib import Path

torch.set_num_threads(1)
lm = at2.load_model({folder!r}, device="cpu", dtype="float32")
text = "The dog sleeps in the sun. "
small = at2.generate(lm, at2.ContextTask(context=text, query="?"), max_new_tokens=4)
explore(lm, small, None)
task = at2.ContextTask(context=text * {repeats}, query="?")
Path("/proc/self/clear_refs").write_text("5")  # the peak begins here; getrusage counts what the parent had, too
before = resident_memory()
gen = at2.generate(lm, task, max_new_tokens=16)
explore(lm, gen, at2.uniform_estimator(lm))
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0]) * 1024 - before
print(gen.rendered.n, gen.num_tokens, peak, footprint(lm, gen.rendered.n, gen.num_tokens).bytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak since a moment is told by Linux alone")
def test_the_estimate_is_near_the_measured_peak(tmp_path, tiny_tokenizer):
    """A model whose keys weigh: nearly all that a long prompt takes is theirs."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer), hidden_size=256, intermediate_size=512, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=8192,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    tiny_tokenizer.model_max_length = 8192
    try:
        tiny_tokenizer.save_pretrained(tmp_path)
    finally:
        tiny_tokenizer.model_max_length = 512
    script = MEASURED.format(root=str(ROOT), folder=str(tmp_path), repeats=320)
    steady = {
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": "131072",
    }  # else the same run takes 1 to 2 times as much
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=240, env=os.environ | steady
    )
    assert done.returncode == 0, done.stderr
    prompt, response, peak, estimated = map(int, done.stdout.split()[-4:])
    assert prompt > 2048  # read in pieces
    assert response
    assert peak <= estimated <= 4 * peak, (peak / 1e6, estimated / 1e6)
