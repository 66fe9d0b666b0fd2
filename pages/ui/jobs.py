"""Generations as jobs: a thread without Streamlit in it, a record that any session can watch, a bounded registry.

The address holds the run's id, so that a reload, another page or a second tab finds it again, whatever the state.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from at2_core.errors import At2Error, Cancelled
from at2_core.exploration import Exploration
from at2_core.prompts import ContextTask
from pages.ui.job_end import ending
from pages.ui.model_memory import note_pace, weigh

if TYPE_CHECKING:
    from pages.ui.session import Engine

MOST_RUNS = 64
MOST_BYTES = 1 << 29  # of scores in finished runs; a long prompt's are 32 MB
ACTIVE = ("waiting", "running")


@dataclass(frozen=True)
class Settings:
    """How the response comes about. response: a given one, to be attributed as it is. response_ids: one that the model has
    given before, to the same question with these settings, and which is only read again. origin: where the task comes from,
    as a sentence; "" for a person's own. follows: the turn of the conversation before this one, as `session.asked` names it."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0
    response: str | None = None
    response_ids: tuple[int, ...] = ()
    origin: str = ""
    follows: tuple[str, str] | None = None


@dataclass
class Run:
    """One generation or replay. state: "waiting", "running", "done", "stopped" (nothing to show) or "failed"."""

    id: str
    task: ContextTask
    settings: Settings
    state: str = "waiting"
    text: str = ""  # of the response so far
    tokens: int = 0
    generated: bool = False
    loaded_by: str = ""  # the server's model when this was asked, by what it is loaded by
    prompt_tokens: int = 0  # about
    read: float = 0.0  # share of a long prompt, with a response that is given, that the model has read
    reading_since: float | None = None
    reading_takes: float | None = None  # seconds, at the pace of former runs
    error: str = ""
    exploration: Exploration | None = None
    cancel: threading.Event = field(default_factory=threading.Event)
    generating_since: float | None = None

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    def tell(self, text: str) -> None:
        if self.generating_since is None:
            self.generating_since = time.monotonic()
        self.text, self.tokens = text, self.tokens + 1

    def tell_prompt(self, done: int, total: int) -> None:
        self.read = done / total

    def reading_left(self) -> float | None:
        """Seconds until the prompt is read, about: at the pace of former runs, else at its own; None while there is none."""
        if self.reading_since is None or self.generating_since is not None:
            return None
        gone = time.monotonic() - self.reading_since
        if self.reading_takes:
            return max(0.0, self.reading_takes - gone)
        return gone / self.read * (1 - self.read) if self.read else None

    def seconds_left(self) -> float | None:
        """At most this long, at the pace so far; None while there is no pace."""
        if self.generating_since is None or self.tokens < 3:
            return None
        pace = (time.monotonic() - self.generating_since) / (self.tokens - 1)
        return pace * (self.settings.max_new_tokens - self.tokens)


class Runs:
    """The server's runs by id, newest last. The oldest finished ones go when there are too many, or too large."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, run_id: str | None) -> Run | None:
        return self._runs.get(run_id or "")

    def start(self, engine: Engine, task: ContextTask, settings: Settings) -> Run:
        """A run in a thread of its own. It waits for the model, then for whoever asked for it before."""
        run = Run(secrets.token_hex(6), task, settings, loaded_by=engine.name)
        with self._guard:
            self._runs[run.id] = run
            self._make_room()
        engine.start(again=True)
        threading.Thread(target=_work, args=(run, engine), name=f"run-{run.id}", daemon=True).start()
        return run

    def _make_room(self) -> None:
        finished = [r for r in self._runs.values() if not r.active]
        size = sum(_bytes(r) for r in finished)
        while finished and (len(self._runs) > MOST_RUNS or size > MOST_BYTES):
            oldest = finished.pop(0)
            size -= _bytes(oldest)
            del self._runs[oldest.id]


def _bytes(run: Run) -> int:
    e = run.exploration
    return sum(s.nbytes for held in (e.scores, e.own_scores) for s in held.values()) if e else 0


def _work(run: Run, engine: Engine) -> None:
    """Generate and attribute. Whatever happens, the model is let go and the run says what became of it."""
    with ending(run, f"run {run.id}"), engine.use(run.cancel, ticket=run) as lm:
        run.state = "running"
        weigh(run, engine, lm)
        _generate(run, engine, lm)


def _generate(run: Run, engine: Engine, lm: Any) -> None:
    from at2_core.exploration import explore
    from at2_core.generation import KeptPrefix, generate, generation_from_ids, replay

    task, settings, run.reading_since = run.task, run.settings, time.monotonic()
    if settings.response is not None:
        generation = replay(lm, task, settings.response, on_prompt=run.tell_prompt, cancel=run.cancel)
    elif settings.response_ids:
        ended = len(settings.response_ids) < settings.max_new_tokens
        generation = generation_from_ids(
            lm, task, settings.response_ids, "end" if ended else "length", on_prompt=run.tell_prompt, cancel=run.cancel
        )  # fmt: skip
    else:
        engine.prefix = engine.prefix or KeptPrefix()
        generation = generate(
            lm,
            task,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            seed=settings.seed,
            on_token=run.tell,
            on_prompt=run.tell_prompt,
            cancel=run.cancel,
            prefix=engine.prefix,
        )
    run.generated = True
    note_pace(run, engine, lm, generation)
    if not generation.response_ids:
        if run.cancel.is_set():
            raise Cancelled("Stopped before the first token.")
        raise At2Error(
            "The model ended its response at once. Ask differently, or sample with a temperature above 0."
        )
    about = {
        "max_new_tokens": settings.max_new_tokens,
        "temperature": settings.temperature,
        "seed": settings.seed,
    }
    run.exploration = explore(lm, generation, engine.estimator, settings=about)
    engine.keep(run.exploration.id, generation)
    run.state = "done"
