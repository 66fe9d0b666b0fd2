"""What one run has read serves the next: the same results as a fresh run, and never another model's or a broken cache."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import takewhile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import at2_core as at2
from at2_core import generation
from at2_core.cache import new_cache
from at2_core.kept_prefix import LEAST, KeptPrefix
from at2_core.prompts import follow_up

TEXT = "The fox runs. The dog sleeps in the sun. Berlin is the capital of Germany. " * 6
TASK = at2.ContextTask(context=TEXT, query="Who sleeps?")
KINDS = ["llama", "qwen3", "gemma3", "gemma2", "gpt2"]  # the Gemmas have layers with a window of 16 tokens


def common(a, b) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def same(lm, got, expected) -> None:
    assert got.response_ids == expected.response_ids
    assert np.abs(got.logprobs - expected.logprobs).max() < 1e-4
    est = at2.uniform_estimator(lm)
    assert np.abs(at2.token_scores(lm, got, est) - at2.token_scores(lm, expected, est)).max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_three_turns_are_those_of_fresh_runs(tiny_model, kind):
    lm, prefix, task, read = tiny_model(kind), KeptPrefix(), TASK, []
    for query in ("And the fox?", "Where?", ""):
        gen = at2.generate(lm, task, max_new_tokens=12, temperature=1.0, seed=4, prefix=prefix)
        assert prefix.reused == common(read, gen.prompt_ids)
        same(lm, gen, at2.generate(lm, task, max_new_tokens=12, temperature=1.0, seed=4))
        read = [*gen.prompt_ids, *gen.response_ids]
        task = follow_up(task, gen.text, query)
    assert prefix.reused > len(at2.replay(lm, TASK, "x").prompt_ids)


def test_the_trace_of_an_earlier_turn_is_not_disturbed(tiny_model):
    lm, prefix = tiny_model("gemma3"), KeptPrefix()
    first = at2.generate(lm, TASK, max_new_tokens=8, prefix=prefix)
    before = [at2.head_attention(lm, first, layer, 0).copy() for layer in range(lm.num_layers)]
    at2.generate(lm, follow_up(TASK, first.text, "And the fox?"), max_new_tokens=8, prefix=prefix)
    assert prefix.reused
    for layer, attention in enumerate(before):
        assert np.array_equal(at2.head_attention(lm, first, layer, 0), attention)


def test_the_same_prompt_again_still_computes_its_last_row(tiny_lm):
    prefix = KeptPrefix()
    for _ in range(2):
        gen = at2.generate(tiny_lm, TASK, max_new_tokens=8, prefix=prefix)
    assert prefix.reused == len(gen.prompt_ids) - 1
    same(tiny_lm, gen, at2.generate(tiny_lm, TASK, max_new_tokens=8))


def test_the_rest_of_a_long_prompt_is_read_in_pieces_and_counted_from_its_beginning(tiny_lm, monkeypatch):
    prefix, seen = KeptPrefix(), []
    first = at2.generate(tiny_lm, TASK, max_new_tokens=4, prefix=prefix)
    monkeypatch.setattr("at2_core.generation.PREFILL", 16)
    longer = replace(TASK, context=TEXT + "Paris is the capital of France, and Berlin of Germany. " * 2)
    gen = at2.generate(
        tiny_lm, longer, max_new_tokens=4, prefix=prefix, on_prompt=lambda *read: seen.append(read)
    )
    assert len(first.prompt_ids) - prefix.reused < 20
    total = len(gen.prompt_ids)
    assert seen == [(done, total) for done in range(prefix.reused + 16, total, 16)]
    same(tiny_lm, gen, at2.generate(tiny_lm, longer, max_new_tokens=4))


def test_a_run_that_is_stopped_while_it_reads_leaves_what_it_has_read(tiny_lm, monkeypatch):
    monkeypatch.setattr("at2_core.generation.PREFILL", LEAST)
    prefix, cancel = KeptPrefix(), threading.Event()
    at2.generate(tiny_lm, TASK, prefix=prefix, cancel=cancel, on_prompt=lambda *_: cancel.set())
    assert len(prefix.ids) == LEAST
    gen = at2.generate(tiny_lm, TASK, max_new_tokens=6, prefix=prefix)
    assert prefix.reused == LEAST
    same(tiny_lm, gen, at2.generate(tiny_lm, TASK, max_new_tokens=6))


def test_a_run_that_fails_leaves_nothing(tiny_lm, monkeypatch):
    prefix = KeptPrefix()
    at2.generate(tiny_lm, TASK, max_new_tokens=4, prefix=prefix)

    def out_of_memory(*args, **options):
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(tiny_lm.model, "forward", out_of_memory)
        with pytest.raises(RuntimeError):
            at2.generate(tiny_lm, TASK, max_new_tokens=4, prefix=prefix)
    assert (prefix.ids, prefix._cache) == ([], None)


def test_another_models_prefix_is_not_used(tiny_model):
    prefix = KeptPrefix()
    at2.generate(tiny_model("llama"), TASK, max_new_tokens=4, prefix=prefix)
    gen = at2.generate(tiny_model("qwen3"), TASK, max_new_tokens=4, prefix=prefix)
    assert prefix.reused == 0
    same(tiny_model("qwen3"), gen, at2.generate(tiny_model("qwen3"), TASK, max_new_tokens=4))


def test_a_model_with_states_reads_everything_again(tiny_lm):
    from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

    torch.manual_seed(0)
    config = Qwen3NextConfig(
        vocab_size=len(tiny_lm.tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, linear_num_value_heads=4, linear_num_key_heads=2, linear_key_head_dim=8,
        linear_value_head_dim=8, layer_types=["linear_attention", "full_attention"], num_experts=2, num_experts_per_tok=1,
        moe_intermediate_size=16, shared_expert_intermediate_size=16, max_position_embeddings=512,
    )  # fmt: skip
    lm, prefix = replace(tiny_lm, model=Qwen3NextForCausalLM(config).eval()), KeptPrefix()
    for _ in range(2):
        gen = at2.generate(lm, TASK, max_new_tokens=4, prefix=prefix)
    assert (prefix.reused, prefix.ids) == (0, [])
    assert gen.response_ids == at2.generate(lm, TASK, max_new_tokens=4).response_ids


def test_keys_whose_positions_depend_on_the_length_are_not_kept(tiny_lm):
    from transformers import LlamaConfig, LlamaForCausalLM

    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    config = LlamaConfig(
        **{**tiny_lm.model.config.to_dict(), "rope_parameters": rope, "max_position_embeddings": 128}
    )
    lm, prefix = replace(tiny_lm, model=LlamaForCausalLM(config).eval()), KeptPrefix()
    at2.generate(lm, TASK, max_new_tokens=4, prefix=prefix)
    assert prefix.ids == []


def test_a_model_outside_the_attention_interface_keeps_its_whole_sequence(tiny_lm):
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    config = BloomConfig(vocab_size=len(tiny_lm.tokenizer), hidden_size=32, n_layer=2, n_head=4)
    lm, prefix = replace(tiny_lm, model=BloomForCausalLM(config).eval()), KeptPrefix()
    first = at2.generate(lm, TASK, max_new_tokens=6, prefix=prefix)
    task = follow_up(TASK, first.text, "And the fox?")
    gen = at2.generate(lm, task, max_new_tokens=6, prefix=prefix)
    assert prefix.reused
    same(lm, gen, at2.generate(lm, task, max_new_tokens=6))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shared=st.integers(0, 3 * LEAST), kept=st.lists(st.integers(0, 3), max_size=9),
    asked=st.lists(st.integers(0, 3), max_size=9),
)  # fmt: skip
def test_the_longest_common_beginning_is_taken_and_never_all(tiny_lm, shared, kept, asked):
    kept, asked = [7] * shared + kept, [7] * shared + asked
    cache = new_cache(tiny_lm.model)
    positions = torch.arange(len(kept), dtype=torch.float32).reshape(1, 1, -1, 1)
    for layer in range(len(cache.layers)):
        cache.update(positions, positions, layer)
    prefix = KeptPrefix()
    prefix.keep(tiny_lm.model, [*kept, 9], cache)  # the last token of a response is never fed
    assert prefix.ids == kept
    taken, reused = prefix.take(tiny_lm.model, asked)
    expected = min(common(kept, asked), max(0, len(asked) - 1))
    assert reused == (expected if expected >= LEAST else 0)
    assert taken.get_seq_length() == reused
    for layer in taken.layers if reused else []:
        assert torch.equal(layer.keys[0, 0, :, 0], torch.arange(reused, dtype=torch.float32))
    assert prefix.ids == []


@pytest.mark.default_model
def test_the_default_model_answers_a_follow_up_as_a_fresh_run_does(default_lm):
    prefix, task = KeptPrefix(), replace(TASK, query="Who sleeps in the sun?")
    for query in ("And what does the fox do?", ""):
        gen = at2.generate(default_lm, task, max_new_tokens=8, prefix=prefix)
        fresh = at2.generate(default_lm, task, max_new_tokens=8)
        assert gen.response_ids == fresh.response_ids
        assert np.abs(gen.logprobs - fresh.logprobs).max() < 1e-3
        est = at2.uniform_estimator(default_lm)
        difference = at2.token_scores(default_lm, gen, est) - at2.token_scores(default_lm, fresh, est)
        assert np.abs(difference).max() < 1e-4
        task = follow_up(task, gen.text, query)
    assert prefix.reused > len(generation.replay(default_lm, TASK, "x").prompt_ids)
