"""Remove sources from the prompt and measure the response again: the ground truth that scores are judged by.

`ablate`     token logit-probabilities of the response for many keep-vectors
`outcome`    the logit of a target's probability, from its tokens' logit-probabilities

Dropping hidden tokens while the others keep their positions gives the logits of a mask at a fraction of its work. Where a
model takes positions from the index instead (ALiBi, sliding windows shorter than the prompt) the mask itself is used. Where
layers carry a state along (state-space, linear attention), no mask hides a token from it: there, leaving out is the ablation.
"""

from __future__ import annotations

import copy
import math
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from .cache import new_cache
from .errors import Cancelled
from .generation import Generation, forward_parameters, last_logits, token_logit_probs
from .models import LanguageModel
from .sources import Source

BATCH_TOKENS = (
    1024  # tokens of one forward pass on a processor: enough to fill it, so that long prompts run one by one
)
CACHED = 8  # times the tokens of a forward pass: what all copies of a shared beginning may take
CUDA_SHARE = 0.3  # of the free memory that one forward pass may fill
PREFIX_SHARE = 0.2  # where sequences run one by one, a shorter prefix is not worth the mask that its cache brings: causal
# kernels are faster. Batches are padded, so they have a mask anyway.
LATE_SHARE = 0.25  # of an ablation's tokens that its beginning has to save; below, larger batches are as fast
WINDOW = re.compile(r"window(_size)?$|attention_chunk_size$")
PROBE_TOLERANCE = (
    0.05  # logits of float32 noise are near 1e-4, of bfloat16 near 0.1 of the spread; a wrong position is 1+
)


def ablate(
    lm: LanguageModel,
    gen: Generation,
    sources: Sequence[Source],
    keep: np.ndarray,
    *,
    method: str = "auto",
    cancel: threading.Event | None = None,
) -> np.ndarray:
    """log(p / (1 - p)) of each response token, with the dropped sources hidden: float32 (M, T).

    keep: bool (M, S), one row an ablation. Positions of the kept tokens do not change; all else in the prompt stays.
    method: "drop" leaves the hidden tokens out, "mask" hides them from attention at full length, "auto" drops wherever that
    is the same. Raises Cancelled when `cancel` is set between batches.
    """
    keep = np.asarray(keep, bool)
    if keep.ndim != 2 or keep.shape[1] != len(sources):
        raise ValueError(f"keep has shape {keep.shape}, expected (ablations, {len(sources)} sources)")
    out = np.zeros((len(keep), gen.num_tokens), np.float32)
    if not len(keep) or not gen.response_ids:
        return out
    distinct, inverse = np.unique(keep, axis=0, return_inverse=True)
    kept = [kept_tokens(len(gen.rendered.ids), sources, row) for row in distinct]
    if method == "auto":
        method = "drop" if can_drop(lm, len(gen.rendered.ids) + gen.num_tokens) else "mask"
    run = _drop if method == "drop" else _mask
    results = np.zeros((len(distinct), gen.num_tokens), np.float32)
    for rows, logit_probs in run(lm, gen, kept):
        if cancel is not None and cancel.is_set():
            raise Cancelled("The ablations were stopped.")
        results[rows] = logit_probs.cpu().numpy()
    out[:] = results[inverse.reshape(-1)]
    return out


def log_prob(logit_probs: np.ndarray) -> np.ndarray:
    """float64 (...): log-probability of a target, from its tokens' logit-probabilities (..., tokens)."""
    x = np.asarray(logit_probs, np.float64)
    return -np.logaddexp(0, -x).sum(axis=-1)


def outcome(logit_probs: np.ndarray) -> np.ndarray:
    """float64 (...): f = log P - log(1 - P) of a target with probability P, from its tokens' logit-probabilities.

    (arXiv 2504.13752, section 3.) For one token it is that token's logit-probability.
    """
    x = np.asarray(logit_probs, np.float64)
    if x.shape[-1] == 1:
        return x[..., 0]
    log_p = log_prob(x)
    # 1 - P as -expm1(log P) keeps its digits at both ends; a P that rounds to one is held off by the smallest step.
    return log_p - np.log(-np.expm1(np.minimum(log_p, -1e-300)))


def random_keep(
    count: int, num_sources: int, rng: np.random.Generator, probability: float = 0.5
) -> np.ndarray:
    """bool (count, num_sources): keep-vectors in which each source stays with the given probability."""
    return rng.random((count, num_sources)) < probability


_droppable: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def can_drop(lm: LanguageModel, num_tokens: int) -> bool:
    """Whether leaving tokens out gives what masking them gives, at this length.

    Windows count tokens by their index, so a prompt longer than one needs the mask. Whether positions are honoured at all is
    tried once per model on a short sequence rather than looked up in a table of architectures.
    """
    if lm.stateful:
        return True
    if num_tokens > _shortest_window(lm.model.config.get_text_config()):
        return False
    if lm.model not in _droppable:
        _droppable[lm.model] = _probe(lm)
    return _droppable[lm.model]


def _shortest_window(config: Any) -> float:
    """Tokens that the nearest-sighted layer sees: sliding_window, window_size, attention_chunk_size, ..."""
    sizes = [
        value
        for name, value in config.to_dict().items()
        if WINDOW.search(name) and type(value) is int and value > 0  # 0 and True say something else
    ]
    return min(sizes, default=math.inf)


@torch.inference_mode()
def _probe(lm: LanguageModel) -> bool:
    vocabulary = lm.model.config.get_text_config().vocab_size
    ids = torch.arange(7, 31, device=lm.device)[None] * 37 % vocabulary
    mask = torch.ones_like(ids)
    mask[:, 4:12] = 0
    positions = torch.arange(ids.shape[1], device=lm.device)[None]
    seen = mask.bool()
    try:
        masked = (
            lm.model(ids, attention_mask=mask, position_ids=positions, use_cache=False).logits[0, -1].float()
        )
        dropped = (
            lm.model(
                ids[seen][None],
                attention_mask=mask[seen][None],
                position_ids=positions[seen][None],
                use_cache=False,
            )
            .logits[0, -1]
            .float()
        )
    except TypeError:  # no position_ids in its forward
        return False
    return bool(
        (masked - dropped).abs().max() <= PROBE_TOLERANCE * masked.std().clamp(min=1e-6) * (_noise(lm))
    )


def _noise(lm: LanguageModel) -> float:
    return 1.0 if lm.dtype == torch.float32 else 10.0


def kept_tokens(n: int, sources: Sequence[Source], keep: np.ndarray) -> np.ndarray:
    """Indices of the prompt's tokens that stay."""
    stays = np.ones(n, bool)
    for source, kept in zip(sources, keep, strict=True):
        if not kept:
            stays[source.token_start : source.token_end] = False
    return np.flatnonzero(stays)


@torch.inference_mode()
def _drop(lm: LanguageModel, gen: Generation, kept: list[np.ndarray]) -> Iterator[tuple[list[int], Tensor]]:
    """Without the hidden tokens: batches of similar length, padded on the left, behind the part of the prompt that all of a
    batch begin with, which runs once for all batches."""
    prompt, tail = np.array(gen.rendered.ids), gen.num_tokens - 1
    groups = {0: list(range(len(kept)))} if lm.stateful else _by_beginning(kept, len(prompt))
    shortest = min(groups)
    length = min(len(kept[i]) for i in groups[shortest]) + tail
    if len(groups) == 1 and shortest < PREFIX_SHARE * length and 2 * length > BATCH_TOKENS:
        groups = {0: groups[shortest]}
    room = batch_tokens(lm, gen.num_tokens, length)
    past = _run_prefix(lm, prompt[: max(groups)]) if max(groups) else None
    for prefix in sorted(groups, reverse=True):  # the cache is cut ever shorter
        if past is not None and prefix < past.get_seq_length():
            past.crop(prefix - past.get_seq_length())  # a negative number: so many are removed
        order = sorted(groups[prefix], key=lambda i: len(kept[i]))
        # Every row of a batch has a copy of the beginning; padding would leave its mark in a state.
        most = 1 if lm.stateful else max(1, CACHED * room // (prefix + 1))
        for rows in _batches(order, [len(own) - prefix + tail for own in kept], room, most):
            yield rows, _forward(lm, gen, [kept[i] for i in rows], prefix, past)


def _by_beginning(kept: list[np.ndarray], n: int) -> dict[int, list[int]]:
    """Ablations by how many of the prompt's first tokens they begin with. Those that gain little from more than what all begin
    with stay together, for large batches; so do all where no more than one could use what is gained."""
    alike = [_alike(own, n) for own in kept]
    base = min(alike)
    late = [i for i, own in enumerate(kept) if alike[i] - base > LATE_SHARE * (len(own) - base)]
    if sum(alike[i] - base for i in late) <= max([alike[i] - base for i in late], default=0):
        late = []
    groups: dict[int, list[int]] = {}
    for i in range(len(kept)):
        groups.setdefault(alike[i] if i in late else base, []).append(i)
    return groups


def _forward(lm: LanguageModel, gen: Generation, kept: list[np.ndarray], prefix: int, past: Any) -> Tensor:
    """Token logit-probabilities (len(kept), T) of the response behind the kept tokens, of which `past` holds the first."""
    n, count, prompt = len(gen.rendered.ids), gen.num_tokens, np.array(gen.rendered.ids)
    tail = np.array(gen.response_ids[:-1], dtype=np.int64)
    longest = max(map(len, kept)) - prefix + len(tail)
    ids = np.zeros((len(kept), longest), np.int64)
    positions = np.zeros((len(kept), longest), np.int64)
    mask = np.zeros((len(kept), prefix + longest), np.int64)
    mask[:, :prefix] = 1
    for r, whole in enumerate(kept):
        own = whole[prefix:]
        length = len(own) + len(tail)
        ids[r, longest - length :] = np.concatenate([prompt[own], tail])
        positions[r, longest - length :] = np.concatenate([own, np.arange(n, n + len(tail))])
        mask[r, prefix + longest - length :] = 1
    logits = lm.model(
        torch.from_numpy(ids).to(lm.device),
        attention_mask=torch.from_numpy(mask).to(lm.device),
        position_ids=torch.from_numpy(positions).to(lm.device),
        past_key_values=_repeat(past, len(kept)),
        use_cache=past is not None,
        **last_logits(lm, count, longest),
    ).logits[:, -count:]
    return _logit_probs(logits, gen)


@torch.inference_mode()
def _mask(lm: LanguageModel, gen: Generation, kept: list[np.ndarray]) -> Iterator[tuple[list[int], Tensor]]:
    """The plain way: full length, hidden tokens masked from attention, positions by index."""
    n, count = len(gen.rendered.ids), gen.num_tokens
    ids = torch.tensor([[*gen.rendered.ids, *gen.response_ids[:-1]]], device=lm.device)
    length = ids.shape[1]
    room = batch_tokens(lm, count, length)
    for rows in _batches(list(range(len(kept))), [length] * len(kept), room):
        mask = torch.ones(len(rows), length, dtype=torch.long, device=lm.device)
        for r, i in enumerate(rows):
            mask[r, :n] = 0
            mask[r, torch.from_numpy(kept[i]).to(lm.device)] = 1
        logits = lm.model(
            ids.expand(len(rows), -1),
            attention_mask=mask,
            use_cache=False,
            **_position_ids(lm, ids, len(rows)),
            **last_logits(lm, count, length),
        ).logits[:, -count:]
        yield rows, _logit_probs(logits, gen)


def _position_ids(lm: LanguageModel, ids: Tensor, batch: int) -> dict[str, Tensor]:
    if "position_ids" not in forward_parameters(lm):
        return {}
    return {"position_ids": torch.arange(ids.shape[1], device=ids.device)[None].expand(batch, -1)}


def batch_tokens(lm: LanguageModel, count: int, length: int) -> int:
    """Tokens of one forward pass over sequences of about `length` with `count` response tokens: on CUDA what the card has
    room for, as far as it can be told from the model's width and vocabulary."""
    if lm.device.type != "cuda":
        return BATCH_TOKENS
    free, _ = torch.cuda.mem_get_info(lm.device)
    config = lm.model.config.get_text_config()
    # Activations of one layer at a time, about two dozen vectors wide, and the response's logits, as they come and as float32.
    token = 24 * config.hidden_size * lm.dtype.itemsize + 10 * config.vocab_size * count / max(1, length)
    return max(BATCH_TOKENS, int(CUDA_SHARE * free / token))


def _batches(order: list[int], lengths: list[int], room: int, most: int = sys.maxsize) -> Iterator[list[int]]:
    """Rows of at most `room` tokens together, padding included, and of at most `most` sequences."""
    batch: list[int] = []
    for i in order:
        full = batch and (len(batch) + 1) * max(lengths[i], *(lengths[j] for j in batch)) > room
        if full or len(batch) == most:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _alike(own: np.ndarray, n: int) -> int:
    """How many leading tokens are the prompt's own, always less than all of it: the last one's row predicts the response."""
    gap = np.flatnonzero(own != np.arange(len(own)))
    return min(n - 1, int(gap[0]) if len(gap) else len(own))


def _run_prefix(lm: LanguageModel, ids: np.ndarray) -> Any:
    past = new_cache(lm.model)
    lm.model(
        torch.from_numpy(ids)[None].to(lm.device),
        past_key_values=past,
        use_cache=True,
        **last_logits(lm, 1, len(ids)),
    )
    return past


def _repeat(past: Any, batch: int) -> Any:
    """The cache for a batch of its own: a forward pass adds to what it is given."""
    if past is None:
        return None
    repeated = copy.deepcopy(past)
    if batch > 1:
        repeated.batch_repeat_interleave(batch)
    return repeated


def _logit_probs(logits: Tensor, gen: Generation) -> Tensor:
    """(batch, T, vocabulary) to (batch, T)."""
    ids = torch.tensor(gen.response_ids, device=logits.device)
    return torch.stack([token_logit_probs(row, ids) for row in logits])
