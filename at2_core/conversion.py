"""Turn a GGUF file into a folder of safetensors, once, so that loading is quick and one code path loads everything."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import ModelNotAvailable

Progress = Callable[[str, int, int], None]
"""`progress(stage, done, total)`: stage is "wait", "download", "convert" or "load". Raising in it cancels."""


def convert_gguf(gguf: Path, folder: Path, progress: Progress, max_length: int | None = None) -> None:
    """Write the model of a GGUF file to `folder` as float32 safetensors with its tokenizer.

    float32 because a dequantised weight (scale times integer plus offset) fits neither bfloat16 nor float16; rounding,
    where wanted, then happens once, at loading.
    """
    progress("convert", 0, 2)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **source)
    except Exception as error:  # a damaged or unknown file fails anywhere in the parser
        raise ModelNotAvailable(
            f"The file {gguf.name} cannot be read as a GGUF language model ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:200] if str(error) else 'no detail'})."
        ) from error
    progress("convert", 1, 2)
    _split_digits_as_trained(tokenizer, gguf)
    tokenizer.model_max_length = max_length or model.config.get_text_config().max_position_embeddings
    # The weights are plain float32 now; without these marks transformers would refuse to save them.
    model.hf_quantizer = None
    model.is_quantized = False
    del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    progress("convert", 2, 2)


def _split_digits_as_trained(tokenizer: Any, gguf: Path) -> None:
    """Restore the pre-tokenizer "smollm", which transformers does not read from GGUF: every digit stands alone.

    Without it, blanks before a digit (tables, lists) become tokens that the model never saw in training.
    """
    from tokenizers import pre_tokenizers

    if _pre_tokenizer_name(gguf) == b"smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        rest = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, rest])


def _pre_tokenizer_name(gguf: Path) -> bytes:
    """The string behind the key "tokenizer.ggml.pre": 4 bytes of type, 8 bytes of length, then the text."""
    with gguf.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        key = b"tokenizer.ggml.pre"
        at = content.find(key)
        if at < 0:
            return b""
        at += len(key) + 4
        length = int.from_bytes(content[at : at + 8], "little")
        return content[at + 8 : at + 8 + min(length, 64)]
