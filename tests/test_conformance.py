"""Every family of models is read right, or turned away when it is loaded; the README's table says what is measured here."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

import at2_core as at2
from at2_core import attention, eager, heads
from at2_core.ablation import _shortest_window
from at2_core.attribution import source_features
from at2_core.baselines import find_method
from at2_core.generation import forward_parameters, generation_from_ids
from at2_core.readout import find_readout
from tests.families import (
    CONTEXT,
    FAMILIES,
    QUERY,
    REFUSED,
    all_weights,
    conformance,
    eager_weights,
    folder_of,
    table,
)

README = Path(__file__).parents[1] / "README.md"
TOLERANCE = 1e-5
WITHOUT_READOUT = (  # a norm or a gate behind the heads, a projection in the end, or read by running again
    "bitnet", "exaone4", "falcon_h1", "gemma2", "gemma3_text", "glm4", "granitemoehybrid", "llama4_text", "nemotron_h",
    "olmo2", "olmo3", "opt", "qwen3_next", "recurrent_gemma", "bloom", "codegen", "falcon", "gpt_neo", "gptj", "mpt", "xglm",
)  # fmt: skip
STATE_TOLERANCE = 1e-3  # a state is summed in another order step by step than at once
TASK = at2.ContextTask(context=CONTEXT, query=QUERY)


@pytest.fixture(scope="session")
def family(tmp_path_factory, tiny_tokenizer):
    """`family(name)`: the loaded model and what was measured on it, once per session."""
    place = tmp_path_factory.mktemp("families")

    @cache
    def measured(name: str):
        lm = at2.load_model(str(folder_of(name, tiny_tokenizer, place)), device="cpu", dtype="float32")
        return lm, conformance(lm, name)

    return measured


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_read_as_it_attends(family, name):
    lm, seen = family(name)
    print(seen)  # shown by pytest -rP
    assert seen.weights < TOLERANCE, "captured weights are eager attention's"
    assert seen.same_logits, "reading leaves the logits bit-identical"
    assert seen.step < (STATE_TOLERANCE if lm.stateful else TOLERANCE), "step by step as at once"
    assert math.isnan(seen.ablation) or seen.ablation < 1e-4, "leaving out gives what masking gives"
    short_sighted = _shortest_window(lm.model.config.get_text_config()) < 60
    if seen.ablated == "masked":
        assert short_sighted or "position_ids" not in forward_parameters(lm)
    assert len(lm.layer_numbers) == lm.num_layers > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_attention_of_the_test_model_is_far_from_uniform(family, name):
    """Otherwise a wrong scaling or a missing norm would not show."""
    lm, _ = family(name)
    rows = eager_weights(lm, torch.arange(7, 67)[None])[:, :, 40:]
    assert float(rows.amax(dim=-1).mean()) > 4 / 60


@pytest.mark.parametrize("name", FAMILIES)
def test_a_replayed_response_has_the_scores_of_the_generated_one(family, name):
    lm, _ = family(name)
    gen = at2.generate(lm, TASK, max_new_tokens=6, temperature=1.0, seed=1)
    again = generation_from_ids(lm, TASK, gen.response_ids)
    estimator = at2.uniform_estimator(lm)
    made, read = (at2.attribute(lm, g, estimator, "word").scores for g in (gen, again))
    assert made.shape == (len(gen.response_ids), len(at2.cut(gen.rendered, "word")))
    assert abs(made - read).max() < (STATE_TOLERANCE if lm.stateful else TOLERANCE)
    assert abs(gen.logprobs - again.logprobs).max() < 1e-3


@pytest.mark.parametrize("name", FAMILIES)
def test_what_heads_write_is_what_the_next_token_feels(family, name):
    """The plain way: what a layer's heads give the stream, times autograd's gradient at its end, through the model itself."""
    lm, _ = family(name)
    readout = find_readout(lm.model)
    assert (readout is None) == (name in WITHOUT_READOUT)
    if readout is None:
        return
    gen = at2.generate(lm, TASK, max_new_tokens=6, temperature=1.0, seed=1)
    n, count = len(gen.rendered.ids), gen.num_tokens
    every = replace(at2.cut(gen.rendered, "document")[0], token_start=0, token_end=n + count - 1)
    ours = source_features(lm, gen, [every], [slice(t, t + 1) for t in range(count)], direct=True)
    ids, wrote = torch.tensor([[*gen.rendered.ids, *gen.response_ids[:-1]]]), {}
    width = lm.model.get_output_embeddings().weight.shape[1]
    more = torch.zeros(1, ids.shape[1], width, requires_grad=True)
    hooks = [
        readout.norm.register_forward_pre_hook(lambda module, args: (args[0] + more, *args[1:])),
        *(o.register_forward_hook(_keeping(wrote, k, factor)) for k, (o, factor) in readout.outs.items()),
    ]
    try:
        logits = lm.model(ids, use_cache=False).logits[0, n - 1 :]
    finally:
        for hook in hooks:
            hook.remove()
    log_p = torch.log_softmax(logits, dim=-1)[torch.arange(count), torch.tensor(gen.response_ids)]
    (gradient,) = torch.autograd.grad(log_p.sum(), more)
    plain = torch.stack([(wrote[k][0, n - 1 :] * gradient[0, n - 1 :]).sum(-1) for k in sorted(wrote)])
    assert plain.abs().max() > 0.02, "there is something to be told"
    assert (ours[..., 0].sum(1) - plain).abs().max() < 1e-4


def _keeping(wrote, number, factor):
    """A hook that keeps what came of the heads: an output projection's own bias is nobody's."""

    def keep(module, args, output):
        bias = getattr(module, "bias", None)
        wrote[number] = factor * (output - (0 if bias is None else bias))

    return keep


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gpt_oss", "bloom", "lfm2"])
def test_sixteen_bits_give_the_scores_of_float32_nearly(family, name, dtype, tmp_path, tiny_tokenizer):
    full, _ = family(name)
    lm = at2.load_model(str(folder_of(name, tiny_tokenizer, tmp_path)), device="cpu", dtype=dtype)
    ids = at2.generate(full, TASK, max_new_tokens=6, temperature=1.0, seed=1).response_ids
    exact, rounded = (
        at2.attribute(m, generation_from_ids(m, TASK, ids), at2.uniform_estimator(m), "word").scores
        for m in (full, lm)
    )
    assert rounded.dtype == "float32"
    assert abs(exact - rounded).max() < 0.05
    assert abs(exact - rounded).max() > 0


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_in_a_sentence(name, tmp_path, tiny_tokenizer):
    with pytest.raises(at2.ModelNotAvailable, match=r"choose (another|a) model") as refusal:
        at2.load_model(str(folder_of(name, tiny_tokenizer, tmp_path)), device="cpu", dtype="float32")
    assert str(tmp_path) not in str(refusal.value)


def test_a_model_that_would_be_read_wrongly_is_refused(tiny_lm, monkeypatch):
    right = attention.weights

    def without_scaling(layer, first_row, rows=slice(None)):
        layer.scaling = 1.0
        return right(layer, first_row, rows)

    monkeypatch.setattr(attention, "weights", without_scaling)
    with pytest.raises(at2.ModelNotAvailable, match="is not the one that it returns"):
        heads.find_heads(tiny_lm.model, "tiny")


def test_a_model_whose_cache_gives_other_answers_is_refused(tiny_lm, monkeypatch):
    class Forgetful(heads.new_cache(tiny_lm.model).__class__):
        def update(self, key, value, *args, **options):
            return super().update(key * 0.5, value * 0.5, *args, **options)

    monkeypatch.setattr(heads, "new_cache", lambda model: Forgetful())
    with pytest.raises(at2.ModelNotAvailable, match="other answers from a key cache"):
        heads.find_heads(tiny_lm.model, "tiny")


def test_eager_weights_come_in_blocks_and_leave_nothing_behind(family, monkeypatch):
    lm, _ = family("bloom")
    gen = at2.generate(lm, TASK, max_new_tokens=6, temperature=1.0, seed=1)
    assert isinstance(gen.trace, eager.EagerTrace)
    whole = all_weights(gen.trace)
    blocks = []
    monkeypatch.setattr(attention, "BLOCK_FLOATS", 2 * lm.num_heads * gen.trace.ids.shape[1])
    attention.visit(gen.trace, lambda layer, rows, block: blocks.append((layer, rows, block.clone())))
    assert max(block.shape[1] for _, _, block in blocks) == 2
    for layer, rows, block in blocks:
        assert (block - whole[layer, :, rows]).abs().max() < 10 * TOLERANCE
    assert not lm.model._forward_pre_hooks
    assert not any(module._forward_hooks for module in lm.model.modules())


def test_rollout_says_that_it_cannot_read_such_a_model(family):
    lm, _ = family("gptj")
    with pytest.raises(at2.At2Error, match="rollout"):
        find_method("rollout", lm=lm)


def test_the_readme_has_this_table(family):
    """All of it but the differences, whose digits are a machine's; those stay below the tests' tolerance."""
    text = README.read_text(encoding="utf-8")
    start = text.index("| heads | ablated tokens |")
    written, now = text[start : text.index("\n\n", start)], table([family(name)[1] for name in FAMILIES])
    difference = re.compile(r"(?<= )(\d(?:e-\d+)?)(?=,| \|)")
    assert difference.sub("", written) == difference.sub("", now)
    assert len(difference.findall(written)) == len(FAMILIES)
    assert max(map(float, difference.findall(written))) <= TOLERANCE
    for name in REFUSED:
        assert f"`{name}`" in text
