"""Which heads a model has, and whether we read them right: tried on a few tokens when a model is loaded.

No table of architectures decides this. The weights that we read are compared with those that the model itself returns when
it is asked for them, and what differs, or cannot be asked, is refused with a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .attention import reading, reads_in_place, visit
from .cache import can_be_cut, new_cache
from .eager import eagerly
from .errors import ModelNotAvailable

TOKENS, FIRST_ROW = 24, 8
EXACT, ROUNDED = (
    1e-4,
    0.05,
)  # share of a layer's weight that may lie elsewhere: in float32, and in 16 bits or fewer


@dataclass(frozen=True)
class Heads:
    """layers: the numbers of the model's layers that have heads, in order; count: heads of each; in_place: read while the model
    works, else by running it again; stateful: some layers carry a state along (state-space, convolution, linear attention)."""

    layers: tuple[int, ...]
    count: int
    in_place: bool
    stateful: bool


@torch.inference_mode()
def find_heads(model: Any, name: str) -> Heads:
    """The heads of a causal LM. Raises ModelNotAvailable where it has none, or where they cannot be read as they are."""
    ids = (
        torch.arange(7, 7 + TOKENS, device=model.get_input_embeddings().weight.device)[None]
        * 37
        % model.get_input_embeddings().num_embeddings
    )
    try:
        shown, read, layers = _both(model, ids)
    except Exception as error:  # whatever an unknown architecture raises when asked for what it does not have
        raise ModelNotAvailable(
            f"The attention of {name!r} ({type(model).__name__}) cannot be read, because it does not return its own "
            f"({type(error).__name__}); choose another model."
        ) from error
    if not shown or any(w.ndim != 4 for w in shown):
        raise ModelNotAvailable(
            f"{name!r} ({type(model).__name__}) has no attention heads, and its responses cannot be attributed by them; "
            "choose a model with attention."
        )
    counts = {int(w.shape[1]) for w in shown}
    exact = model.dtype == torch.float32 and not getattr(model, "is_quantized", False)
    limit = EXACT if exact else ROUNDED
    if len(counts) > 1:
        raise ModelNotAvailable(
            f"The layers of {name!r} have different numbers of heads ({', '.join(map(str, sorted(counts)))}), which this "
            "program cannot show; choose another model."
        )
    if len(read) != len(shown) or max(map(_elsewhere, read, shown)) > limit:
        raise ModelNotAvailable(
            f"The attention that is read from {name!r} ({type(model).__name__}) is not the one that it returns; choose another "
            "model."
        )
    _check_cache(model, ids, name, 0.01 if exact else 0.5)
    return Heads(layers, counts.pop(), reads_in_place(model), not can_be_cut(model))


def _both(model: Any, ids: Tensor) -> tuple[list[Tensor], list[Tensor], tuple[int, ...]]:
    """Weights of the rows from `FIRST_ROW` on as the model returns them and as we read them, and their layers' numbers."""
    with eagerly(model), reading(model, FIRST_ROW) as reader:
        asked = model(ids, output_attentions=True, use_cache=False)
        returned = getattr(asked, "attentions", None) or ()
    shown = [w if w.ndim != 4 else w[0, :, FIRST_ROW:][None] for w in returned if w is not None]
    read: list[Tensor] = []
    if shown and all(w.ndim == 4 for w in shown):
        visit(reader.trace(), lambda layer, rows, block: read.append(block[None]))
    numbers = tuple(i for i, w in enumerate(returned) if w is not None)
    latest = getattr(reader, "latest", None)
    return shown, read, tuple(sorted(latest)) if latest else numbers


def _elsewhere(ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        return 1.0
    theirs = theirs.float().to(ours.device)
    return float((ours - theirs).abs().sum() / theirs.sum().clamp(min=1e-9))


def _check_cache(model: Any, ids: Tensor, name: str, limit: float) -> None:
    """Responses are made token by token from a cache that keeps every key; see that this gives the model's own logits, up to so
    many times their spread: numbers of 8 bits are rounded by what else is computed at the same time."""
    whole = model(ids, use_cache=False).logits[0, -1].float()
    try:
        cache = new_cache(model)
        model(ids[:, :-2], past_key_values=cache, use_cache=True)
        for i in (-2, -1):
            last = model(ids[:, i : ids.shape[1] + i + 1], past_key_values=cache, use_cache=True).logits
        difference = float((last[0, -1].float() - whole).abs().max() / whole.std().clamp(min=1e-6))
    except Exception as error:
        raise ModelNotAvailable(
            f"{name!r} ({type(model).__name__}) does not go on from a key cache ({type(error).__name__}), so it cannot make a "
            "response here; choose another model."
        ) from error
    if difference > limit:
        raise ModelNotAvailable(
            f"{name!r} ({type(model).__name__}) gives other answers from a key cache than without; choose another model."
        )
