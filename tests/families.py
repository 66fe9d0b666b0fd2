"""Small random models of every family that we know how to try, and what reading each of them gives.

`FAMILIES`    configurations by transformers' model type; `REFUSED`: those that have to be turned away
`folder_of`   a saved model of a family, as a person's folder would be
`conformance` what was measured on one: how its heads are read, largest differences, how its ablations are made

    python -m tests.families        the README's table
"""

from __future__ import annotations

import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import at2_core as at2
from at2_core.ablation import ablate, can_drop
from at2_core.attention import reading, visit
from at2_core.models import LanguageModel

ROTARY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 512,
}  # fmt: skip
WIDE = {**ROTARY, "head_dim": 8}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
# A window of 16 is shorter than any prompt of the tests; one layer has it, one sees all.
WINDOW = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": WIDE,
    "mistral": {**WIDE, "sliding_window": 16},
    "mixtral": {**WIDE, **LOCAL_EXPERTS},
    "qwen2": ROTARY,
    "qwen2_moe": {**ROTARY, **EXPERTS, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32},
    "qwen3": WIDE,
    "qwen3_moe": {**WIDE, **EXPERTS, "moe_intermediate_size": 32},
    "qwen3_next": {
        **WIDE, **EXPERTS, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"],
    },
    "gemma": WIDE,
    "gemma2": {**WIDE, **WINDOW, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0},
    "gemma3_text": {**WIDE, **WINDOW, "query_pre_attn_scalar": 8},
    "recurrent_gemma": {**ROTARY, "lru_width": 32, "attention_window_size": 16, "block_types": ["recurrent", "attention"]},
    "phi": ROTARY,
    "phi3": {**ROTARY, "sliding_window": 16},
    "phimoe": {**ROTARY, **LOCAL_EXPERTS},
    "gpt2": GPT,
    "gpt_bigcode": GPT,
    "gpt_neo": {
        "hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 16,
        "max_position_embeddings": 512,
    },
    "gpt_neox": ROTARY,
    "gptj": {**GPT, "rotary_dim": 4},
    "gpt_oss": {**WIDE, **WINDOW, **LOCAL_EXPERTS},
    "codegen": {**GPT, "rotary_dim": 4},
    "opt": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64, "max_position_embeddings": 512,
        "word_embed_proj_dim": 32,
    },
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 512},
    "falcon_h1": {**WIDE, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512},
    "olmo": ROTARY,
    "olmo2": ROTARY,
    "olmo3": {**WIDE, **WINDOW},
    "olmoe": {**ROTARY, **EXPERTS},
    "granite": ROTARY,
    "granitemoe": {**ROTARY, **LOCAL_EXPERTS},
    "granitemoehybrid": {
        **ROTARY, **MAMBA, "layer_types": ["mamba", "attention"], "num_local_experts": 2, "num_experts_per_tok": 1,
        "shared_intermediate_size": 32,
    },
    "cohere": ROTARY,
    "cohere2": {**ROTARY, **WINDOW},
    "starcoder2": {**ROTARY, "sliding_window": 16},
    "stablelm": ROTARY,
    "smollm3": ROTARY,
    "glm": WIDE,
    "glm4": WIDE,
    "deepseek_v3": {
        **ROTARY, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8,
        "v_head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
        "moe_intermediate_size": 32, "first_k_dense_replace": 1, "n_shared_experts": 1,
    },
    "llama4_text": {
        **WIDE, "num_local_experts": 2, "num_experts_per_tok": 1, "attention_chunk_size": 16, "intermediate_size_mlp": 64,
        "no_rope_layers": [1, 0], "layer_types": ["chunked_attention", "full_attention"],
    },
    "jamba": {
        **ROTARY, "num_experts": 2, "num_experts_per_tok": 1, "attn_layer_period": 2, "attn_layer_offset": 1,
        "use_mamba_kernels": False, "mamba_d_state": 8,
    },
    "nemotron": ROTARY,
    "nemotron_h": ROTARY,
    "lfm2": {**ROTARY, "layer_types": ["conv", "full_attention"]},
    "exaone4": {**WIDE, **WINDOW},
    "ernie4_5": WIDE,
    "hunyuan_v1_dense": WIDE,
    "seed_oss": WIDE,
    "apertus": ROTARY,
    "arcee": WIDE,
    "helium": WIDE,
    "bitnet": ROTARY,
    "biogpt": {**ROTARY},
    "xglm": {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64, "max_position_embeddings": 512},
}  # fmt: skip
REFUSED: dict[str, dict[str, Any]] = {
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    "rwkv": {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32},
    "bamba": {**ROTARY, **MAMBA, "attn_layer_indices": [1]},
    "minimax": {
        **WIDE, "layer_types": ["linear_attention", "full_attention"], "num_local_experts": 2, "num_experts_per_tok": 1,
    },
}  # fmt: skip
SHARP = ("q_proj", "k_proj", "c_attn", "query_key", "qkv", "Wqkv", "q_a_", "q_b_", "kv_a", "kv_b")
CONTEXT = "The quick brown fox jumps over the lazy dog. Paris is the capital of France. In 1969 two people walked on the Moon."
QUERY = "What is the capital of Spain?"


@dataclass(frozen=True)
class Conformance:
    """What was measured on one family. weights, step, ablation: largest absolute differences; nan: nothing to compare with."""

    family: str
    in_place: bool
    layers: str
    weights: float
    same_logits: bool
    step: float
    ablation: float
    ablated: str  # "left out", or "masked" where positions or windows go by the index


def folder_of(family: str, tokenizer: Any, place: Path) -> Path:
    """A random model of the family whose attention is far from uniform, so that a wrong head or scaling shows."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = place / family
    if folder.exists():
        return folder
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model(
        family, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **ids, **(FAMILIES | REFUSED)[family]
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.5 if any(part in name for part in SHARP) else 0.15)
            elif "q_norm" in name or "k_norm" in name:
                weight.fill_(2.0)  # normalised queries and keys would give nearly uniform attention
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def conformance(lm: LanguageModel, family: str) -> Conformance:
    """Read one model in every way that the app does, each against the model's own plain way."""
    task = at2.ContextTask(context=CONTEXT, query=QUERY)
    gen = at2.generate(lm, task, max_new_tokens=8, temperature=1.0, seed=3)
    ids = torch.tensor([[*gen.rendered.ids, *gen.response_ids]])[:, :-1]
    n = len(gen.rendered.ids)
    with torch.inference_mode():
        plain = lm.model(ids, use_cache=False).logits
        with reading(lm.model, n - 1) as reader:
            watched = lm.model(ids, use_cache=False).logits
    read = all_weights(reader.trace())
    step = all_weights(gen.trace if gen.trace is not None else reader.trace())
    shown = eager_weights(lm, ids)[:, :, n - 1 :]
    sources = at2.cut(gen.rendered, "word")
    keep = np.random.default_rng(0).random((6, len(sources))) < 0.5
    fast = ablate(lm, gen, sources, keep)
    if lm.stateful:
        ablated, plainly = "left out", np.concatenate([_removed(lm, gen, sources, row) for row in keep])
    elif can_drop(lm, ids.shape[1]):
        ablated, plainly = "left out", ablate(lm, gen, sources, keep, method="mask")
    else:
        ablated, plainly = "masked", fast
    return Conformance(
        family=family,
        in_place=lm.in_place,
        layers=f"{lm.num_layers} of {lm.model.config.get_text_config().num_hidden_layers}",
        weights=float((read - shown).abs().max()),
        same_logits=bool(torch.equal(plain, watched)),
        step=float((step - shown).abs().max()) if gen.trace is not None else float("nan"),
        ablation=float(np.abs(fast - plainly).max()) if ablated == "left out" else float("nan"),
        ablated=ablated,
    )


def all_weights(trace: Any) -> torch.Tensor:
    """(layers, heads, rows, tokens) of a trace."""
    parts: list[list[torch.Tensor]] = [[] for _ in range(trace.num_layers)]
    visit(trace, lambda layer, rows, block: parts[layer].append(block.clone()))
    return torch.stack([torch.cat(blocks, dim=1) for blocks in parts])


def eager_weights(lm: LanguageModel, ids: torch.Tensor) -> torch.Tensor:
    """(layers with heads, heads, tokens, tokens) by `output_attentions=True`, at full length and without a cache."""
    kernel = lm.model.config._attn_implementation
    lm.model.config._attn_implementation = "eager"
    try:
        with torch.inference_mode():
            shown = lm.model(ids, output_attentions=True, use_cache=False).attentions
    finally:
        lm.model.config._attn_implementation = kernel
    return torch.stack([w[0].float() for w in shown if w is not None])


def _removed(lm: LanguageModel, gen: Any, sources: Any, keep: np.ndarray) -> np.ndarray:
    """(1, T): the response behind a prompt without the hidden tokens, positions unchanged, alone in its batch."""
    from at2_core.ablation import kept_tokens
    from at2_core.generation import forward_parameters, token_logit_probs

    n, count = len(gen.rendered.ids), gen.num_tokens
    kept = kept_tokens(n, sources, keep)
    ids = torch.tensor([[*np.array(gen.rendered.ids)[kept], *gen.response_ids[:-1]]])
    positions = torch.tensor([[*kept, *range(n, n + count - 1)]])
    options = {"position_ids": positions} if "position_ids" in forward_parameters(lm) else {}
    with torch.inference_mode():
        # Without a mask, transformers takes a gap in the positions for the border of two sequences.
        mask = torch.ones_like(ids)
        logits = lm.model(ids, attention_mask=mask, use_cache=False, **options).logits[0, -count:]
    return token_logit_probs(logits, torch.tensor(gen.response_ids)).numpy()[None]


def table(rows: list[Conformance]) -> str:
    """Markdown, a row for each way of reading and ablating; in it every family with its largest difference, rounded up to a
    digit."""
    groups: dict[tuple[bool, bool, str], list[Conformance]] = {}
    for row in rows:
        groups.setdefault(
            (not row.in_place, row.layers.split()[0] != row.layers.split()[-1], row.ablated), []
        ).append(row)
    lines = ["| heads | ablated tokens | families |", "| --- | --- | --- |"]
    for (again, some, ablated), group in sorted(groups.items()):
        way = "read by running again" if again else "read in place"
        layers = ", of the layers that have heads" if some else ""
        each = (
            f"{row.family} {_rounded_up(row.weights)}" for row in sorted(group, key=lambda row: row.family)
        )
        lines.append(f"| {way}{layers} | {ablated} | {', '.join(each)} |")
    return "\n".join(lines)


def _rounded_up(difference: float) -> str:
    """As 3e-6 for all above 2e-6 up to 3e-6."""
    if difference == 0:
        return "0"
    exponent = math.floor(math.log10(difference))
    return f"{math.ceil(difference / 10**exponent) * 10.0**exponent:.0e}".replace("e-0", "e-")


def main() -> None:
    from tests.conftest import make_tokenizer

    tokenizer = make_tokenizer()
    with tempfile.TemporaryDirectory() as place:
        rows = []
        for family in sys.argv[1:] or sorted(FAMILIES):
            lm = at2.load_model(str(folder_of(family, tokenizer, Path(place))), device="cpu", dtype="float32")
            rows.append(conformance(lm, family))
            print(rows[-1], file=sys.stderr)
    print(table(rows))
    print("\nRefused: " + ", ".join(f"`{name}`" for name in sorted(REFUSED)) + ".")


if __name__ == "__main__":
    main()
