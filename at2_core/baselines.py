"""Ways to score sources, behind one interface, so that each can be judged and shown beside the others.

`find_method(name)`   a method by its name: "at2", "leave_one_out", "context_cite_64", ...
`Method`              scores (targets, sources) for a generation, and what they cost in forward passes
`matrix`              the same for every response token, as the views take it
`METHODS`             the names that are offered

A target is a range of the response's rows. Methods that remove sources do so through `measure`, so that a caller can share
what was measured before.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .ablation import ablate, log_prob, outcome, random_keep
from .attribution import sum_to_sources, token_scores
from .errors import At2Error, EstimatorFileError
from .estimator import Estimator, uniform_estimator
from .generation import Generation, response_targets
from .gradients import gradient_norm, input_x_gradient
from .models import LanguageModel
from .rollout import check_rollout, rollout
from .sources import Source

SHUFFLE_SEED = 0  # of the negative control, which is the same for everybody
RETRIEVAL_HEADS = 16  # of 270 about one in seventeen, as many as are called retrieval heads in the literature
LASSO_ALPHA = 0.01  # ContextCite's published settings (arXiv 2409.00729): standardised masks, logit per token
CONTEXT_CITE_KEEP = 0.5
CONTEXT_CITE_COUNTS = (32, 64, 128, 256)

REFINED_COUNTS = (8, 32, 64)
# Of refining, chosen on validation examples.
REFINED_ALPHA = 0.09  # of the deviation of what is explained, over the root of the number of ablations
LEAST_TRUST = 0.3  # against the mean one: what AT2 scores at zero may still turn out to count
LEAST_SPREAD = 1e-6  # nats; below it ablations did nothing to a token

_OF_THETA = re.compile(
    r"at2|best_head|shuffled_heads|top_heads(?:_([1-9]\d{0,3}))?|at2_ablations_([1-9]\d{0,4})"
)

Measure = Callable[[np.ndarray], np.ndarray]  # keep bool (M, S) -> token logit-probabilities float32 (M, T)


@dataclass(frozen=True)
class Scored:
    """scores float32 (targets, S). passes: forward passes over prompt and response that they cost beyond the generation's own;
    a backward pass counts as two."""

    scores: np.ndarray
    passes: float


@dataclass(frozen=True)
class Case:
    """All that a method may look at. seed: numbers that a method with chance in it begins from."""

    lm: LanguageModel
    gen: Generation
    sources: Sequence[Source]
    targets: Sequence[slice]
    measure: Measure
    seed: tuple[int, ...] = (0,)
    cancel: threading.Event | None = None


@dataclass(frozen=True)
class Method:
    """One way to score. key: what its figures depend on; name: what people call it.

    by_sentence: each target costs as much as the first, so that `matrix` asks for sentences and not for tokens.
    """

    key: str
    name: str
    about: str
    run: Callable[[Case], Scored]
    by_sentence: bool = False

    def __call__(
        self,
        lm: LanguageModel,
        gen: Generation,
        sources: Sequence[Source],
        *,
        targets: Sequence[slice] | None = None,
        measure: Measure | None = None,
        seed: Sequence[int] = (0,),
        cancel: threading.Event | None = None,
    ) -> Scored:
        """Scores of the sources for each target; every token of the response is one where none are given. Raises Cancelled."""
        rows = targets if targets is not None else [slice(t, t + 1) for t in range(gen.num_tokens)]
        if not gen.response_ids or not sources or not rows:
            return Scored(np.zeros((len(rows), len(sources)), np.float32), 0)

        def measured(keep: np.ndarray) -> np.ndarray:
            return ablate(lm, gen, sources, keep, cancel=cancel)

        scored = self.run(Case(lm, gen, sources, rows, measure or measured, tuple(seed), cancel))
        return replace(scored, scores=np.asarray(scored.scores, np.float32))


def matrix(
    method: Method,
    lm: LanguageModel,
    gen: Generation,
    sources: Sequence[Source],
    *,
    measure: Measure | None = None,
    seed: Sequence[int] = (0,),
    cancel: threading.Event | None = None,
) -> Scored:
    """Scores (T, S), a row for each response token, as the views take them.

    Of a method that is asked by sentence, the tokens of a sentence share its scores. Raises Cancelled.
    """
    targets = response_targets(gen) if method.by_sentence else []
    if not targets:
        return method(lm, gen, sources, measure=measure, seed=seed, cancel=cancel)
    scored = method(lm, gen, sources, targets=targets, measure=measure, seed=seed, cancel=cancel)
    out = np.zeros((gen.num_tokens, len(sources)), np.float32)
    for target, row in zip(targets, scored.scores, strict=True):
        out[target] = row
    return replace(scored, scores=out)


def find_method(name: str, estimator: Estimator | None = None, lm: LanguageModel | None = None) -> Method:
    """The method of this name; "shuffled_heads", the negative control, is in no list of those that are offered.

    estimator: theta for "at2", "best_head", "top_heads_K", "at2_ablations_COUNT" and "shuffled_heads"; the model's bundled
    one if None, of which "at2_ablations_COUNT" takes the one that also knows what heads write, where there is one.

    Raises At2Error where there is no such method, or no estimator for one that needs it.
    """
    if name == "rollout" and lm is not None:
        check_rollout(lm)
    if name in _SIMPLE:
        return _SIMPLE[name]
    if match := re.fullmatch(r"context_cite_([1-9]\d{0,4})", name):
        return context_cite(int(match[1]))
    if match := _OF_THETA.fullmatch(name):
        theta = estimator or _bundled(lm, prefer_direct=match[2] is not None)
        if name == "shuffled_heads":
            return shuffled_heads(theta)
        if name == "at2":
            return by_estimator(theta, "at2", "AT2")
        if match[2]:
            return refined(theta, int(match[2]))
        return best_heads(theta, 1 if name == "best_head" else int(match[1] or RETRIEVAL_HEADS))
    raise At2Error(
        f"There is no method {name!r}; there are {', '.join(METHODS)}, context_cite_COUNT and at2_ablations_COUNT."
    )


def check_method(name: str) -> None:
    """Raises At2Error where no method has this name."""
    if not _OF_THETA.fullmatch(name):
        find_method(name)


def by_estimator(est: Estimator, key: str, name: str) -> Method:
    """theta times attention: AT2, and every other fixed weighting of heads."""

    def run(case: Case) -> Scored:
        scores = sum_to_sources(token_scores(case.lm, case.gen, est), case.sources)
        return Scored(np.stack([scores[target].mean(axis=0) for target in case.targets]), 0)

    about = "Attention of all heads, weighted by one learned coefficient per head."
    if est.direct is not None:
        about = "Attention of all heads, and what they write towards the response, by learned coefficients."
    return Method(f"{key}:{est.fingerprint}", name, about, run)


def best_heads(est: Estimator, count: int) -> Method:
    """Mean attention of the heads with the largest coefficients; of one, the best single head."""
    order = np.argsort(-est.theta, axis=None, kind="stable")[:count]
    theta = np.zeros(est.theta.size, np.float32)
    theta[order] = 1 / len(order)
    weights = replace(est, theta=theta.reshape(est.theta.shape), deviation=None, direct=None)
    layer, head = divmod(int(order[0]), est.theta.shape[1])
    name = f"Head {layer}.{head}" if count == 1 else f"Top {len(order)} heads"
    about = "Attention of the head" + (
        " with the largest coefficient." if count == 1 else "s with the largest coefficients, averaged."
    )
    return replace(
        by_estimator(weights, "best_head" if count == 1 else f"top_heads_{count}", name), about=about
    )


def shuffled_heads(est: Estimator) -> Method:
    """The same coefficients, each given to another head by chance: what is left of AT2 where heads are not told apart."""
    order = np.random.default_rng(SHUFFLE_SEED).permutation(est.theta.size)
    theta, direct = (
        None if c is None else c.ravel()[order].reshape(c.shape) for c in (est.theta, est.direct)
    )
    assert theta is not None
    weights = replace(est, theta=theta, direct=direct, deviation=None)
    about = "A negative control: AT2's coefficients, given to other heads by chance."
    return replace(by_estimator(weights, "shuffled_heads", "Shuffled heads"), about=about)


def context_cite(count: int) -> Method:
    """LASSO surrogate of the response's logit on so many random ablations (ContextCite, arXiv 2409.00729)."""

    def run(case: Case) -> Scored:
        keep = _ablations(case, count)
        logit_probs = case.measure(keep)
        return Scored(
            np.stack([surrogate(keep, outcome(logit_probs[:, t]), t.stop - t.start) for t in case.targets]),
            count,
        )

    about = f"A sparse linear model of what happens to the response over {count} random ablations."
    return Method(f"context_cite_{count}", f"ContextCite {count}", about, run, by_sentence=True)


def refined(est: Estimator, count: int, known: np.ndarray | None = None) -> Method:
    """AT2's scores, refined by so many random ablations: the same that ContextCite asks for. known (T, S): AT2's scores, where
    they have been read before."""

    def run(case: Case) -> Scored:
        scores = known
        if scores is None:
            scores = sum_to_sources(token_scores(case.lm, case.gen, est), case.sources)
        keep = _ablations(case, count)
        log_probs = log_prob(case.measure(keep)[..., None])  # (M, T)
        rows = {
            t: refined_row(keep, log_probs[:, t], scores[t])
            for target in case.targets
            for t in range(target.start, target.stop)
        }
        sums = [sum(rows[t] for t in range(target.start, target.stop)) for target in case.targets]
        return Scored(np.stack(sums), count)

    about = f"AT2's scores, corrected token by token by what {count} random ablations do."
    return Method(f"at2_ablations_{count}:{est.fingerprint}", f"AT2 + {count} ablations", about, run)


def refined_row(keep: np.ndarray, log_probs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """float64 (S,): what keeping each source adds to one token's log-probability, in nats.

    keep bool (M, S), log_probs (M,) of the token without the others, scores (S,) what AT2 says of it. A LASSO in which the
    penalty of a source is the smaller, the higher its score (the adaptive LASSO, Zou 2006,
    https://doi.org/10.1198/016214506000000735), and smaller for all, the more ablations there are, above all where they
    outnumber the sources; one more column is the sum of the kept sources' scores, so that few ablations change little. One
    token depends on few sources, which is what makes a few ablations enough; a whole response depends on many.
    """
    from sklearn.linear_model import Lasso

    scores = np.asarray(scores, np.float64)
    moved, known = log_probs.std(), np.abs(scores)
    if moved < LEAST_SPREAD or not known.any():
        return np.zeros_like(scores)
    trust = np.maximum(known / known.mean(), LEAST_TRUST)
    trust /= np.sqrt(np.mean(trust**2))
    predicted, kept = keep @ scores, keep.std(axis=0)
    # As in ContextCite, a penalty means the same for every source however often it was kept. What never changes says nothing.
    by_sum, by_source = 1 / (predicted.std() or 1), trust / np.where(kept, kept, 1)
    columns = np.column_stack(
        [(predicted - predicted.mean()) * by_sum, (keep - keep.mean(axis=0)) * by_source]
    )
    count, sources = keep.shape
    alpha = REFINED_ALPHA / np.sqrt(count) * min(1, sources / count) * moved
    lasso = Lasso(alpha, max_iter=100_000, tol=1e-5)  # columns that are alike converge slowly
    found = lasso.fit(columns, log_probs).coef_
    return np.asarray(found[0] * by_sum * scores + found[1:] * by_source)


def surrogate(keep: np.ndarray, outcomes: np.ndarray, num_tokens: int) -> np.ndarray:
    """float64 (S,): what keeping each source adds to the outcome, by a LASSO over keep bool (M, S) and outcomes (M,).

    Masks are standardised and outcomes taken per token, as published, so that the penalty means the same for any response.
    """
    from sklearn.linear_model import Lasso
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    masks = scaler.fit_transform(keep.astype(np.float64))
    lasso = Lasso(alpha=LASSO_ALPHA).fit(masks, outcomes / num_tokens)
    return np.asarray(lasso.coef_ / scaler.scale_ * num_tokens)


# -------------------------------------------------------------------------------------------------- inside


def _ablations(case: Case, count: int) -> np.ndarray:
    """bool (count, S): fewer are the first of more, so that methods share them."""
    return random_keep(count, len(case.sources), np.random.default_rng([*case.seed, 1]), CONTEXT_CITE_KEEP)


def _bundled(lm: LanguageModel | None, prefer_direct: bool = False) -> Estimator:
    from .estimator import load_estimator

    if lm is None:
        raise At2Error("This method needs an estimator; give one, or the model whose bundled one is meant.")
    if prefer_direct:
        with suppress(EstimatorFileError):  # few models have one
            return load_estimator(f"{lm.name}--direct")
    return load_estimator(lm.name)


def _average(case: Case) -> Scored:
    return by_estimator(uniform_estimator(case.lm), "average", "").run(case)


def _last_layer(case: Case) -> Scored:
    average = uniform_estimator(case.lm)
    theta = np.zeros_like(average.theta)
    theta[-1] = 1 / theta.shape[1]
    return by_estimator(replace(average, theta=theta), "last_layer", "").run(case)


def _leave_one_out(case: Case) -> Scored:
    count = len(case.sources)
    keep = np.concatenate([np.ones((1, count), bool), ~np.eye(count, dtype=bool)])
    logit_probs = case.measure(keep)
    log_probs = np.stack([log_prob(logit_probs[:, target]) for target in case.targets])  # (targets, 1 + S)
    return Scored(log_probs[:, :1] - log_probs[:, 1:], count + 1)


def _bm25(case: Case) -> Scored:
    import bm25s

    index = bm25s.BM25()
    documents = [_words(source.text) for source in case.sources]
    if not any(documents):
        return Scored(np.zeros((len(case.targets), len(documents))), 0)
    index.index(documents, show_progress=False)
    scores = np.zeros((len(case.targets), len(documents)), np.float32)
    known = set().union(*documents)
    for row, target in zip(scores, case.targets, strict=True):
        offsets = case.gen.response_offsets[target]
        said = [word for word in _words(case.gen.text[offsets[0][0] : offsets[-1][1]]) if word in known]
        if said:
            row[:] = index.get_scores(said)
    return Scored(scores, 0)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _random(case: Case) -> Scored:
    rng = np.random.default_rng([*case.seed, 2])
    return Scored(rng.random((len(case.targets), len(case.sources))), 0)


def _gradient(function: Any) -> Callable[[Case], Scored]:
    def run(case: Case) -> Scored:
        scores = function(case.lm, case.gen, case.sources, case.targets, case.cancel)
        return Scored(scores, 1 + 2 * len(case.targets))

    return run


def _rollout(case: Case) -> Scored:
    return Scored(rollout(case.lm, case.gen, case.sources, case.targets, case.cancel), 1)


_SIMPLE = {
    method.key: method
    for method in (
        Method("average", "Average attention", "Attention of all heads, all weighted alike.", _average),
        Method("last_layer", "Last layer", "Attention of the last layer's heads, averaged.", _last_layer),
        Method("rollout", "Attention rollout", "Averaged attention, multiplied through the layers.", _rollout),
        Method("gradient", "Gradient norm", "How steeply the response's log-probability depends on each token's "
               "embedding.", _gradient(gradient_norm), by_sentence=True),
        Method("input_x_gradient", "Input × gradient", "Each token's embedding times that gradient.",
               _gradient(input_x_gradient), by_sentence=True),
        Method("leave_one_out", "Leave one out", "What the response loses when this source alone is removed.",
               _leave_one_out),
        Method("bm25", "BM25", "Words shared with the response, weighted by how rare they are.", _bm25),
        Method("random", "Random", "Numbers between 0 and 1.", _random),
    )
}  # fmt: skip
METHODS = (
    "at2", *(f"at2_ablations_{n}" for n in REFINED_COUNTS), "average", "best_head", "top_heads", "last_layer", "rollout",
    "gradient", "input_x_gradient", "leave_one_out", *(f"context_cite_{n}" for n in CONTEXT_CITE_COUNTS), "bm25", "random",
)  # fmt: skip
