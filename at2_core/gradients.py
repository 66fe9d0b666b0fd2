"""How the response's log-probability depends on each prompt token's embedding, by one backward pass a target.

`gradient_norm`      sum of absolute values, over a source's tokens and dimensions (as in arXiv 2409.00729)
`input_x_gradient`   embedding times gradient, summed likewise, with its sign (Shrikumar et al., arXiv 1605.01713)
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .attribution import sum_to_sources
from .errors import At2Error, Cancelled
from .generation import Generation, last_logits
from .models import LanguageModel
from .sources import Source


def gradient_norm(
    lm: LanguageModel,
    gen: Generation,
    sources: Sequence[Source],
    targets: Sequence[slice],
    cancel: threading.Event | None = None,
) -> np.ndarray:
    """float32 (targets, S): the L1 norm of the gradient of each target's log-probability over each source's embeddings."""
    gradients, _ = _gradients(lm, gen, targets, cancel)
    return sum_to_sources(gradients.abs().sum(dim=-1).cpu().numpy(), sources)


def input_x_gradient(
    lm: LanguageModel,
    gen: Generation,
    sources: Sequence[Source],
    targets: Sequence[slice],
    cancel: threading.Event | None = None,
) -> np.ndarray:
    """float32 (targets, S): embedding times gradient of each target's log-probability, summed over each source's tokens."""
    gradients, embedded = _gradients(lm, gen, targets, cancel)
    return sum_to_sources((gradients * embedded).sum(dim=-1).cpu().numpy(), sources)


def _gradients(
    lm: LanguageModel, gen: Generation, targets: Sequence[slice], cancel: threading.Event | None
) -> tuple[Tensor, Tensor]:
    """Gradients float32 (targets, n, width) with respect to the prompt's embeddings, and these (n, width). Raises Cancelled,
    and At2Error where the weights pass no gradients on.

    The activations of every layer are held meanwhile, about 30 kB a token and layer in the default model.
    """
    if getattr(lm.model, "is_loaded_in_4bit", False) and torch.device(lm.device).type == "cpu":
        # bitsandbytes' product is fused there, and passes nothing back: gradients would be too small, or zero.
        raise At2Error(
            f"{lm.name} has no gradients in 4 bits on a CPU; load it in 8 bits or unquantized for this method."
        )
    n, count = len(gen.rendered.ids), gen.num_tokens
    with torch.inference_mode(False), torch.enable_grad():
        ids = torch.tensor([[*gen.rendered.ids, *gen.response_ids[:-1]]], device=lm.device)
        embedded = lm.model.get_input_embeddings()(ids).detach().clone().requires_grad_(True)
        logits = lm.model(
            inputs_embeds=embedded, use_cache=False, **last_logits(lm, count, ids.shape[1])
        ).logits[0, -count:]
        chosen = torch.tensor(gen.response_ids, device=logits.device)[:, None]
        log_probs = torch.log_softmax(logits.float(), dim=-1).gather(1, chosen)[:, 0]
        rows = []
        for number, target in enumerate(targets):
            if cancel is not None and cancel.is_set():
                raise Cancelled("The gradients were stopped.")
            (gradient,) = torch.autograd.grad(
                log_probs[target].sum(), embedded, retain_graph=number + 1 < len(targets)
            )
            rows.append(gradient[0, :n].float())
    return torch.stack(rows), embedded.detach()[0, :n].float()
