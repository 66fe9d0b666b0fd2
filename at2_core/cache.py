"""A key cache that forgets nothing: what attention was paid to must still be there when it is read."""

from __future__ import annotations

from typing import Any

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


def new_cache(model: Any) -> DynamicCache:
    """An empty cache for one sequence. Sliding layers keep the keys behind their window, too; layers without keys
    (state-space, convolution, linear attention) have the state that they need."""
    cache = DynamicCache(config=model.config.get_text_config())
    cache.layers = [
        DynamicLayer() if isinstance(layer, DynamicSlidingWindowLayer) else layer for layer in cache.layers
    ]
    return cache


def can_be_cut(model: Any) -> bool:
    """Whether a cache can be shortened and go on: not where a layer keeps a state instead of keys."""
    return all(type(layer) is DynamicLayer for layer in new_cache(model).layers)
