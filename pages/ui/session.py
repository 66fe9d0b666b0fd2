"""The model behind the pages, and the exploration that a person is looking at.

`engine()`         one model for the whole server, loaded in the background, one lock
`runs()`           the server's generations
`current()`        the exploration that the address names
`generation_of()`  the generation behind an exploration, with its trace

Nothing here imports torch: the first page is on screen before that begins.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from at2_core import exploration as explorations
from at2_core.errors import At2Error, Cancelled, EstimatorFileError, EstimatorMismatch, ModelNotAvailable
from at2_core.estimator import Estimator, check_estimator, load_estimator
from at2_core.exploration import Exploration
from pages.ui.jobs import Run, Runs

if TYPE_CHECKING:
    from at2_core.generation import Generation

log = logging.getLogger(__name__)
DEFAULT_MODEL = "smollm2-135m-instruct"
MODEL = os.environ.get("AT2_MODEL") or DEFAULT_MODEL  # a catalogue name, hub id, folder or .gguf file
ESTIMATOR = os.environ.get("AT2_ESTIMATOR") or ""  # a .safetensors file; empty: the one bundled for the model
KEPT_GENERATIONS = 4
HEAD_START = (
    1.0  # seconds for the first page to get out: importing torch leaves little time for anything else
)
STAGES = {
    "wait": "Another program is fetching the model; waiting for it",
    "download": "Downloading the model (once)",
    "convert": "Preparing the model (once)",
    "load": "Loading the model",
}


class Engine:
    """Owns the model: its loading thread, the queue for it, its estimator and the generations that still have a trace."""

    def __init__(self, name: str, estimator: str) -> None:
        self.name, self._estimator_name = name, estimator
        self.status = "idle"  # "idle", "loading", "ready" or "failed"
        self.message = ""
        self.part: float | None = None  # of the present stage, 0 to 1, where it can be told
        self.lm: Any = None
        self.estimator: Estimator | None = None
        self.shortfall = ""  # why there is no estimator
        self._queue: list[object] = []  # tickets; whose is the first has the model
        self._turn = threading.Condition()
        self._guard = threading.Lock()
        self._settled = threading.Event()
        self._generations: OrderedDict[str, Generation] = OrderedDict()

    def start(self, again: bool = False) -> None:
        """Begin loading, unless that has begun; after a failure, only when asked to try again."""
        with self._guard:
            if self.status in ("loading", "ready") or (self.status == "failed" and not again):
                return
            self.status, self.message = "loading", "Loading the model"
            self._settled.clear()
            threading.Thread(target=self._load, name="load-model", daemon=True).start()

    def _load(self) -> None:
        try:
            time.sleep(HEAD_START)
            from at2_core.models import load_model

            lm = load_model(self.name, progress=self._progress)
            self._load_estimator(lm)
            self.lm, self.status, self.message = lm, "ready", ""
        except At2Error as error:
            self.message, self.status = str(error), "failed"
        except Exception as error:
            log.exception("loading %s failed", self.name)
            self.message = (
                f"The model cannot be loaded ({type(error).__name__}); the terminal has the details."
            )
            self.status = "failed"
        finally:
            self.part = None
            self._settled.set()

    def _progress(self, stage: str, done: int, total: int) -> None:
        self.part = done / total if total else None
        amount = f": {done / 1e6:.0f} of {total / 1e6:.0f} MB" if stage == "download" and total else ""
        self.message = STAGES.get(stage, stage) + amount

    def _load_estimator(self, lm: Any) -> None:
        try:
            estimator = load_estimator(self._estimator_name or lm.name)
            check_estimator(estimator, lm)
            self.estimator = estimator
        except EstimatorMismatch as error:
            self.shortfall = str(error)
        except EstimatorFileError as error:
            self.shortfall = str(error) if self._estimator_name else no_estimator(lm.name)

    def wait(self, cancel: threading.Event | None = None) -> Any:
        """The model, once it is there. Raises ModelNotAvailable, or Cancelled."""
        while not self._settled.wait(0.1):
            if cancel is not None and cancel.is_set():
                raise Cancelled("Stopped while the model was loading.")
        if self.lm is None:
            raise ModelNotAvailable(self.message)
        return self.lm

    @contextmanager
    def hold(self, cancel: threading.Event | None = None, ticket: object = None) -> Iterator[None]:
        """The model for oneself, in the order of asking. A page that waits says so, and can be interrupted there by the
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

    def kept(self, key: str) -> Generation | None:
        return self._generations.get(key)


def in_queue(ahead: int) -> str:
    """A place in the queue, in words. Whoever is ahead may generate, work out an estimate or read an example."""
    return (
        f"The model is busy; {ahead - 1} more before yours."
        if ahead > 1
        else "The model is busy; yours is next."
    )


def no_estimator(model: str) -> str:
    return f"There is no estimator for {model} yet."


@st.cache_resource(show_spinner=False)
def _engines(name: str, estimator: str) -> Engine:
    return Engine(name, estimator)


def engine() -> Engine:
    """The server's one engine. `.start()` it; it is `ready`, or `failed` with a `.message`."""
    return _engines(MODEL, ESTIMATOR)


@st.cache_resource(show_spinner=False)
def runs() -> Runs:
    return Runs()


def generation_of(exploration: Exploration) -> Generation:
    """The generation behind an exploration, with its trace: kept, or read again from its ids in one forward pass.

    Raises ModelNotAvailable, and EstimatorMismatch if another model made the exploration.
    """
    from at2_core.generation import retrace

    own = engine()
    generation = own.kept(exploration.id)
    if generation is None:
        lm = own.wait()
        if lm.name != exploration.model:
            raise EstimatorMismatch(
                f"This was made with {exploration.model}, but {lm.name} is loaded; generate it again to look inside."
            )
        with own.hold():
            generation = own.kept(exploration.id) or retrace(lm, explorations.generation(exploration))
            own.keep(exploration.id, generation)
    return generation


# ---------------------------------------------------------------------------------- what a person is looking at


def asked() -> tuple[str, str]:
    """("run", id) or ("example", id): what the address names, else what was looked at last, else the first example."""
    if "run" in st.query_params:
        return "run", st.query_params["run"]
    if "example" in st.query_params:
        return "example", st.query_params["example"]
    return st.session_state.get("looking_at") or ("example", next(iter(example_ids()), ""))


def look_at(kind: str, name: str, keep: Collection[str] = ()) -> None:
    """Make it what the address names. Of what else the address says, only the keys in `keep` still make sense."""
    kept = {key: value for key, value in st.query_params.items() if key in keep}
    st.session_state["looking_at"] = (kind, name)
    st.query_params.from_dict({kind: name, **kept})


def run_of_address() -> Run | None:
    """The run that is looked at. It is remembered, and named in the address, from wherever it was opened."""
    kind, name = asked()
    run = runs().get(name) if kind == "run" else None
    if run is not None:
        st.session_state["own_run"] = run.id
        st.session_state["looking_at"] = (kind, name)
        if st.query_params.get("run") != name:
            st.query_params["run"] = name
    return run


def own_run() -> Run | None:
    """This session's latest run, whatever is looked at."""
    return runs().get(st.session_state.get("own_run"))


def current() -> Exploration:
    """The finished exploration to show: what the address names, else the one shown last, else the first example.

    The address is made to say which, so that it can be shared. Raises ExplorationFileError where there is none.
    """
    wished, first = asked(), ("example", next(iter(example_ids()), ""))
    for kind, name in (wished, st.session_state.get("shown", first), first):
        exploration = _finished(kind, name)
        if exploration is not None:
            break
    else:
        return explorations.load_example(first[1])  # raises, and says what is missing
    st.session_state["shown"] = (kind, name)
    if (kind, name) != wished:  # a run that is not finished: it stays what the address and the session name
        return exploration
    st.session_state["looking_at"] = wished
    if st.query_params.get(kind) != name:
        others = {k: v for k, v in st.query_params.items() if k not in ("run", "example")}
        st.query_params.from_dict({kind: name, **others})
    return exploration


def example_ids() -> list[str]:
    return [example for example, _, _ in explorations.gallery()]


def _finished(kind: str, name: str) -> Exploration | None:
    if kind == "example":
        return explorations.load_example(name) if name in example_ids() else None
    run = runs().get(name)
    return run.exploration if run else None
