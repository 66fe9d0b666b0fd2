"""The negative control: theta's coefficients, given to other heads."""

from __future__ import annotations

import numpy as np

import at2_core as at2
from at2_core.baselines import METHODS, by_estimator, find_method

TASK = at2.ContextTask(
    context="The quick fox runs far. Paris is a capital. The dog sleeps.", query="Who sleeps?"
)


def test_shuffled_heads_has_every_coefficient_once_at_another_head_and_always_the_same(tiny_lm):
    gen = at2.replay(tiny_lm, TASK, "The dog sleeps.")
    sources = at2.cut(gen.rendered, "sentence")
    theta = np.arange(1, 9, dtype=np.float32).reshape(2, 4)
    est = at2.Estimator(theta, "e", tiny_lm.name)
    control = find_method("shuffled_heads", est, tiny_lm)
    scores = control(tiny_lm, gen, sources).scores
    # By head: what the control's scores are made of, from one estimator a head.
    features = at2.head_features(tiny_lm, gen, granularity="sentence")
    flat = np.asarray(features).reshape(8, -1).T  # (targets * sources, heads)
    weights, *_ = np.linalg.lstsq(flat.astype(np.float64), scores.ravel().astype(np.float64), rcond=None)
    assert np.allclose(sorted(weights), np.arange(1, 9), atol=0.05)
    assert not np.allclose(weights, theta.ravel(), atol=0.05)
    assert np.array_equal(scores, find_method("shuffled_heads", est, tiny_lm)(tiny_lm, gen, sources).scores)
    assert control.key != by_estimator(est, "at2", "AT2").key
    assert "shuffled_heads" not in METHODS
