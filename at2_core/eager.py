"""The heads of models outside transformers' attention interface, by the weights that their own eager code returns.

Such a model cannot be read while it works. What is kept of a generation are its ids; whenever its attention is wanted they run
again: the prompt into a key cache, then the response's rows in blocks with `output_attentions`, and a forward hook takes each
layer's weights as soon as they exist and leaves nothing behind. Correct, and a forward pass slower than reading in place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from .cache import new_cache

Use = Callable[[int, slice, Tensor], None]

_places: WeakKeyDictionary[Any, list[tuple[Any, int]]] = WeakKeyDictionary()


@dataclass
class EagerTrace:
    """A sequence whose heads are read anew whenever they are wanted. ids: (1, tokens); row t sits at `first_row + t`."""

    model: Any = field(repr=False)
    ids: Tensor
    first_row: int

    @property
    def num_rows(self) -> int:
        return int(self.ids.shape[1]) - self.first_row

    @property
    def num_layers(self) -> int:
        return len(places(self.model))

    @property
    def num_heads(self) -> int:
        return int(self.model.config.get_text_config().num_attention_heads)

    @property
    def device(self) -> Any:
        return self.ids.device

    def crop(self, num_rows: int) -> EagerTrace:
        """The same trace without the rows past `num_rows`."""
        return replace(self, ids=self.ids[:, : self.first_row + num_rows])

    @torch.inference_mode()
    def visit(self, use: Use, only: Collection[int] | None, block_floats: int) -> None:
        """Call use(layer, rows, weights float32 (heads, rows, tokens)) for every layer, or those in `only`, block by block."""
        tokens = self.ids.shape[1]
        step = max(1, block_floats // (self.num_heads * tokens))
        cache = new_cache(self.model)
        if self.first_row:
            self.model(self.ids[:, : self.first_row], past_key_values=cache, use_cache=True)
        for start in range(0, self.num_rows, step):
            rows = slice(start, min(start + step, self.num_rows))

            def widened(layer: int, block: Tensor, rows: slice = rows) -> None:
                # A block has seen no more than its own tokens; the columns behind are its future.
                if only is None or layer in only:
                    use(layer, rows, torch.nn.functional.pad(block[0].float(), (0, tokens - block.shape[-1])))

            with eagerly(self.model), _taking(self.model, widened):
                piece = self.ids[:, self.first_row + rows.start : self.first_row + rows.stop]
                self.model(piece, past_key_values=cache, use_cache=True, output_attentions=True)


@dataclass
class EagerReader:
    """Notes the ids of one or more forward passes of one sequence."""

    model: Any
    first_row: int
    ids: list[Tensor] = field(default_factory=list)

    @contextlib.contextmanager
    def watching(self) -> Iterator[EagerReader]:
        def note(module: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            self.ids.append((args[0] if args else options["input_ids"]).detach())

        hook = self.model.register_forward_pre_hook(note, with_kwargs=True)
        try:
            yield self
        finally:
            hook.remove()

    def trace(self) -> EagerTrace:
        """What was noted so far."""
        return EagerTrace(self.model, torch.cat(self.ids, dim=1), self.first_row)


def places(model: Any) -> list[tuple[Any, int]]:
    """The modules that return the weights of each layer, with the position in their output. Found once, by asking for all
    weights of a few tokens and looking which module each of them came from."""
    if model not in _places:
        seen: dict[int, tuple[Any, int]] = {}
        kept: list[Any] = []  # an output that is gone would leave its address to another one

        def look(module: Any, args: Any, output: Any) -> None:
            kept.append(output)
            for i, part in enumerate(output if isinstance(output, tuple) else ()):
                if isinstance(part, Tensor) and part.ndim == 4:
                    seen.setdefault(id(part), (module, i))  # the innermost comes first

        hooks = [module.register_forward_hook(look) for module in model.modules()]
        try:
            with torch.inference_mode(), eagerly(model):
                ids = torch.arange(1, 5, device=model.get_input_embeddings().weight.device)[None]
                shown = model(ids, output_attentions=True, use_cache=False).attentions
        finally:
            for hook in hooks:
                hook.remove()
        _places[model] = [seen[id(part)] for part in shown or () if id(part) in seen]
    return _places[model]


@contextlib.contextmanager
def eagerly(model: Any) -> Iterator[None]:
    """The model's own slow kernel meanwhile: asked for weights, others make a mask that hides nothing."""
    kernel = model.config._attn_implementation
    model.config._attn_implementation = "eager"
    try:
        yield
    finally:
        model.config._attn_implementation = kernel


@contextlib.contextmanager
def _taking(model: Any, take: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Hand over each layer's weights (1, heads, rows, tokens) when they exist, and put an empty array in their place."""

    def hook_of(layer: int, at: int) -> Any:
        def hook(module: Any, args: Any, output: tuple[Any, ...]) -> tuple[Any, ...]:
            take(layer, output[at])
            return (*output[:at], output[at].new_zeros(1, 0, 0, 0), *output[at + 1 :])

        return hook

    hooks = [
        module.register_forward_hook(hook_of(layer, at)) for layer, (module, at) in enumerate(places(model))
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
