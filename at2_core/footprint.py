"""How much memory and time a run takes, before it is begun, and how much is free.

`footprint`            of a response and its attribution, from the model's sizes
`gradient_footprint`   of the methods that need gradients, which hold every layer's activations
`longest_prompt`       the longest one for which the memory is enough
`free_memory`          of a device, in bytes; `give_back_memory` returns what Python and torch no longer use
`Pace`                 seconds that runs of this model took here, by which the next ones are judged

The figures are what the arrays take that are alive at the same time, with the room that allocators need around them; the tests
compare them with the measured peak. They are meant for saying no in time, not for accounting.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .models import LanguageModel

MOST_ROOM = 2  # a key cache that grows token by token needs its own size once more: old blocks are too small for new keys
SCATTERED = 1.5  # what a layer works with comes and goes, and leaves holes: a run was seen to take 1 to 2 times its arrays
SLACK = 32_000_000  # bytes: detokenizing, sources, small arrays
FLOAT = 4  # bytes
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Footprint:
    """bytes beyond the loaded model; seconds at the pace so far, None while there is none."""

    bytes: int
    seconds: float | None = None


@dataclass(frozen=True)
class Sizes:
    """What memory and time depend on. key, value: numbers that a token leaves in the cache of all layers together; query: those
    of its queries; inside: those alive at once inside a layer."""

    layers: int
    heads: int
    width: int  # of a head
    key: int
    value: int
    query: int
    hidden: int
    inside: int
    held: int  # numbers that gradients need of a token and layer
    vocabulary: int
    parameters: int
    bytes: int  # of a number
    eager: bool

    @classmethod
    def of(cls, lm: LanguageModel) -> Sizes:
        config = lm.model.config.get_text_config()

        def size(*names: str, default: int = 0) -> int:
            found = (getattr(config, name, None) for name in names)
            return next((int(f) for f in found if isinstance(f, int) and f > 0), default)

        hidden = size("hidden_size", "n_embd", default=768)
        width = size("head_dim", "qk_head_dim", default=max(1, hidden // lm.num_heads))
        value = size("v_head_dim", default=width)
        kv_heads = min(size("num_key_value_heads", default=lm.num_heads), lm.num_heads)
        if size("kv_lora_rank"):  # latent attention is unfolded to every head before it is cached
            kv_heads = lm.num_heads
        experts = size("num_experts_per_tok", default=1)
        inner = max(
            size("intermediate_size", "n_inner", "ffn_dim", default=4 * hidden),
            experts * size("moe_intermediate_size"),
        )
        return cls(
            layers=lm.num_layers,
            heads=lm.num_heads,
            width=width,
            key=lm.num_layers * kv_heads * width,
            value=lm.num_layers * kv_heads * value,
            query=lm.num_layers * lm.num_heads * width,
            hidden=hidden,
            inside=4 * inner + 8 * hidden,
            held=5 * inner + 9 * hidden,
            vocabulary=size("vocab_size", default=32_000),
            parameters=int(lm.model.num_parameters()),
            bytes=_itemsize(lm.dtype),
            eager=not getattr(lm, "in_place", True) or lm.model.config._attn_implementation == "eager",
        )


@dataclass
class Pace:
    """What runs took: seconds per unit of reading work (see `_reading`), and per token of response. Later ones count more."""

    reading: float | None = None
    writing: float | None = None

    def add(
        self, lm: LanguageModel, prompt_tokens: int, reading: float, tokens: int = 0, writing: float = 0.0
    ) -> None:
        """A run: seconds until the first token behind so many of prompt, and seconds for `tokens` more."""
        work = _reading(Sizes.of(lm), prompt_tokens)
        if reading > 0 and work:
            self.reading = _mean(self.reading, reading / work)
        if writing > 0 and tokens > 0:
            self.writing = _mean(self.writing, writing / tokens)

    def seconds(self, lm: LanguageModel, prompt_tokens: int, response_tokens: int) -> float | None:
        """Until so long a response is there, at most; None while there is no pace."""
        if self.reading is None or (response_tokens > 1 and self.writing is None):
            return None
        return self.until_first(lm, prompt_tokens) + max(0, response_tokens - 1) * (self.writing or 0.0)

    def until_first(self, lm: LanguageModel, prompt_tokens: int) -> float:
        """Seconds until the prompt is read; 0 while there is no pace."""
        return (self.reading or 0.0) * _reading(Sizes.of(lm), prompt_tokens)


def footprint(
    lm: LanguageModel,
    prompt_tokens: int,
    response_tokens: int,
    *,
    given: bool = False,
    pace: Pace | None = None,
) -> Footprint:
    """Of a response of so many tokens at most, with its attribution. given: one that is only read."""
    from .attention import BLOCK_FLOATS
    from .generation import LOGIT_ROWS, PREFILL

    s, n, rows = Sizes.of(lm), prompt_tokens, max(1, response_tokens)
    tokens = n + rows
    queries = rows * s.query * s.bytes
    block = 3 * min(BLOCK_FLOATS, s.heads * rows * tokens) * FLOAT
    attributing = block + 2 * s.key // s.layers * tokens * FLOAT + 2 * rows * n * FLOAT
    if given:
        keys = tokens * (s.key + s.value) * s.bytes + queries
        logits = rows * s.vocabulary * s.bytes + 2 * min(rows, LOGIT_ROWS) * s.vocabulary * FLOAT
        working = tokens * s.inside * s.bytes + logits
        working += _eager_weights(s, tokens, tokens)
    else:
        piece = min(n, PREFILL) if n > 2 * PREFILL else n
        keys = MOST_ROOM * tokens * (s.key + s.value) * s.bytes + 2 * queries
        working = piece * s.inside * s.bytes + 3 * s.vocabulary * FLOAT + _eager_weights(s, piece, tokens)
        working += piece * tokens * (1 + FLOAT) if piece < n else 0  # a mask, and as numbers
    seconds = None
    if pace is not None:  # a response that is given is read with its prompt
        seconds = pace.seconds(lm, tokens, 1) if given else pace.seconds(lm, n, rows)
    return Footprint(keys + int(SCATTERED * max(working, attributing)) + SLACK, seconds)


def gradient_footprint(lm: LanguageModel, prompt_tokens: int, response_tokens: int) -> Footprint:
    """Of gradients with respect to the prompt's embeddings: the activations of all layers are held meanwhile."""
    s, tokens = Sizes.of(lm), prompt_tokens + response_tokens
    activations = tokens * s.layers * s.held * s.bytes
    logits = response_tokens * s.vocabulary * (s.bytes + 3 * FLOAT)
    weights = s.layers * s.heads * tokens * tokens * (s.bytes + FLOAT) if s.eager else 0
    return Footprint(activations + logits + weights + 3 * prompt_tokens * s.hidden * FLOAT + SLACK)


def longest_prompt(
    lm: LanguageModel, response_tokens: int, free_bytes: int, *, given: bool = False, at_most: int = 1 << 22
) -> int:
    """Tokens of the longest prompt whose run fits into so many bytes; 0 where none does."""
    low, high = 0, at_most
    while low < high:
        middle = (low + high + 1) // 2
        if footprint(lm, middle, response_tokens, given=given).bytes <= free_bytes:
            low = middle
        else:
            high = middle - 1
    return low


# ------------------------------------------------------------------------------------------------- what there is


def free_memory(device: Any = "cpu") -> int:
    """Bytes that a program can still have: of the GPU, or of this computer within the limits of its container."""
    kind = getattr(device, "type", str(device).partition(":")[0])
    if kind == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    import psutil  # type: ignore[import-untyped]

    return int(min(psutil.virtual_memory().available, _container_leaves()))


def _container_leaves(root: Path = CGROUP) -> float:
    """Bytes that the container's limit leaves; infinite where there is none. Cached files give way, so they count as free."""
    for limit, used, inactive in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        with contextlib.suppress(OSError, ValueError):
            most = int((root / limit).read_text())  # "max" is no number
            stat = (root / limit).parent / "memory.stat"
            cached = dict(line.split() for line in stat.read_text().splitlines() if len(line.split()) == 2)
            return max(0, most - int((root / used).read_text()) + int(cached.get(inactive, 0)))
    return float("inf")


def resident_memory() -> int:
    """Bytes of this process that are in memory."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def give_back_memory() -> None:
    """Return to the system what is no longer used: Python and the C library keep it for later otherwise."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):  # a C library other than glibc
            ctypes.CDLL("libc.so.6").malloc_trim(0)


# ----------------------------------------------------------------------------------------------------- inside


def _reading(s: Sizes, tokens: int) -> float:
    """Multiplications of one pass over so many tokens: through the weights, and between all pairs of tokens."""
    return 2.0 * s.parameters * tokens + 2.0 * s.layers * s.heads * s.width * tokens * tokens


def _eager_weights(s: Sizes, rows: int, tokens: int) -> int:
    """The slow kernel holds the weights of a layer as numbers of both sizes."""
    return 2 * s.heads * rows * tokens * FLOAT if s.eager else 0


def _mean(before: float | None, now: float) -> float:
    return now if before is None else (before + now) / 2


def _itemsize(dtype: Any) -> int:
    return int(getattr(dtype, "itemsize", 4))
