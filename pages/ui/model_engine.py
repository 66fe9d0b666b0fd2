"""The server's one model: loading it, whose turn it is, giving it up for another one.

`Engine.start`    load in the background
`Engine.use`      the model for oneself, in the order of asking: for one computation
`Engine.borrow`   the promise that it stays, for work that takes several turns
`Engine.switch`   another model for everybody: fetched while the present one still serves, loaded once nobody works with it
`Engine.unload`   give up the model and its memory until somebody needs it again

There is one model and not one a person: two would take the memory of two, and a computer that has room for a large one seldom
has it for more. Nothing here imports torch at the top.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from at2_core.card import HUB_ID
from at2_core.errors import At2Error, Cancelled, EstimatorFileError, EstimatorMismatch, ModelNotAvailable
from at2_core.estimator import BUNDLED, Estimator, check_estimator, load_estimator
from at2_core.footprint import Pace, give_back_memory

if TYPE_CHECKING:
    from at2_core.generation import Generation

log = logging.getLogger(__name__)
KEPT_GENERATIONS = 4
STAGES = {
    "wait": "Another program is fetching the model; waiting for it",
    "download": "Downloading the model (once)",
    "convert": "Preparing the model (once)",
    "load": "Loading the model",
    "check": "Trying the model",
}
RESTING = "No model is loaded"


@dataclass
class Switch:
    """Another model on its way. to: what it is loaded by; title: what people call it. state: "fetching" (the present one still
    serves, and is asked as before), "waiting" (for those who work with it) or "loading"."""

    to: str
    title: str
    state: str = "fetching"
    message: str = ""
    part: float | None = None
    cancel: threading.Event = field(default_factory=threading.Event)


class Engine:
    """Owns the model: its loading thread, the queue for it, its estimator and the generations that still have a trace."""

    def __init__(
        self,
        name: str,
        estimator: str = "",
        head_start: float = 0.0,
        loading: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name  # what the model is loaded by: a catalogue name, hub id, folder or .gguf file
        self.first, self._first_estimator, self._head_start = name, estimator, head_start
        self.loading = dict(loading or {})  # options of `load_model`, of every model
        self.status = "idle"  # "idle", "loading", "ready" or "failed"
        self.message = ""
        self.note = ""  # what became of the last switch, where that was not what was wished
        self.part: float | None = None  # of the present stage, 0 to 1, where it can be told
        self.lm: Any = None
        self.estimator: Estimator | None = None
        self.shortfall = ""  # why there is no estimator
        self.resting = False  # unloaded by somebody; then `failed`, so that nothing waits for it
        self.switching: Switch | None = None
        self.pace = Pace()
        self.prefix: Any = None  # a KeptPrefix, once a run has left something for a follow-up question
        self.places: dict[str, str] = {}  # what a model of this name was loaded by
        self._fingerprints = _known_fingerprints()
        self._queue: list[object] = []  # tickets; whose is the first has the model
        self._borrowers: list[object] = []
        self._turn = threading.Condition()
        self._guard = threading.Lock()
        self._settled = threading.Event()
        self._generations: OrderedDict[str, Generation] = OrderedDict()

    # ------------------------------------------------------------------------------------------------ loading

    def start(self, again: bool = False) -> None:
        """Begin loading, unless that has begun; after a failure, only when asked to try again."""
        with self._guard:
            if self.status in ("loading", "ready") or (self.status == "failed" and not again):
                return
            self.status, self.message, self.resting = "loading", STAGES["load"], False
            self._settled.clear()
            threading.Thread(target=self._load, name="load-model", daemon=True).start()

    def _load(self) -> None:
        time.sleep(self._head_start)
        complaint = self._read(self.name)
        if complaint:
            self.message, self.status = complaint, "failed"
        self.part = None
        self._settled.set()

    def _read(self, name: str) -> str:
        """Load the model and make it the server's; "", or why that could not be, as a sentence."""
        try:
            from at2_core.local_models import check_conversion
            from at2_core.models import load_model

            check_conversion(name)
            lm = self._told_apart(load_model(name, progress=self._progress, **self.loading))
            self.estimator, self.shortfall = self._estimator_of(lm, name)
            self.places[lm.name] = name
            self.name, self.lm, self.message, self.status = name, lm, "", "ready"
        except At2Error as error:
            return str(error)
        except Exception as error:
            log.exception("loading %s failed", name)
            return f"The model cannot be loaded ({type(error).__name__}); the terminal has the details."
        return ""

    def _progress(self, stage: str, done: int, total: int) -> None:
        self.part = done / total if total else None
        self.message = _in_words(stage, done, total)

    def _told_apart(self, lm: Any) -> Any:
        """The same under a name that no other weights have here: explorations, scores and jobs are told apart by it. Two
        folders may be called alike, or like a model of the catalogue."""
        known = self._fingerprints.setdefault(lm.name, lm.fingerprint)
        return lm if known == lm.fingerprint else replace(lm, name=f"{lm.name} · {lm.fingerprint}")

    def _estimator_of(self, lm: Any, name: str) -> tuple[Estimator | None, str]:
        """(estimator, "") or (None, why there is none). The one that the server was told belongs to its first model."""
        given = self._first_estimator if name == self.first else ""
        try:
            estimator = load_estimator(given or lm.name)
            check_estimator(estimator, lm)
        except EstimatorMismatch as error:
            return None, str(error)
        except EstimatorFileError as error:
            return None, str(error) if given else no_estimator(lm.name)
        return estimator, ""

    def unload(self) -> None:
        """Give up the model, once nobody works with it, and its memory; what needs it next loads it again. Raises
        ModelNotAvailable where another one is on its way."""
        with self._guard:
            if self.switching is not None:
                raise ModelNotAvailable(under_way(self.switching))
            if self.status != "ready":
                return
            leaving = self.switching = Switch("", "nothing", "waiting")
        try:
            with self._alone(leaving):
                self._drop()
                self.message, self.resting, self.status = RESTING, True, "failed"
                self._settled.set()
        finally:
            self.switching = None

    def _drop(self) -> None:
        self._settled.clear()
        self.status, self.message = "loading", STAGES["load"]
        self.lm = self.estimator = None
        self.shortfall, self.pace = "", Pace()
        self.forget()
        give_back_memory()

    # ---------------------------------------------------------------------------------------------- switching

    def switch(self, to: str, title: str = "") -> Switch:
        """Begin to make another model everybody's. Raises ModelNotAvailable where another one is on its way."""
        with self._guard:
            if self.switching is not None:
                raise ModelNotAvailable(under_way(self.switching))
            switch = self.switching = Switch(to, title or to)
            self.note = ""
        threading.Thread(target=self._change, args=(switch,), name="switch-model", daemon=True).start()
        return switch

    def _change(self, switch: Switch) -> None:
        try:
            from at2_core.local_models import fetch_model

            fetch_model(switch.to, lambda *stage: self._tell(switch, *stage))
            with self._alone(switch):
                self._exchange(switch)
        except Cancelled:
            self.note = f"The switch to {switch.title} was called off."
        except At2Error as error:
            self.note = str(error)
        except Exception as error:
            log.exception("switching to %s failed", switch.to)
            self.note = (
                f"{switch.title} cannot be loaded ({type(error).__name__}); the terminal has the details."
            )
        finally:
            self.part, self.switching = None, None

    def _exchange(self, switch: Switch) -> None:
        """The present model goes before the other one comes, so that there is never room for two; it comes back where that
        one fails."""
        former, served = self.name, self.lm is not None
        self._drop()
        self.resting = False
        complaint = self._read(switch.to)
        if complaint and served:
            self.message = f"Loading {former} again"
            lost = self._read(former)
            self.note = f"{complaint} {lost}" if lost else f"{complaint} The former model is loaded again."
            complaint = lost
        elif complaint:
            self.name = switch.to
        if complaint:
            self.message, self.status = complaint, "failed"
        self._settled.set()

    def _tell(self, switch: Switch, stage: str, done: int, total: int) -> None:
        if switch.cancel.is_set():
            raise Cancelled("The switch was called off.")
        switch.part = done / total if total else None
        switch.message = _in_words(stage, done, total)

    @contextmanager
    def _alone(self, switch: Switch) -> Iterator[None]:
        """When nobody works with the model any longer; who asks from now on waits for what comes after it."""
        while self.status == "loading":  # the first one is still on its way
            self._stop_if(switch.cancel)
            self._settled.wait(0.1)
        switch.state = "waiting"
        with self._turn:
            while self._borrowers:
                self._stop_if(switch.cancel)
                self._turn.wait(0.1)
            switch.state = "loading"  # from here on nobody else gets it
        with self.hold(ticket=switch):
            yield

    @staticmethod
    def _stop_if(cancel: threading.Event) -> None:
        if cancel.is_set():
            raise Cancelled("The switch was called off.")

    def lends_to(self, ticket: object) -> bool:
        return any(other is ticket for other in self._borrowers)

    @property
    def working(self) -> int:
        """How many work with the model or wait for it."""
        return len(self._borrowers)

    def stop_all(self) -> None:
        """Ask everything that works with the model, or waits for it, to end."""
        for ticket in [*self._borrowers, *self._queue]:
            cancel = getattr(ticket, "cancel", None)
            if cancel is not None and not isinstance(ticket, Switch):
                cancel.set()

    # ------------------------------------------------------------------------------------------------ its use

    def wait(self, cancel: threading.Event | None = None) -> Any:
        """The model, once it is there. Raises ModelNotAvailable, or Cancelled."""
        while True:
            while not self._settled.wait(0.1):
                if cancel is not None and cancel.is_set():
                    raise Cancelled("Stopped while the model was loading.")
            lm = self.lm
            if lm is not None:
                return lm
            if self.status == "failed":
                raise ModelNotAvailable(self.message)
            time.sleep(0.05)  # it is just being exchanged

    @contextmanager
    def borrow(
        self, cancel: threading.Event | None = None, ticket: object = None, made_with: str = ""
    ) -> Iterator[Any]:
        """The model, which stays until the end of the block; a computation takes `hold` besides.

        made_with: the name of the model that it must be. Raises ModelNotAvailable, EstimatorMismatch or Cancelled.
        """
        drawing = get_script_run_ctx(suppress_warning=True) is not None
        ticket = object() if ticket is None else ticket
        while True:
            lm = self.wait(cancel)
            with self._turn:
                if self.lm is lm and not self._leaving(drawing):
                    self._borrowers.append(ticket)
                    break
            del lm
            if cancel is not None and cancel.is_set():
                raise Cancelled("Stopped while another model was on its way.")
            time.sleep(0.05)
        try:
            if made_with and lm.name != made_with:
                raise EstimatorMismatch(of_another(made_with, lm.name))
            yield lm
        finally:
            del lm
            with self._turn:
                self._borrowers = [other for other in self._borrowers if other is not ticket]
                self._turn.notify_all()

    def _leaving(self, drawing: bool) -> bool:
        """Whether one has to wait for the model that comes. A job lets the switch go first, or there might never be one; a
        page, whose reading is short, need not wait for those before it."""
        state = self.switching.state if self.switching is not None else ""
        return state == "loading" or (state == "waiting" and not drawing)

    @contextmanager
    def use(
        self, cancel: threading.Event | None = None, ticket: object = None, made_with: str = ""
    ) -> Iterator[Any]:
        """The model for oneself: `borrow` and `hold` together."""
        ticket = object() if ticket is None else ticket
        with self.borrow(cancel, ticket, made_with) as lm, self.hold(cancel, ticket):
            yield lm

    @contextmanager
    def hold(self, cancel: threading.Event | None = None, ticket: object = None) -> Iterator[None]:
        """One's turn, in the order of asking. A page that waits says so, and can be interrupted there by the
        next rerun; then its ticket goes. ticket: what `ahead_of` is asked with."""
        drawing, began, note = get_script_run_ctx(suppress_warning=True) is not None, time.monotonic(), None
        ticket = object() if ticket is None else ticket
        with self._turn:
            self._queue.append(ticket)
        try:
            while not self._is_next(ticket):
                if cancel is not None and cancel.is_set():
                    raise Cancelled("Stopped while the model was busy.")
                if drawing and time.monotonic() - began > 0.4:
                    note = note or st.empty()
                    note.text(in_queue(self.ahead_of(ticket)))
            if note is not None:
                note.empty()
            yield
        finally:
            with self._turn:
                self._queue = [other for other in self._queue if other is not ticket]
                self._turn.notify_all()

    def _is_next(self, ticket: object) -> bool:
        """Whether it is this one's turn, or has become so within a moment."""
        with self._turn:
            return self._turn.wait_for(lambda: self._queue[0] is ticket, timeout=0.1)

    def ahead_of(self, ticket: object) -> int:
        """How many have the model or wait for it before this one; all of them where it does not wait yet."""
        with self._turn:
            return next((i for i, other in enumerate(self._queue) if other is ticket), len(self._queue))

    @property
    def busy(self) -> bool:
        return bool(self._queue)

    def keep(self, key: str, generation: Generation) -> None:
        """Keep a generation with its trace for a while: it holds the queries and keys of every layer."""
        self._generations[key] = generation
        self._generations.move_to_end(key)
        while len(self._generations) > KEPT_GENERATIONS:
            self._generations.popitem(last=False)

    def forget(self) -> None:
        """Give up what is only kept to save time."""
        self._generations.clear()
        if self.prefix is not None:
            self.prefix.clear()

    def kept(self, key: str) -> Generation | None:
        return self._generations.get(key)


def in_queue(ahead: int) -> str:
    """A place in the queue, in words. Whoever is ahead may generate, work out an estimate or read an example."""
    return (
        f"The model is busy; {ahead - 1} more before yours."
        if ahead > 1
        else "The model is busy; yours is next."
    )


def in_line(engine: Engine, ticket: object) -> str:
    """What a job waits for, in words: another model that is loaded first, or those who asked before it."""
    switch = engine.switching
    if switch is not None and switch.state != "fetching" and not engine.lends_to(ticket):
        return (
            f"{switch.title} is loaded first; yours is next." if switch.to else "The model is being unloaded."
        )
    return in_queue(engine.ahead_of(ticket))


def runs_again(lm: Any) -> str:
    """Why this model takes longer than others of its size, as a sentence; "" where it does not."""
    if lm is None or lm.in_place:
        return ""
    return "Its heads are read by running each response a second time: as exact as others, but slower."


def shown(name: str) -> str:
    """What a model is called where everybody reads it: of a path the last part, which tells nothing about the disk."""
    if HUB_ID.fullmatch(name):
        return name
    return name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


def no_estimator(model: str) -> str:
    return f"There is no estimator for {model} yet."


def of_another(made_with: str, loaded: str) -> str:
    return f"This was made with {made_with}, but {loaded} is loaded; load {made_with}, or generate it again."


def under_way(switch: Switch) -> str:
    if not switch.to:
        return "The model is just being unloaded; try again in a moment."
    return f"{switch.title} is already on its way; wait for it, or call that off first."


def _in_words(stage: str, done: int, total: int) -> str:
    amount = f": {done / 1e6:.0f} of {total / 1e6:.0f} MB" if stage == "download" and total else ""
    return STAGES.get(stage, stage) + amount


def _known_fingerprints() -> dict[str, str]:
    """Of the models whose estimators come with the app, by name: nothing else may go by these names."""
    known = {}
    for path in BUNDLED.glob("*.safetensors"):
        try:
            estimator = load_estimator(path)
        except At2Error:
            continue
        if estimator.model_fingerprint:
            known[estimator.model] = estimator.model_fingerprint
    return known
