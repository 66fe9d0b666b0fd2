"""The model behind the pages, and the exploration that a person is looking at.

`engine()`         one model for the whole server, loaded in the background, exchanged for everybody at once
`model()`          what the server's model is loaded by
`runs()`           the server's generations
`current()`        the exploration that the address names
`generation_of()`  the generation behind an exploration, with its trace

Nothing here imports torch: the first page is on screen before that begins.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import streamlit as st

from at2_core import exploration as explorations
from at2_core.errors import At2Error, EstimatorMismatch, ModelNotAvailable
from at2_core.estimator import load_estimator
from at2_core.exploration import Exploration
from pages.ui.jobs import Run, Runs
from pages.ui.model_engine import Engine, in_line, in_queue, no_estimator, of_another

if TYPE_CHECKING:
    from at2_core.generation import Generation

__all__ = ["Engine", "in_line", "in_queue", "no_estimator"]
DEFAULT_MODEL = "smollm2-135m-instruct"
MODEL = (
    os.environ.get("AT2_MODEL") or DEFAULT_MODEL
)  # to begin with: a catalogue name, hub id, folder or .gguf file
ESTIMATOR = (
    os.environ.get("AT2_ESTIMATOR") or ""
)  # of MODEL: a .safetensors file; empty: the one bundled for it
HEAD_START = (
    1.0  # seconds for the first page to get out: importing torch leaves little time for anything else
)


@st.cache_resource(show_spinner=False)
def _engines(name: str, estimator: str) -> Engine:
    return Engine(name, estimator, HEAD_START, _loading())


def _loading() -> dict[str, str]:
    """How every model is loaded, as `load_model` takes it: AT2_DEVICE, AT2_QUANTIZE, AT2_ATTENTION."""
    told = {
        option: os.environ.get(f"AT2_{option.upper()}", "") for option in ("device", "quantize", "attention")
    }
    return {option: value for option, value in told.items() if value}


def engine() -> Engine:
    """The server's one engine. `.start()` it; it is `ready`, or `failed` with a `.message`."""
    return _engines(MODEL, ESTIMATOR)


@st.cache_resource(show_spinner=False)
def runs() -> Runs:
    return Runs()


def model() -> str:
    """What the server's model is loaded by; before it is there, what it will be."""
    return engine().name


def loaded_by(made_with: str) -> str:
    """What the model of this name was loaded by here; of one that never was, its name."""
    first = os.path.basename(os.path.realpath(os.path.expanduser(MODEL)))
    return engine().places.get(made_with) or (MODEL if made_with == first else made_with)


def estimator_of(made_with: str) -> str:
    """What the estimator of this model is loaded by: the one that the server was told belongs to its first model, and to the
    one that its file names."""
    if not ESTIMATOR:
        return made_with
    with contextlib.suppress(At2Error):
        if loaded_by(made_with) == MODEL or load_estimator(ESTIMATOR).model == made_with:
            return ESTIMATOR
    return made_with


def is_of(exploration: Exploration) -> bool:
    """Whether the model that is loaded made the exploration; before any is there, what the server knows by name."""
    lm = engine().lm
    return lm is None or lm.name == exploration.model


def model_of(exploration: Exploration) -> Any:
    """The loaded model, where it made the exploration. Raises ModelNotAvailable, EstimatorMismatch where another did."""
    own = engine()
    lm = own.lm
    if lm is None:
        raise ModelNotAvailable(own.message or "The model is not loaded yet; try again in a moment.")
    if lm.name != exploration.model:
        raise EstimatorMismatch(of_another(exploration.model, lm.name))
    return lm


def generation_of(exploration: Exploration) -> Generation:
    """The generation behind an exploration, with its trace: kept, or read again from its ids in one forward pass.

    Raises ModelNotAvailable, and EstimatorMismatch if another model made the exploration.
    """
    from at2_core.generation import retrace

    own = engine()
    generation = own.kept(exploration.id)
    if generation is None:
        with own.use(made_with=exploration.model) as lm:
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
