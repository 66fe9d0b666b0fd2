"""The methods that the Compare page offers, in words, before anything heavy is imported.

`offered`    every way to score that there is for an exploration, by key: the methods, and estimators that fit the model
`usual`      the keys that the page begins with
`own_scores` scores that the exploration carries already

Names and descriptions are those of `at2_core.baselines`, which needs torch to import; a test holds the two together.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from at2_core.card import plain
from at2_core.catalogue import list_estimators
from at2_core.errors import At2Error
from at2_core.estimator import Estimator, check_estimator, load_estimator
from at2_core.exploration import Exploration
from at2_core.segmentation import split_sentences
from pages.ui import session
from pages.ui.estimator_choice import Choice
from pages.ui.estimator_choice import usual as usual_estimator
from pages.ui.evaluate_methods import ABOUT, NAMES, REFINED

MOST = 4  # methods side by side that a screen of 1280 px still shows legibly
THETA = "theta-"  # and a fingerprint: the key of an estimator beside the model's usual one
NEEDS_THETA = ("at2", *REFINED, "best_head", "top_heads")
BY_COEFFICIENTS = ("best_head", "top_heads")  # whose name depends on the estimator
READS_ATTENTION = (*NEEDS_THETA, "average", "last_layer")
WORDS = {key: (name, ABOUT[key]) for key, name in NAMES.items() if key != "shuffled_heads"}
BY_SENTENCE = ("gradient", "input_x_gradient", *(key for key in WORDS if key.startswith("context_cite_")))
_COUNTED = re.compile(r"(?:context_cite|at2_ablations)_(\d+)")


@dataclass(frozen=True)
class Way:
    """One way to score. key: in the address; about: one sentence; estimator: whose theta it weighs heads with, if any.

    identity: what its scores depend on, so that the same scores have one name whatever they are asked by.
    """

    key: str
    name: str
    about: str
    estimator: Estimator | None = None

    @property
    def identity(self) -> str:
        kind = "at2" if self.key.startswith(THETA) else self.key
        return f"{kind}:{self.estimator.fingerprint}" if self.estimator else kind

    @property
    def is_at2(self) -> bool:
        return self.key == "at2" or self.key.startswith(THETA)

    @property
    def reads_attention(self) -> bool:
        return self.key in READS_ATTENTION or self.key.startswith(THETA)

    @property
    def by_sentence(self) -> bool:
        """Asked once per sentence of the response, whose tokens share the scores."""
        return self.key in BY_SENTENCE

    @property
    def removes(self) -> bool:
        """Whether it works by removing sources, and shares what it measures with others that do."""
        return self.key == "leave_one_out" or bool(_COUNTED.fullmatch(self.key))

    def passes(self, num_sources: int, num_targets: int) -> int:
        """Forward passes beyond the generation's own, as `baselines` counts them. num_targets: sentences of the response."""
        if self.key == "leave_one_out":
            return num_sources + 1
        if match := _COUNTED.fullmatch(self.key):
            return int(match[1])
        if self.key in ("gradient", "input_x_gradient"):
            return 1 + 2 * max(1, num_targets)
        return int(self.key == "rollout")


def offered(exploration: Exploration, choice: Choice) -> dict[str, Way]:
    """The methods by key, in their order; those that need an estimator only where there is one."""
    standard = usual_estimator()
    if standard is None or not _fits(standard, exploration):
        standard = _of_its_model(exploration)
    others = [entry.estimator for entry in list_estimators() if entry.estimator is not None]
    others = [e for e in (*others, choice.chosen, choice.former) if e is not None and _fits(e, exploration)]
    # What refines begins with the better scores: those that also know what heads write.
    direct = next((e for e in others if e.direct is not None), standard)
    ways = {
        key: Way(key, *words, direct if key in REFINED else standard if key in NEEDS_THETA else None)
        for key, words in WORDS.items()
        if standard is not None or key not in NEEDS_THETA
    }
    for estimator in others:
        if standard is None or estimator.fingerprint != standard.fingerprint:
            key = THETA + estimator.fingerprint
            ways[key] = Way(key, short_name(estimator) or key, ABOUT["at2"], estimator)
    return told_apart(ways)


def told_apart(ways: dict[str, Way]) -> dict[str, Way]:
    """The same with no name twice: a choice comes back from the browser by its name, and would be the first of that name.

    Estimators that share a name say their fingerprints too; what anybody may call a file can be any name.
    """
    for _ in ways:
        count = Counter(way.name for way in ways.values())
        if max(count.values()) == 1:
            break
        ways = {
            key: replace(way, name=f"{way.name} · {way.estimator.fingerprint}")
            if way.estimator is not None and count[way.name] > 1
            else way
            for key, way in ways.items()
        }
    return ways


def short_name(estimator: Estimator) -> str:
    """Its name without the model's, which is the same for all that are compared."""
    whole = plain(estimator.name, 80)
    short = whole.replace(f" for {plain(estimator.model, 80)}", "", 1)
    return whole if short in ("", "AT2") else short


def _of_its_model(exploration: Exploration) -> Estimator | None:
    """The usual estimator of the model that made it, where another one is loaded."""
    if session.is_of(exploration):
        return None
    try:
        estimator = load_estimator(session.estimator_of(exploration.model))
    except At2Error:
        return None
    return estimator if _fits(estimator, exploration) else None


def _fits(estimator: Estimator, exploration: Exploration) -> bool:
    """Whether it is of the model that made the exploration; before that is loaded, by its name."""
    lm = session.engine().lm
    if lm is None or lm.name != exploration.model:
        return estimator.model == exploration.model
    try:
        check_estimator(estimator, lm)
    except At2Error:
        return False
    return True


def usual(ways: dict[str, Way], choice: Choice) -> tuple[str, ...]:
    """What is compared where nobody said: the chosen estimator if there is one, AT2, average attention, and a cheap third."""
    chosen = THETA + choice.chosen.fingerprint if choice.chosen else ""
    wished = [key for key in (chosen, "at2", "average", "bm25", "gradient") if key in ways]
    return tuple(wished[:3])


def own_scores(exploration: Exploration, granularity: str, way: Way) -> np.ndarray | None:
    """float32 (T, S): what the exploration says by itself, without a model; None where it does not."""
    key = way.key if way.key == "average" else "at2" if way.identity.startswith("at2:") else ""
    if key not in exploration.scores:
        return None
    if key == "at2" and way.estimator and way.estimator.fingerprint != exploration.estimator_fingerprint:
        return None
    return to_sources(exploration.scores[key], exploration, granularity)


def to_sources(scores: np.ndarray, exploration: Exploration, granularity: str) -> np.ndarray:
    """float32 (T, n) summed to (T, S)."""
    running = np.concatenate(
        [np.zeros((len(scores), 1)), np.cumsum(scores, axis=1, dtype=np.float64)], axis=1
    )
    sources = exploration.sources[granularity]
    starts, ends = [s.token_start for s in sources], [s.token_end for s in sources]
    return (running[:, ends] - running[:, starts]).astype(np.float32)


def num_targets(exploration: Exploration) -> int:
    """Sentences of the response that a method is asked for, whatever of it is a thought."""
    starts = np.array([start for start, _ in exploration.response_offsets])
    said = [(a, b) for a, b in split_sentences(exploration.text) if exploration.text[a:b].strip()]
    return sum(bool(((starts >= a) & (starts < b)).any()) for a, b in said)
