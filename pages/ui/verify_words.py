"""What a verification found, in words: how much less likely, which words changed, what a correlation means.

`as_likely`       a drop in nats as a sentence
`word_changes`    two answers word by word, each word with what became of it
`verdict`         the answer without the sources, in one sentence
`check_meaning`   what to think of a correlation
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from at2_core.segmentation import split_words

SAME, GONE, NEW, BEYOND = "same", "gone", "new", "beyond"  # beyond: where the other text was cut
ISLAND = 2  # so few unchanged words between longer changes are chance: "the" stands in every answer
MARKS = ".,;:!?…\"'()[]“”‘’«»。、！？"
SURE = 10  # different ablations that a correlation needs to be told at all


@dataclass(frozen=True)
class Word:
    """A word with the space around it. kind: SAME, GONE, NEW or BEYOND. pinned: whether it is in the pinned span."""

    text: str
    kind: str
    pinned: bool = False


def as_likely(drop: float, who: str = "the pinned words are") -> str:
    """ "the pinned words are 1/340 as likely" for a drop in nats."""
    if not math.isfinite(drop):
        return f"{who} of a likelihood that cannot be told"
    if abs(drop) < 0.1:
        return f"{who} about as likely as before"
    if drop < 0:
        return f"{who} even more likely: {_figures(math.exp(min(-drop, 700)))} times as likely"
    if drop < math.log(2):
        return f"{who} {100 * math.exp(-drop):.0f} % as likely"
    if drop > math.log(1e6):
        return f"{who} less than a millionth as likely"
    return f"{who} 1/{_figures(math.exp(drop))} as likely"


def _figures(factor: float) -> str:
    """Two figures: more would be noise."""
    if factor >= 1e6:
        return "more than a million"
    if factor < 10:
        return f"{factor:.1f}".removesuffix(".0")
    return f"{float(f'{factor:.2g}'):,.0f}"


def nats(value: float) -> str:
    return f"{value:.2f} nats".replace("-", "−")


def percent(share: float) -> str:
    return f"{100 * share:.1f} %".replace("-", "−")


def these(k: int, granularity: str) -> str:
    return f"this {granularity}" if k == 1 else f"these {k} {granularity}s"


# ------------------------------------------------------------------------------------------- what changed


def word_changes(
    before: str,
    after: str,
    *,
    pin: tuple[int, int] | None = None,
    before_cut: bool = False,
    after_cut: bool = False,
    growing: bool = False,
) -> tuple[list[Word], list[Word]]:
    """Both texts as words that tile them. pin: characters of `before`.

    before_cut, after_cut: that text was cut; what the other one says beyond counts as no change. growing: `after` is still
    being made, and what of `before` it may come to counts as none either.
    """
    old, new = _words(before), _words(after)
    kinds_old, kinds_new = [SAME] * len(old), [SAME] * len(new)
    found = SequenceMatcher(None, [_plain(w) for w, _ in old], [_plain(w) for w, _ in new], autojunk=False)
    for tag, i1, i2, j1, j2 in _without_islands(found.get_opcodes()):
        at_end = i2 == len(old) and j2 == len(new)
        if tag != "equal":
            not_reached = at_end and (growing or (after_cut and j1 == j2))
            kinds_old[i1:i2] = [BEYOND if not_reached else GONE] * (i2 - i1)
            kinds_new[j1:j2] = [BEYOND if at_end and before_cut and i1 == i2 else NEW] * (j2 - j1)
    start, end = pin or (0, 0)
    # A word belongs to the span if a visible character of it does.
    pinned = [
        start < at + len(text.rstrip()) and at + len(text) - len(text.lstrip()) < end for text, at in old
    ]
    return (
        [Word(text, kind, p) for (text, _), kind, p in zip(old, kinds_old, pinned, strict=True)],
        [Word(text, kind) for (text, _), kind in zip(new, kinds_new, strict=True)],
    )


def _words(text: str) -> list[tuple[str, int]]:
    return [(text[start:end], start) for start, end in split_words(text)]


def _plain(word: str) -> str:
    """What two words have to share to be the same: not the comma or the full stop behind them."""
    word = word.strip().casefold()
    return word.strip(MARKS) or word


def _without_islands(codes: list[tuple[str, int, int, int, int]]) -> list[tuple[str, int, int, int, int]]:
    """Changes with the few words between them that happen to be the same taken in, so that they can be read."""
    out: list[tuple[str, int, int, int, int]] = []
    for n, code in enumerate(codes):
        tag, i1, i2, j1, j2 = code
        if tag == "equal" and 0 < n < len(codes) - 1 and i2 - i1 <= ISLAND:
            around = min(_size(codes[n - 1]), _size(codes[n + 1]))
            tag = "replace" if around > i2 - i1 else tag
        if out and tag != "equal" and out[-1][0] != "equal":
            out[-1] = ("replace", out[-1][1], i2, out[-1][3], j2)
        else:
            out.append((tag, i1, i2, j1, j2))
    return out


def _size(code: tuple[str, int, int, int, int]) -> int:
    _, i1, i2, j1, j2 = code
    return max(i2 - i1, j2 - j1)


def verdict(before: Sequence[Word], after: Sequence[Word], without: str) -> str:
    """What became of the answer, in one sentence. without: "this sentence"."""
    if not after:
        return f"Without {without} the model ends its answer at once."
    pinned, new = [w for w in before if w.pinned], sum(w.kind == NEW for w in after)
    if any(w.kind == BEYOND for w in pinned):
        return f"Without {without} the answer was stopped before it came to the pinned words."
    if new == 0 and not any(w.kind == GONE for w in before):
        far = " as far as both go" if any(w.kind == BEYOND for w in (*before, *after)) else ""
        return f"Without {without} the answer stays the same{far}, word for word."
    if pinned:
        gone = sum(w.kind == GONE for w in pinned)
        if gone == 0 or _said([w.text for w in pinned], [w.text for w in after]):
            return f"Without {without} the answer changes, but the pinned words stay."
        if gone == len(pinned):
            return f"Without {without} the pinned words are gone from the answer."
        return f"Without {without} {gone} of the {len(pinned)} pinned words are gone from the answer."
    gone, total = sum(w.kind == GONE for w in before), len(before)
    if new == 0:
        return f"Without {without} the answer loses {gone} of its {total} words."
    are = "is" if new == 1 else "are"
    return f"Without {without} the answer changes: {new} of its {len(after)} words {are} new."


def _said(words: Sequence[str], among: Sequence[str]) -> bool:
    """Whether these words stand together among the others."""
    wanted, there = [_plain(w) for w in words], [_plain(w) for w in among]
    return any(there[i : i + len(wanted)] == wanted for i in range(len(there) - len(wanted) + 1))


# -------------------------------------------------------------------------------------- what a check means


def check_headline(lds: float) -> str:
    if math.isnan(lds):
        return "On this example there is no correlation to tell."
    return f"On this example these scores predict what happens with correlation {signed(lds)}."


def check_meaning(
    lds: float,
    *,
    chance: float,
    chance_high: float,
    ablations: int,
    different: int,
    sources: int,
    granularity: str,
    constant: str,
) -> list[str]:
    """Sentences. chance, chance_high: what the same scores reach when shuffled over the sources, on average and seldom.

    different: how many of the ablations were not alike. constant: "scores" or "outcomes" where nan.
    """
    few = is_coarse(ablations, different, sources)
    said = []
    if math.isnan(lds):
        said.append(
            f"All {ablations} random ablations get the same prediction, since the scores of these sources are all alike."
            if constant == "scores"
            else "Whatever is removed, these words stay equally likely, so there is nothing for the scores to predict."
        )
    else:
        said.append(
            f"The same scores, shuffled over the sources, reach {signed(chance)} on average, and one time in twenty "
            f"{signed(chance_high)} or more."
        )
    low, high = interval(lds, different)
    if not math.isnan(lds) and not few:
        said.append(_trust(lds, low, chance_high))
        said.append(
            f"{ablations} ablations leave it uncertain: most likely between {signed(low)} and {signed(high)}."
        )
    if few:
        said.append(coarse(ablations, different, sources, granularity))
    return said


def _trust(lds: float, low: float, chance_high: float) -> str:
    """Against what the scores reach by chance: scores that are all positive predict something wherever they stand, since every
    source that stays helps. low: the lower end of the correlation's interval."""
    if low > chance_high:
        return "These do clearly better, so which sources they name can be trusted here."
    if lds > chance_high:
        return (
            "These do better, but not by more than so few ablations leave open: take the colours for a hint."
        )
    return "These do no better than that: do not trust the colours here."


def is_coarse(ablations: int, different: int, sources: int) -> bool:
    """Whether there are too few different ablations for a correlation to mean much."""
    return different < min(ablations, SURE) or 2**sources <= 2 * ablations


def coarse(ablations: int, different: int, sources: int, granularity: str) -> str:
    return (
        f"With only {sources} {granularity}s the {ablations} ablations repeat themselves: {different} differ, so the "
        "number is coarse. Smaller sources tell more."
    )


def signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def interval(correlation: float, count: int) -> tuple[float, float]:
    """About 95 %, by Fisher's transformation with the variance of rank correlations; count: different ablations."""
    centre = math.atanh(max(-0.9999, min(0.9999, correlation)))
    spread = 1.96 * math.sqrt(1.06 / max(1, count - 3))
    return math.tanh(centre - spread), math.tanh(centre + spread)
