"""Turn a GGUF file into a folder of safetensors, once, so that loading is quick and one code path loads everything."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from .errors import ModelNotAvailable

T = TypeVar("T")
Progress = Callable[[str, int, int], None]
"""`progress(stage, done, total)`: stage is "wait", "download", "convert", "load" or "check". Raising in it cancels."""


def convert_gguf(gguf: Path, folder: Path, progress: Progress, max_length: int | None = None) -> None:
    """Write the model of a GGUF file to `folder` as float32 safetensors with its tokenizer.

    float32 because a dequantised weight (scale times integer plus offset) fits neither bfloat16 nor float16; rounding,
    where wanted, then happens once, at loading.
    """
    progress("convert", 0, 0)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True, "trust_remote_code": False}
    dense: dict[str, Any] = {"quantization_config": GgufConfig(dequantize=True), "dtype": torch.float32}
    try:
        with _read_once_and_reported(progress):
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
            model = AutoModelForCausalLM.from_pretrained(gguf.parent, **dense, **source)
    except StoppedByCaller as stopped:
        raise stopped.reason from None
    except Exception as error:  # a damaged or unknown file fails anywhere in the parser
        detail = str(error).strip().splitlines()
        raise ModelNotAvailable(
            f"The file {gguf.name} cannot be read as a GGUF language model ({type(error).__name__}: "
            f"{detail[0][:200] if detail else 'no detail'})."
        ) from error
    _split_digits_as_trained(tokenizer, gguf)
    tokenizer.model_max_length = max_length or model.config.get_text_config().max_position_embeddings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


class StoppedByCaller(Exception):
    """Carries what the caller's progress raised through transformers, apart from what the file makes it raise."""

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


def counted(stage: str, items: Collection[T], progress: Progress) -> Iterator[T]:
    """The items, in place of a bar of transformers': `progress` hears how many are done. Raises StoppedByCaller."""
    for done, item in enumerate(items):
        try:
            progress(stage, done, len(items))
        except BaseException as reason:
            raise StoppedByCaller(reason) from None
        yield item


@contextmanager
def _read_once_and_reported(progress: Progress) -> Iterator[None]:
    """While it lasts, transformers parses a GGUF file once, not three times, and its bar over the tensors is ours.

    Parsing the vocabulary and rebuilding the table of tensor names are most of a conversion's time: 20 seconds of a
    small model's conversion become 8. Ours, the bar prints nothing and lets the caller stop at every tensor.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as loader

    def report(tensors: Any, **_: Any) -> Iterator[Any]:
        return counted("convert", tensors, progress)

    swaps = [
        (loader, "tqdm", report),
        (gguf, "GGUFReader", cache(gguf.GGUFReader)),
        (gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map)),
    ]
    with _one_conversion:
        originals = [(module, name, getattr(module, name)) for module, name, _ in swaps]
        try:
            for module, name, ours in swaps:
                setattr(module, name, ours)
            yield
        finally:
            for module, name, original in originals:
                setattr(module, name, original)


_one_conversion = threading.Lock()  # the modules belong to the process


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
