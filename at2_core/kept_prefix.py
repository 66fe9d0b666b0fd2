"""What the last run read, kept so that a run which begins alike reads only the rest: a follow-up, a query asked in other words.

    prefix = KeptPrefix()
    first = generate(lm, task, prefix=prefix)
    second = generate(lm, follow_up(task, first.text, "And why?"), prefix=prefix)

Ids are compared and not texts: a chat template may write the end of a response in other tokens than the model did.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any

from transformers import DynamicCache

from .cache import can_be_cut, new_cache

LEAST = 64  # tokens in common below which all is read again: no time is saved, and results stay those of a fresh run
STRETCHED = {
    "dynamic",
    "longrope",
}  # positions of which depend on the whole length: keys of a short run are not a long one's


class KeptPrefix:
    """Ids and key cache of one run, of one model. A model whose cache cannot be shortened leaves nothing here."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.reused = 0  # tokens that the latest run did not read again
        self._cache: DynamicCache | None = None
        self._model: weakref.ref[Any] | None = None

    def clear(self) -> None:
        """Let go of the cache, and so of its memory."""
        self.ids, self._cache, self._model = [], None, None

    def take(self, model: Any, ids: Sequence[int]) -> tuple[DynamicCache, int]:
        """A cache to go on with, and how many of these ids it holds already; never all, since the last one's logits are wanted.

        What was kept is gone afterwards: a run that fails midway leaves a cache that no one can use.
        """
        same = self._model is not None and self._model() is model
        kept, cache = (self.ids if same else []), self._cache
        self.clear()
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(kept, ids[:-1], strict=False)))
        self.reused = common if common >= LEAST else 0
        if cache is None or not self.reused:
            return new_cache(model), 0
        cache.crop(common - len(kept))
        return cache, common

    def keep(self, model: Any, ids: Sequence[int], cache: DynamicCache) -> None:
        """Keep what a run has read: the ids as far as the cache has them."""
        self.clear()
        lengths = {layer.get_seq_length() for layer in cache.layers} if can_be_cut(model) else set()
        if len(lengths) == 1 and not is_stretched(model):
            self.ids, self._cache, self._model = list(ids[: lengths.pop()]), cache, weakref.ref(model)


def is_stretched(model: Any) -> bool:
    """Whether what a token leaves in the cache depends on how many there are by then."""
    return bool(STRETCHED & set(_rope_types(model.config.get_text_config())))


def _rope_types(config: Any) -> Iterable[str]:
    rope = getattr(config, "rope_parameters", None) or {}
    for entry in (rope, *rope.values()):  # some models have one entry for each kind of layer
        if isinstance(entry, dict) and isinstance(entry.get("rope_type"), str):
            yield entry["rope_type"]
