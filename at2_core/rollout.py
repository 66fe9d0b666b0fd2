"""Attention rollout: how attention, averaged over heads, carries through all layers (Abnar and Zuidema, arXiv 2005.00928)."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .attention import Trace, blocks, reading, weights
from .attribution import sum_to_sources
from .errors import At2Error, Cancelled
from .generation import Generation, last_logits
from .models import LanguageModel
from .sources import Source


@torch.inference_mode()
def rollout(
    lm: LanguageModel,
    gen: Generation,
    sources: Sequence[Source],
    targets: Sequence[slice],
    cancel: threading.Event | None = None,
) -> np.ndarray:
    """float32 (targets, S): the target rows of the product over layers of (W + I) / 2, summed over each source's tokens.

    W: attention averaged over heads, rows summing to one. Only the response's rows are carried down through the layers, so of
    W no more than one block of rows is held; the queries and keys of all rows are. One forward pass. Raises Cancelled.
    """
    check_rollout(lm)
    n, count = len(gen.rendered.ids), gen.num_tokens
    ids = torch.tensor([[*gen.rendered.ids, *gen.response_ids[:-1]]], device=lm.device)
    with reading(lm.model, first_row=0) as reader:
        lm.model(ids, use_cache=False, **last_logits(lm, 1, ids.shape[1]))
        trace = reader.trace()
    assert isinstance(trace, Trace)
    device = trace.device
    carried = torch.zeros(count, ids.shape[1], dtype=torch.float32, device=device)
    carried[torch.arange(count), n - 1 + torch.arange(count)] = 1
    for layer in reversed(trace.layers):
        if cancel is not None and cancel.is_set():
            raise Cancelled("The rollout was stopped.")
        mixed = torch.zeros_like(carried)
        for rows in blocks(layer):
            mean = weights(layer, trace.first_row, rows).mean(dim=0)  # (rows, tokens)
            mixed += carried[:, rows] @ _normalised(mean).to(device)
        carried = (carried + mixed) / 2
    scores = sum_to_sources(carried[:, :n].cpu().numpy(), sources)
    return np.stack([scores[target].mean(axis=0) for target in targets])


def check_rollout(lm: LanguageModel) -> None:
    """Raises At2Error where a layer's attention cannot be had after the layers above it."""
    if not lm.in_place:
        raise At2Error(
            f"Attention rollout needs attention that is read while the model works, and {lm.name} shows it only when it runs "
            "again; choose another method."
        )


def _normalised(rows: Tensor) -> Tensor:
    """Rows that sum to one; attention sinks take a part that no token has."""
    return rows / rows.sum(dim=-1, keepdim=True).clamp(min=1e-12)
