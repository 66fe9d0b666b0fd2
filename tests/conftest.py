"""Tiny real models on disk, read by the real loading code, and the default model for those who need it.

tiny_lm              a two-layer random Llama
tiny_model(kind)     the same in other architectures: "llama", "qwen3", "gemma3", "gemma2", "gpt2"
default_lm           the default model in float32 (mark such a test with `default_model`)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CORPUS = [
    "The quick brown fox jumps over the lazy dog. The dog sleeps in the sun, and the fox runs away.",
    "Paris is the capital of France. Berlin is the capital of Germany. What is the capital of Spain?",
    "user assistant system\n context query documents answer question the of and to in is was for on with",
    "In 1969 two people walked on the Moon; 384,400 km is the distance from the Earth to the Moon.",
]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    """Tiny matrices are slower on many threads, and parallel runs would fight for the cores."""
    import torch

    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, torch.get_num_threads()))


@pytest.fixture(scope="session")
def tiny_tokenizer():
    return make_tokenizer()


def make_tokenizer():
    """A byte-level BPE of about 450 tokens: any Unicode goes in, and most of it ends in byte tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(t, special=True) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
    trainer = trainers.BpeTrainer(
        vocab_size=450,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        chat_template=TEMPLATE,
        model_max_length=512,
    )


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory, tiny_tokenizer) -> Callable[[str], Path]:
    """`tiny_folder(kind)`: the folder of a saved random model of that architecture. Made once per session."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(f"tiny-{kind}", numbered=False)
            _random_model(kind, tiny_tokenizer).save_pretrained(made[kind])
            tiny_tokenizer.save_pretrained(made[kind])
        return made[kind]

    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_folder):
    """`tiny_model(kind)`: the LanguageModel of that architecture, float32 on the CPU. Loaded once."""
    from at2_core.models import load_model

    loaded = {}

    def model(kind: str):
        if kind not in loaded:
            loaded[kind] = load_model(str(tiny_folder(kind)), device="cpu", dtype="float32")
        return loaded[kind]

    return model


@pytest.fixture(scope="session")
def tiny_lm(tiny_model):
    return tiny_model("llama")


@pytest.fixture(scope="session")
def default_lm():
    """The default model in float32. Fails, and does not skip, where it is not to be had."""
    from at2_core.models import load_model

    return load_model(device="cpu", dtype="float32")


def _random_model(kind: str, tokenizer):
    """A random model whose attention is far from uniform, so that a wrong head or scaling shows."""
    import torch
    from transformers import (
        AutoModelForCausalLM,
        Gemma2Config,
        Gemma3TextConfig,
        GPT2Config,
        LlamaConfig,
        Qwen3Config,
    )

    common = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    rotary = {**common, **SIZES, "intermediate_size": 64, "head_dim": 8, "max_position_embeddings": 512}
    # A window of 16 is shorter than any prompt of the tests; one layer has it, one sees all.
    sliding = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
    configs = {
        "llama": lambda: LlamaConfig(**rotary),
        "qwen3": lambda: Qwen3Config(**rotary),
        "gemma3": lambda: Gemma3TextConfig(**rotary, **sliding, query_pre_attn_scalar=8),
        "gemma2": lambda: Gemma2Config(
            **rotary,
            **sliding,
            query_pre_attn_scalar=8,
            attn_logit_softcapping=2.0,
            final_logit_softcapping=30.0,
        ),
        "gpt2": lambda: GPT2Config(**common, n_embd=32, n_layer=2, n_head=4, n_positions=512),
    }
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(configs[kind]())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.5 if "q_proj" in name or "k_proj" in name or "c_attn" in name else 0.15)
            elif "q_norm" in name or "k_norm" in name:
                weight.fill_(2.0)  # normalised queries and keys would give nearly uniform attention
    return model.eval()
