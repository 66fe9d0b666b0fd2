"""What is read inside the kernels equals what transformers itself returns on its slow path."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask
from transformers import DynamicCache

from at2_core import attention
from at2_core.attention import contract, contracting, reading, weights

KINDS = ["llama", "qwen3", "gemma3", "gemma2", "gpt2"]
TOLERANCE = 1e-5
IDS = torch.randint(
    3, 400, (1, 60), generator=torch.Generator().manual_seed(0)
)  # longer than gemma3's window


def eager_attention(lm, ids):
    """(layers, heads, tokens, tokens) by `output_attentions=True`."""
    kernel = lm.model.config._attn_implementation
    lm.model.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            return torch.stack(lm.model(ids, output_attentions=True, use_cache=False).attentions)[:, 0]
    finally:
        lm.model.set_attn_implementation(kernel)


def read(lm, ids, first_row, **options):
    with torch.inference_mode(), reading(lm.model, first_row) as reader:
        lm.model(ids, **options)
    return reader.trace()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_equal_those_of_eager_attention(tiny_model, kind):
    lm = tiny_model(kind)
    trace = read(lm, IDS, 40, use_cache=False)
    ours = torch.stack([weights(layer, trace.first_row) for layer in trace.layers])
    difference = float((ours - eager_attention(lm, IDS)[:, :, 40:]).abs().max())
    print(f"{kind}: largest difference to eager attention {difference:.1e}")  # shown by pytest -rP
    assert difference < TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_reading_step_by_step_equals_reading_at_once(tiny_model, kind):
    lm = tiny_model(kind)
    cache = DynamicCache()
    with torch.inference_mode(), reading(lm.model, 49) as reader:
        lm.model(IDS[:, :50], past_key_values=cache)
        for t in range(50, 60):
            lm.model(IDS[:, t : t + 1], past_key_values=cache)
    ours = torch.stack([weights(layer, 49) for layer in reader.trace().layers])
    assert (ours - eager_attention(lm, IDS)[:, :, 49:]).abs().max() < TOLERANCE


@pytest.mark.parametrize(
    ("kind", "kernel"),
    [(kind, "eager") for kind in KINDS]
    + [(kind, "sdpa") for kind in KINDS if kind != "gemma2"],  # which has no sdpa
)
def test_reading_leaves_the_logits_bit_identical(tiny_model, kind, kernel):
    lm = tiny_model(kind)
    before = lm.model.config._attn_implementation
    lm.model.set_attn_implementation(kernel)
    try:
        with torch.inference_mode():
            plain = lm.model(IDS).logits
            with reading(lm.model, 0):
                watched = lm.model(IDS).logits
        assert torch.equal(plain, watched)
        assert lm.model.config._attn_implementation == kernel, "the stock kernel must be given back"
    finally:
        lm.model.set_attn_implementation(before)


def test_the_kernel_is_given_back_after_an_error(tiny_lm):
    before = tiny_lm.model.config._attn_implementation
    with pytest.raises(RuntimeError, match="in the middle"), reading(tiny_lm.model, 0):
        raise RuntimeError("in the middle")
    assert tiny_lm.model.config._attn_implementation == before


def test_two_readings_at_once_do_not_disturb_each_other(tiny_lm):
    before = tiny_lm.model.config._attn_implementation
    with reading(tiny_lm.model, 0):
        inner = read(tiny_lm, IDS, 30)
        assert tiny_lm.model.config._attn_implementation != before
    assert inner.num_rows == 30
    assert tiny_lm.model.config._attn_implementation == before


def test_contracting_in_blocks_equals_the_plain_sum_over_heads(tiny_lm, monkeypatch):
    trace = read(tiny_lm, IDS, 40, use_cache=False)
    theta = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    plain = torch.einsum("lh,lhrn->rn", theta, eager_attention(tiny_lm, IDS)[:, :, 40:])[:, :41]
    monkeypatch.setattr(attention, "BLOCK_FLOATS", 600)  # two or three rows at a time
    blocked = contract(trace, theta, 41)
    assert (blocked - plain).abs().max() < TOLERANCE


def test_a_trace_holds_no_more_than_queries_of_the_rows_and_keys(tiny_lm):
    trace = read(tiny_lm, IDS, 50, use_cache=False)
    for layer in trace.layers:
        assert layer.queries.shape == (4, 10, 8)
        assert layer.keys.shape == (2, 60, 8)
        assert layer.queries.untyped_storage().nbytes() == layer.queries.nbytes


@pytest.mark.default_model
def test_the_default_model_reads_as_eager(default_lm):
    ids = torch.tensor(
        [default_lm.tokenizer("The cat sat on the mat because it was warm. " * 8)["input_ids"]]
    )
    trace = read(default_lm, ids, 20, use_cache=False)
    ours = torch.stack([weights(layer, 20) for layer in trace.layers])
    difference = float((ours - eager_attention(default_lm, ids)[:, :, 20:]).abs().max())
    print(f"{default_lm.name}: largest difference to eager attention {difference:.1e}")
    assert difference < TOLERANCE
    assert np.allclose(ours.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_summing_early_equals_contracting_a_trace(tiny_model, kind, monkeypatch):
    lm = tiny_model(kind)
    thetas = torch.randn(2, lm.num_layers, lm.num_heads, generator=torch.Generator().manual_seed(1))
    trace = read(lm, IDS, 40, use_cache=False)
    plain = torch.stack([contract(trace, theta, 50) for theta in thetas])
    monkeypatch.setattr(attention, "BLOCK_FLOATS", 600)
    with torch.inference_mode(), contracting(lm.model, 40, thetas, lm.layer_numbers, 20, 50) as early:
        lm.model(IDS, use_cache=False)
    assert (early.totals - plain).abs().max() < TOLERANCE


@pytest.mark.parametrize("window", [None, 7])
def test_a_mask_that_is_a_function_of_positions_is_read_as_its_rows(window):
    """Flex attention's, for a whole sequence and for one step behind a cache, against the sums of its definition."""

    def seen(batch, head, row, column):
        causal = column <= row
        return causal if window is None else causal & (column > row - window)

    whole = create_block_mask(seen, None, None, 30, 30, device="cpu")
    rows, columns = torch.arange(30)[:, None], torch.arange(30)[None]
    plain = (columns <= rows) & (columns > rows - (window or 30))
    assert torch.equal(attention._rows_of(whole, 12, 30, 30)[0], plain[12:])
    step = create_block_mask(
        lambda b, h, row, column: seen(b, h, row + 29, column), None, None, 1, 30, device="cpu"
    )
    assert torch.equal(attention._rows_of(step, 0, 1, 30)[0], plain[29:])
