"""Generations as jobs: a thread without Streamlit in it, a record that any session can watch, a bounded registry.

The address holds the run's id, so that a reload, another page or a second tab finds it again, whatever the state.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from at2_core.errors import At2Error, Cancelled
from at2_core.exploration import Exploration
from at2_core.prompts import ContextTask

if TYPE_CHECKING:
    from pages.ui.session import Engine

log = logging.getLogger(__name__)
MOST_RUNS = 64
MOST_BYTES = 1 << 29  # of scores in finished runs; a long prompt's are 32 MB
ACTIVE = ("waiting", "running")


@dataclass(frozen=True)
class Settings:
    """How the response comes about. response: a given one, to be attributed as it is. response_ids: one that the model has
    given before, to the same question with these settings, and which is only read again. origin: where the task comes from,
    as a sentence; "" for a person's own."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0
    response: str | None = None
    response_ids: tuple[int, ...] = ()
    origin: str = ""


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
    read: float = 0.0  # share of a long prompt that the model has read
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
        run = Run(secrets.token_hex(6), task, settings)
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
    return sum(s.nbytes for s in run.exploration.scores.values()) if run.exploration else 0


def _work(run: Run, engine: Engine) -> None:
    """Generate and attribute. Whatever happens, the model is let go and the run says what became of it."""
    try:
        lm = engine.wait(run.cancel)
        with engine.hold(run.cancel, ticket=run):
            run.state = "running"
            _generate(run, engine, lm)
    except Cancelled:
        run.state = "stopped"
    except At2Error as error:
        run.error, run.state = str(error), "failed"
    except Exception as error:
        log.exception("run %s failed", run.id)
        run.error = f"Something went wrong inside ({type(error).__name__}); the terminal has the details."
        run.state = "failed"


def _generate(run: Run, engine: Engine, lm: Any) -> None:
    from at2_core.exploration import explore
    from at2_core.generation import generate, generation_from_ids, replay

    task, settings = run.task, run.settings
    if settings.response is not None:
        generation = replay(lm, task, settings.response)
    elif settings.response_ids:
        ended = len(settings.response_ids) < settings.max_new_tokens
        generation = generation_from_ids(
            lm, task, settings.response_ids, stop_reason="end" if ended else "length"
        )
    else:
        generation = generate(
            lm,
            task,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            seed=settings.seed,
            on_token=run.tell,
            on_prompt=run.tell_prompt,
            cancel=run.cancel,
        )
    run.generated = True
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
