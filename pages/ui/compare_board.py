"""What the Compare page has computed, and what it is computing: one place for the whole server, bounded.

`board()`   results, jobs and ablations by example, granularity and method; a reload or another tab finds them there
`turn`      the model for a job, for one chunk of ablations or for a whole computation

Ablations are measured once per example and granularity, whoever asks for them. Nothing here knows about methods.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import streamlit as st

from at2_core.errors import Cancelled, EstimatorMismatch, ModelNotAvailable
from pages.ui.job_end import ending
from pages.ui.session import Engine

CHUNK = (
    4  # ablations before the model is passed on; more where they are quick, since many together are quicker
)
BETWEEN = 3.0  # seconds that so many more may take
MOST_BYTES = 1 << 28  # of results; a word's scores over a long prompt are 5 MB
MOST_JOBS = 64
MOST_EXAMPLES = 8  # whose ablations are kept
ACTIVE = ("waiting", "running")
Key = tuple[str, str, str]  # exploration, granularity, what: whose scores, or OUTCOMES


@dataclass(frozen=True)
class Result:
    """scores float32 (T, S). passes: forward passes that the method takes; reused: how many of them were known before;
    seconds: what the rest took. learned: marks of the ablations that the scores were made from."""

    scores: np.ndarray
    name: str
    passes: float
    reused: int
    seconds: float
    learned: frozenset[bytes] = frozenset()

    @property
    def nbytes(self) -> int:
        return self.scores.nbytes


@dataclass(frozen=True)
class Outcomes:
    """Random ablations: keep bool (M, S), logit_probs float32 (M, T)."""

    keep: np.ndarray
    logit_probs: np.ndarray
    seconds: float

    @property
    def nbytes(self) -> int:
        return self.keep.nbytes + self.logit_probs.nbytes


@dataclass
class Job:
    """state: "waiting", "running", "done", "stopped" or "failed". done, total: ablations, where it makes any. waited: seconds
    in the queue for the model. no_model: it failed because there was none, or another one."""

    key: Key
    total: int = 0
    done: int = 0
    state: str = "waiting"
    error: str = ""
    since: float | None = None
    waited: float = 0.0
    no_model: bool = False
    cancel: threading.Event = field(default_factory=threading.Event)

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    def seconds_left(self) -> float | None:
        if self.since is None or not self.done or not self.total:
            return None
        return (time.monotonic() - self.since) / self.done * (self.total - self.done)


@contextmanager
def turn(engine: Engine, job: Job) -> Iterator[None]:
    """The model for this job, in the order of asking; waiting is no part of what a method takes. Raises Cancelled."""
    asked = time.monotonic()
    with engine.hold(job.cancel, ticket=job):
        job.waited += time.monotonic() - asked
        if job.state == "waiting":
            job.state, job.since = "running", time.monotonic()
        yield


def marks(keep: np.ndarray) -> list[bytes]:
    """What tells an ablation from others, for each row of keep bool (M, S)."""
    return [np.packbits(row).tobytes() for row in keep]


class Ablations:
    """Token logit-probabilities of one example's ablations, by what they keep. Two jobs may add to them in turns."""

    def __init__(self) -> None:
        self._rows: dict[bytes, np.ndarray] = {}
        self.seconds = 0.0

    @property
    def pace(self) -> float | None:
        """Seconds of one ablation, once some were measured."""
        return self.seconds / len(self._rows) if self._rows else None

    def measure(
        self,
        keep: np.ndarray,
        run: Callable[[np.ndarray], np.ndarray],
        job: Job,
        hold: Callable[[], AbstractContextManager[Any]],
    ) -> tuple[np.ndarray, int]:
        """float32 (M, T) for keep bool (M, S), and how many were known. run: measures those that are not, a chunk at a time,
        each within a hold() of its own: others who need the model wait for one chunk and not for all. Raises Cancelled."""
        asked, made, chunk = marks(keep), 0, CHUNK
        first = {mark: i for i, mark in reversed(list(enumerate(asked)))}
        job.total = len(keep)
        while True:
            fresh = [
                mark for mark in first if mark not in self._rows
            ]  # another job may have measured some meanwhile
            job.done = len(keep) - len(fresh)
            if not fresh:
                repeated = len(asked) - len(first)
                return np.stack([self._rows[mark] for mark in asked]), len(asked) - repeated - made
            if job.cancel.is_set():
                raise Cancelled("Stopped.")
            with hold():
                part = [mark for mark in fresh if mark not in self._rows][:chunk]
                if not part:
                    continue
                started = time.monotonic()
                for mark, row in zip(part, run(keep[[first[mark] for mark in part]]), strict=True):
                    self._rows[mark] = row
                took = time.monotonic() - started
                self.seconds += took
            made += len(part)
            chunk = max(CHUNK, min(2 * chunk, int(BETWEEN * len(part) / max(took, 1e-3))))


Work = Callable[[Engine, Any, Job], Any]  # engine, model, job -> Result or Outcomes


class Board:
    """Results, newest last, with the jobs that make them."""

    def __init__(self) -> None:
        self._results: OrderedDict[Key, Any] = OrderedDict()
        self._jobs: OrderedDict[Key, Job] = OrderedDict()
        self._ablations: OrderedDict[tuple[str, str], Ablations] = OrderedDict()
        self._guard = threading.RLock()

    def result(self, key: Key) -> Any:
        with self._guard:
            found = self._results.get(key)
            if found is not None:
                self._results.move_to_end(key)
            return found

    def job(self, key: Key) -> Job | None:
        return self._jobs.get(key)

    def pace(self, example: str, granularity: str) -> float | None:
        """Seconds of one ablation of this example, where some were measured. A look, which keeps nothing."""
        found = self._ablations.get((example, granularity))
        return found.pace if found is not None else None

    def ablations(self, example: str, granularity: str) -> Ablations:
        """The ablations of an example, to add to."""
        with self._guard:
            found = self._ablations.setdefault((example, granularity), Ablations())
            self._ablations.move_to_end((example, granularity))
            while len(self._ablations) > MOST_EXAMPLES:
                self._ablations.popitem(last=False)
            return found

    def start(self, engine: Engine, key: Key, work: Work) -> Job:
        """A job in a thread of its own; the one that runs already, where there is one. work takes its turns with the model."""
        with self._guard:
            running = self._jobs.get(key)
            if running is not None and running.active:
                return running
            job = self._jobs[key] = Job(key)
            self._jobs.move_to_end(key)
            ended = [k for k, other in self._jobs.items() if not other.active]
            for old in ended[: max(0, len(self._jobs) - MOST_JOBS)]:
                del self._jobs[old]
        engine.start()
        threading.Thread(target=self._run, args=(job, engine, work), name="compare", daemon=True).start()
        return job

    def _run(self, job: Job, engine: Engine, work: Work) -> None:
        with ending(job, f"comparing {job.key}"):
            try:
                # between its turns others work, but no other model comes
                with engine.borrow(job.cancel, ticket=job) as lm:
                    self._keep(job.key, work(engine, lm, job))
            except (ModelNotAvailable, EstimatorMismatch):
                job.no_model = True
                raise
            job.state = "done"  # after the result is there: whoever sees the job ended finds it

    def _keep(self, key: Key, result: Any) -> None:
        with self._guard:
            self._results[key] = result
            self._results.move_to_end(key)
            size = sum(kept.nbytes for kept in self._results.values())
            while size > MOST_BYTES and len(self._results) > 1:
                size -= self._results.popitem(last=False)[1].nbytes


@st.cache_resource(show_spinner=False)
def board() -> Board:
    return Board()
