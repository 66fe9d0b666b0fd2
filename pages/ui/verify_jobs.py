"""Verifications as jobs: a thread without Streamlit in it, found again by what is verified, whoever asks for it.

`Subject`    what is verified: a target in an exploration, by the sources of a granularity and the scores of a method
`jobs()`     the server's verifications
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from at2_core import exploration as explorations
from at2_core.exploration import Exploration
from pages.ui.component import Span
from pages.ui.job_end import ending

if TYPE_CHECKING:
    from at2_core.verification import Check, Verified
    from pages.ui.session import Engine

MOST_JOBS = 128
ACTIVE = ("waiting", "running")
ABLATIONS = 32  # of a check
LEAST_TOKENS = 32  # of an answer


@dataclass(frozen=True)
class Subject:
    """scores_of: the method with what it takes to tell its scores from others', as "at2 0f3a…" or "head 7 3". scope: the
    sources that can be taken away, "context" or all of the "prompt"."""

    exploration: str
    runs: tuple[Span, ...]  # response tokens [first, last], both inclusive
    granularity: str
    scores_of: str
    scope: str = "context"

    @property
    def target(self) -> np.ndarray:
        """int (rows,): rows of the response."""
        return np.array([t for first, last in self.runs for t in range(first, last + 1)], int)


@dataclass
class Job:
    """A removal of the top k sources (k > 0) or a check of the scores (k = 0).

    state: "waiting", "running", "done", "stopped" or "failed"; what was found before a stop stays.
    """

    subject: Subject
    k: int
    state: str = "waiting"
    done: int = 0  # ablations
    total: int = 0
    began: float = 0.0  # when the ablations did
    verified: Verified | None = None
    check: Check | None = None
    before: str | None = None  # what the model says with all sources, where that is not the response itself
    after: str | None = None  # what it says without them, so far
    tokens: int = 0  # of the answer that is being made
    max_tokens: int = 0
    after_cut: bool = False
    before_cut: bool = False
    error: str = ""
    cancel: threading.Event = field(default_factory=threading.Event)

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    def tell(self, done: int, total: int) -> None:
        self.began = self.began or time.monotonic()
        self.done, self.total = done, total

    def seconds_left(self) -> float | None:
        """Of the ablations, at the pace so far; None while there is no pace."""
        if not 0 < self.done < self.total:
            return None
        return (time.monotonic() - self.began) / self.done * (self.total - self.done)


class Jobs:
    """The server's verifications by subject and k, newest last. The oldest that have ended go when there are too many."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[tuple[Subject, int], Job] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, subject: Subject, k: int) -> Job | None:
        return self._jobs.get((subject, k))

    def start(
        self, engine: Engine, exploration: Exploration, subject: Subject, k: int, scores: np.ndarray
    ) -> Job:
        """A job in a thread of its own; the one that works on this already, if there is one. scores: (S,)."""
        with self._guard:
            job = self._jobs.get((subject, k))
            if job is not None and job.active:
                return job
            job = Job(subject, k)
            self._jobs.pop((subject, k), None)
            self._jobs[subject, k] = job
            for key in [key for key, other in self._jobs.items() if not other.active]:
                if len(self._jobs) > MOST_JOBS:
                    del self._jobs[key]
        name = f"verify-{subject.exploration}-{k}"
        threading.Thread(
            target=_work, args=(job, engine, exploration, scores), name=name, daemon=True
        ).start()
        return job

    def all(self) -> list[Job]:
        return list(self._jobs.values())


@st.cache_resource(show_spinner=False)
def jobs() -> Jobs:
    return Jobs()


def _work(job: Job, engine: Engine, exploration: Exploration, scores: np.ndarray) -> None:
    """Measure. Whatever happens, the model is let go and the job says what became of it."""
    with ending(job, f"a verification of {job.subject.exploration}"):
        generation = explorations.generation(exploration)  # ablations need no trace
        with engine.use(job.cancel, ticket=job, made_with=exploration.model) as lm:
            job.state = "running"
            (_remove if job.k else _check)(job, lm, exploration, generation, scores)
            job.state = "done"


def _check(job: Job, lm: Any, exploration: Exploration, generation: Any, scores: np.ndarray) -> None:
    from at2_core.verification import check

    sources = exploration.sources_in(job.subject.granularity, job.subject.scope)
    job.check = check(
        lm, generation, sources, scores, job.subject.target,
        num_ablations=ABLATIONS, on_progress=job.tell, cancel=job.cancel,
    )  # fmt: skip


def _remove(job: Job, lm: Any, exploration: Exploration, generation: Any, scores: np.ndarray) -> None:
    from at2_core.verification import remove_top

    sources = exploration.sources_in(job.subject.granularity, job.subject.scope)
    job.verified = remove_top(
        lm, generation, sources, scores, job.subject.target, job.k, on_progress=job.tell, cancel=job.cancel
    )
    keep = np.ones(len(sources), bool)
    if not is_likeliest(exploration):
        job.before, job.before_cut = "", True  # until it has ended
        job.before_cut = _answer(job, lm, exploration, generation, keep, "before")
    keep[list(job.verified.top.removed)] = False
    job.after, job.after_cut = "", True
    job.after_cut = _answer(job, lm, exploration, generation, keep, "after")


def _answer(
    job: Job, lm: Any, exploration: Exploration, generation: Any, keep: np.ndarray, which: str
) -> bool:
    """Let the model answer with the sources that are kept; return whether it was cut."""
    from at2_core.verification import answer_without

    job.tokens, job.max_tokens = 0, answer_tokens(exploration, lm.max_length)

    def tell(text: str) -> None:
        setattr(job, which, text)
        job.tokens += 1

    whole = answer_without(
        lm, generation, exploration.sources_in(job.subject.granularity, job.subject.scope), keep,
        max_new_tokens=job.max_tokens, on_token=tell, cancel=job.cancel,
    )  # fmt: skip
    setattr(job, which, whole)
    return job.tokens >= job.max_tokens


def is_likeliest(exploration: Exploration) -> bool:
    """Whether the response is what the model says by itself. One that was given or sampled would differ from the answer
    without sources for that reason alone, so it is compared with what the model says with all of them."""
    temperature = exploration.settings.get("temperature", 0)
    return exploration.stop_reason != "given" and not (
        isinstance(temperature, (int, float)) and temperature > 0
    )


def answer_tokens(exploration: Exploration, max_length: int) -> int:
    """How many tokens the answer may have: half as many again as the response, or as many where that was cut itself."""
    length = len(exploration.response_ids)
    wished = length if was_cut(exploration) else max(LEAST_TOKENS, length * 3 // 2)
    return max(1, min(wished, max_length - exploration.prompt.n))


def was_cut(exploration: Exploration) -> bool:
    return exploration.stop_reason in ("length", "cancelled")
