"""Fitting: a planted theta is found, many fits at once are each the same as alone, and the recipe is the published one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from at2_core import fitting
from at2_core.choosing import as_published, choose, split
from at2_core.fitting import (
    Collected,
    Data,
    FitSettings,
    correlation,
    fit_many,
    fit_reference,
    shrink,
)

THETA = np.array([[0.5, -0.2, 0.0], [0.3, 0.0, 0.0]], np.float32)
QUICK = FitSettings(steps=300, learning_rate=1e-2, resamples=4, splits=2)


def planted(theta=THETA, examples=30, noise=0.1, seed=0, targets=2):
    rng = np.random.default_rng(seed)
    found = []
    for i in range(examples):
        predictors = rng.normal(size=(targets, 16, *theta.shape)).astype(np.float32)
        outcomes = np.einsum("gmlh,lh->gm", predictors, theta) + noise * rng.normal(size=(targets, 16))
        found.append(Collected(predictors, outcomes.astype(np.float32), f"context {i // 2}"))
    return found


def alone(collected, nonnegative=False, sparsity=0.0, settings=QUICK):
    data = Data.of(collected)
    everything = np.ones((1, len(data.y)))
    return fit_many(
        data,
        everything,
        0 * everything,
        settings,
        nonnegative=np.array([nonnegative]),
        sparsity=np.array([sparsity]),
    ).theta[0]


def test_a_planted_theta_is_found():
    found = alone(planted()).reshape(THETA.shape)
    assert np.abs(found).sum() == pytest.approx(1, abs=1e-5)
    assert np.abs(found - THETA).max() < 0.03


def test_the_nonnegative_fit_has_no_negative_coefficient():
    found = alone(planted(np.array([[0.6, -0.4]], np.float32)), nonnegative=True)
    assert (found >= 0).all()
    assert found[0] > 0.9


def test_sparsity_leaves_fewer_heads():
    collected = planted(noise=3.0)
    plain, sparse = alone(collected), alone(collected, sparsity=1.0)
    assert (np.abs(sparse) > 0.02).sum() < (np.abs(plain) > 0.02).sum()


def test_fits_side_by_side_are_the_same_as_each_alone():
    data = Data.of(planted(noise=1.0))
    rng = np.random.default_rng(1)
    weights = rng.integers(0, 3, (3, len(data.y))).astype(float)
    how = {"nonnegative": np.array([False, True, False]), "sparsity": np.array([0.0, 0.0, 0.02])}
    together = fit_many(data, weights, 1 * (weights == 0), QUICK, **how)
    for i in range(3):
        own = {key: value[i : i + 1] for key, value in how.items()}
        # Patience is shared, so a fit alone may stop sooner; what it returns is the best by then.
        single = fit_many(data, weights[i : i + 1], 1 * (weights == 0)[i : i + 1], QUICK, **own)
        if single.steps[0] == together.steps[i]:
            assert np.allclose(single.theta[0], together.theta[i], atol=1e-5)
        else:
            assert single.steps[0] < together.steps[i]


def test_a_weight_of_two_is_an_example_twice():
    collected = planted(examples=6, noise=1.0)
    data = Data.of(collected)
    weights = np.ones((1, len(data.y)))
    weights[0, data.example == 2] = 2
    how = {"nonnegative": np.array([False]), "sparsity": np.zeros(1)}
    weighted = fit_many(data, weights, 0 * weights, QUICK, **how)
    twice = Data.of([*collected, collected[2]])
    doubled = fit_many(twice, np.ones((1, len(twice.y))), np.zeros((1, len(twice.y))), QUICK, **how)
    assert np.allclose(weighted.theta, doubled.theta, atol=1e-4)


def test_batches_come_where_the_whole_does_not_fit(monkeypatch):
    monkeypatch.setattr(fitting, "FULL_BATCH_BYTES", 1000)
    settings = FitSettings(steps=400, learning_rate=1e-2, batch_size=16)
    found = alone(planted(), settings=settings).reshape(THETA.shape)
    assert np.abs(found - THETA).max() < 0.05


def test_the_reference_recipe_is_a_plain_implementation_of_it():
    """A linear layer, one random target of each example of a batch, negative Pearson correlation, Adam, cosine, clip, L1."""
    collected = planted(examples=20, noise=0.5, targets=3)
    settings = FitSettings(steps=50, batch_size=8, seed=3)
    layer = torch.nn.Linear(6, 1, bias=False)
    layer.weight.data[:] = 1 / 6
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    rng = np.random.default_rng(3)
    for _ in range(50):
        chosen = rng.choice(20, 8, replace=False)
        pairs = [(i, rng.integers(3)) for i in chosen]
        x = torch.tensor(np.array([collected[i].predictors[t].reshape(16, 6) for i, t in pairs]))
        y = torch.tensor(np.array([collected[i].outcomes[t] for i, t in pairs]))
        p = layer(x)[:, :, 0]
        p, y = p - p.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
        loss = -((p * y).mean(1) / (p.pow(2).mean(1).sqrt() * y.pow(2).mean(1).sqrt() + 1e-8)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(layer.parameters(), max_norm=1.0)
        optimizer.step()
        schedule.step()
    plain = (layer.weight.data / layer.weight.data.norm(p=1)).numpy().reshape(2, 3)
    assert np.allclose(fit_reference(collected, settings), plain, atol=1e-5)


def test_correlation_is_pearsons():
    a, b = torch.randn(5, 32), torch.randn(5, 32)
    expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    assert np.allclose(correlation(a, b), expected, atol=1e-5)
    assert correlation(torch.ones(1, 4), b[:1, :4]) == 0


def test_shrinking_all_the_way_is_average_attention():
    theta = np.array([[0.9, -0.1]], np.float32)
    assert np.allclose(shrink(theta, 1), 0.5)
    assert np.allclose(shrink(theta, 0), theta)


def test_examples_that_share_a_context_stay_on_one_side():
    data = Data.of(planted())
    train, held = split(data, 0.3, seed=5)
    assert 0 < held.sum() < len(held)
    assert np.array_equal(train, 1 - held)
    sides = {}
    for i, h in zip(data.example, held, strict=True):
        assert sides.setdefault(data.groups[i], h) == h
    assert not np.array_equal(held, split(data, 0.3, seed=6)[1])


def test_a_single_context_is_learned_from_and_validated_on():
    same = [Collected(c.predictors, c.outcomes, "one") for c in planted(examples=3)]
    train, held = split(Data.of(same), 0.15, 0)
    assert train.all()
    assert held.all()


def test_the_choice_says_how_far_to_trust_it():
    chosen = choose(planted(examples=40, noise=0.1), QUICK)
    report = chosen.report
    assert np.abs(chosen.theta - THETA).max() < 0.05
    assert chosen.deviation.shape == THETA.shape
    assert (chosen.deviation > 0).all()
    assert report["correlation"] > 0.9
    assert report["correlation"] > report["correlation_average_attention"] + 0.2
    assert report["examples_training"] + report["examples_validation"] == 40
    assert [row["examples"] for row in report["learning_curve"]] == [4, 8, 17, 34]
    assert report["correlation"] == pytest.approx(
        np.mean(report["stability"]["splits_correlation"]), abs=1e-3
    )
    assert len(report["stability"]["splits_correlation"]) == 2
    assert report["history"][0]["step"] == fitting.LOOK_EVERY
    again = choose(planted(examples=40, noise=0.1), QUICK)
    assert np.array_equal(again.theta, chosen.theta)


def test_more_noise_means_more_deviation():
    calm, noisy = (choose(planted(noise=n), QUICK).deviation.mean() for n in (0.1, 3.0))
    assert noisy > 2 * calm


def test_negative_heads_make_the_signed_fit_win_and_their_absence_does_not_hurt():
    signed = choose(planted(np.array([[0.6, -0.4]], np.float32)), QUICK)
    assert not signed.report["nonnegative"]
    assert signed.theta[0, 1] < -0.3


def test_the_shrinkage_that_is_validated_is_the_one_that_is_shipped():
    """A candidate's figure is that of the same shrinkage of the L1-normalised theta of the same step."""
    collected, settings = planted(noise=1.0), FitSettings(steps=40, learning_rate=1e-2, resamples=0, splits=1)
    data = Data.of(collected)
    train, held = split(data, settings.validation_fraction, settings.seed)
    report = choose(collected, settings).report
    candidate = next(c for c in report["candidates"] if c["shrinkage"] == 0.5)
    how = {"nonnegative": np.array([candidate["nonnegative"]]), "sparsity": np.array([candidate["sparsity"]])}
    alone = fit_many(data, train[None], 0 * train[None], settings, last_step=candidate["steps"], **how)
    r = data.correlations(shrink(alone.theta[0], 0.5))
    assert candidate["correlation"] == pytest.approx((r * held).sum() / held.sum(), abs=2e-4)


def test_two_contexts_are_enough_to_hold_one_out():
    two = [Collected(c.predictors, c.outcomes, f"{i % 2}") for i, c in enumerate(planted(examples=8))]
    train, held = split(Data.of(two), 0.15, 0)
    assert 0 < held.sum() < len(held)
    assert np.array_equal(train, 1 - held)


def test_the_published_recipe_has_figures_of_its_own():
    settings = FitSettings(steps=100, learning_rate=1e-2)
    chosen = as_published(planted(noise=1.0), settings)
    assert chosen.deviation is None
    assert np.array_equal(chosen.theta, fit_reference(planted(noise=1.0), settings))
    assert chosen.report["correlation"] != choose(planted(noise=1.0), QUICK).report["correlation"]
