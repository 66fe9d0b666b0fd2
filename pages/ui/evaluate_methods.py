"""Methods and measures in words for people, and what they cost; the engine's own are behind torch, which a page waits for.

A test compares the names and sentences with the engine's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

REFINED = {f"at2_ablations_{count}": count for count in (8, 32, 64)}  # and how many
NAMES = {
    "at2": "AT2",
    **{method: f"AT2 + {count} ablations" for method, count in REFINED.items()},
    "average": "Average attention",
    "best_head": "Best single head",
    "top_heads": "Top 16 heads",
    "last_layer": "Last layer",
    "rollout": "Attention rollout",
    "gradient": "Gradient norm",
    "input_x_gradient": "Input × gradient",
    "leave_one_out": "Leave one out",
    "context_cite_32": "ContextCite 32",
    "context_cite_64": "ContextCite 64",
    "context_cite_128": "ContextCite 128",
    "context_cite_256": "ContextCite 256",
    "bm25": "BM25",
    "random": "Random",
    "shuffled_heads": "Shuffled heads",
}
ABOUT = {
    "at2": "Attention of all heads, weighted by one learned coefficient per head.",
    **{
        method: f"AT2's scores, corrected token by token by what {count} random ablations do."
        for method, count in REFINED.items()
    },
    "average": "Attention of all heads, all weighted alike.",
    "best_head": "Attention of the head with the largest coefficient.",
    "top_heads": "Attention of the heads with the largest coefficients, averaged.",
    "last_layer": "Attention of the last layer's heads, averaged.",
    "rollout": "Averaged attention, multiplied through the layers.",
    "gradient": "How steeply the response's log-probability depends on each token's embedding.",
    "input_x_gradient": "Each token's embedding times that gradient.",
    "leave_one_out": "What the response loses when this source alone is removed.",
    **{
        f"context_cite_{count}": f"A sparse linear model of what happens to the response over {count} random ablations."
        for count in (32, 64, 128, 256)
    },
    "bm25": "Words shared with the response, weighted by how rare they are.",
    "random": "Numbers between 0 and 1.",
    "shuffled_heads": "A negative control: AT2's coefficients, given to other heads by chance.",
}
OFFERED = tuple(NAMES)
OF_ESTIMATOR = ("at2", *REFINED, "best_head", "top_heads", "shuffled_heads")  # which need one
PASSES = {
    "rollout": 1,
    "gradient": 3,
    "input_x_gradient": 3,
}  # of the whole response; a backward pass counts as two
FEWEST = 5  # examples; of fewer an interval says too little to mark or to draw
LONGEST = 26  # characters of a name where there is little room

MEASURES = {
    "lds": "Linear datamodeling score: over random ablations, the rank correlation between the sum of the kept sources' scores "
    "and what really happened to the response. 1 is perfect; Random shows what counting the kept sources is worth.",
    "drop": "How much log-probability, in nats, the response loses without the top k of the sources by score.",
    "precision": "Of the top k of the sources by score, the part that is known to support the answer.",
    "recall": "Of the sources that are known to support the answer, the part among the top k by score.",
    "mrr": "Mean reciprocal rank: 1 where the highest score has a source that supports the answer, 1/2 where it is the second, "
    "and so on.",
}


def label(method: str) -> str:
    """A row's method as people call it. Of several estimators each has its own, "at2 NAME"."""
    if method in NAMES:
        return NAMES[method]
    if method.startswith("at2 "):
        name = method.removeprefix("at2 ")
        return name if name.lower().startswith("at2") else f"AT2: {name}"
    if match := re.fullmatch(r"top_heads_(\d+)", method):
        return f"Top {match[1]} heads"
    if match := re.fullmatch(r"context_cite_(\d+)", method):
        return f"ContextCite {match[1]}"
    if match := re.fullmatch(r"at2_ablations_(\d+)", method):
        return f"AT2 + {match[1]} ablations"
    return method


def short(method: str, longest: int = LONGEST) -> str:
    """The same, cut in the middle where it is long: estimators of one model differ at the end."""
    name = label(method)
    ends = longest // 2
    return name if len(name) <= longest else f"{name[: longest - ends - 1]}…{name[-ends:]}"


def explained(measure: str) -> str:
    """What a measure says, in a sentence."""
    kind, _, k = measure.rpartition("_")
    return re.sub(r"\bk\b", k, MEASURES[kind]) if kind in MEASURES else MEASURES.get(measure, "")


def ours(method: str) -> bool:
    """Whether its figures stand out: AT2, by any estimator, alone or with ablations."""
    return method == "at2" or method.startswith(("at2 ", "at2_"))


def passes_of(methods: Sequence[str], sources: float) -> float:
    """Forward passes over an example that the methods themselves cost, beyond the generation's own."""
    counts = (re.fullmatch(r"(?:context_cite|at2_ablations)_(\d+)", method) for method in methods)
    removing = sum(int(match[1]) for match in counts if match)
    return removing + (sources + 1) * ("leave_one_out" in methods) + sum(PASSES.get(m, 0) for m in methods)


def measuring(ablations: int, rows: int, drops: int) -> int:
    """Forward passes over an example that judging takes at most: what removes the same sources is run once. drops: of a row."""
    return ablations + 1 + drops * rows if ablations else 0


def top_k(text: str) -> tuple[int, ...] | None:
    """The numbers of a list with commas; None where it is none."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(re.fullmatch(r"0*[1-9]\d{0,3}", part, re.ASCII) for part in parts):
        return None
    found = tuple(int(part) for part in parts)
    return found if len(set(found)) == len(found) else None
