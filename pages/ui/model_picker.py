"""The models that can be loaded, with what each takes and what there is: a dialog behind the model's status.

What it lists, it lists when it is opened: the catalogue, the folders of AT2_MODELS_DIR, the hub's cache. Another folder, .gguf
file or hub id can be named. What a model's files say of it is shown as text.
"""

from __future__ import annotations

import contextlib
import os
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from at2_core import local_models
from at2_core.catalogue import KINDS as KINDS_OF_ESTIMATORS
from at2_core.catalogue import Entry, list_estimators
from at2_core.errors import ModelNotAvailable
from at2_core.footprint import free_memory
from at2_core.local_models import LocalModel
from pages.ui import frame, model_switch, session
from pages.ui.model_engine import Engine, runs_again
from pages.ui.model_memory import gigabytes

FOLDERS = "AT2_MODELS_DIR"
MANY = 6  # models from which on they can be searched
KINDS = {"catalogue": "In the catalogue", "folder": "Folder", "gguf": "File (.gguf)", "hub": "From the hub"}
OPEN = "models-open"
NAMED = "model-named"  # what was typed
NAMED_HELP = "A folder with config.json and .safetensors, a .gguf file, or a hub id (owner/name), on the server's computer."


@dataclass(frozen=True)
class Room:
    """free: bytes of memory; freed: those that the present model gives back when another one comes. number: bytes of one."""

    free: int
    freed: int
    number: int

    def fits(self, needed: int) -> bool:
        return needed <= self.free + self.freed


def is_open() -> bool:
    """Whether it was opened in this window and not closed since: the page behind it may be drawn again meanwhile."""
    return bool(st.session_state.get(OPEN))


def open_picker() -> None:
    st.session_state[OPEN] = True


def close_picker() -> None:
    st.session_state[OPEN] = False


@st.dialog("Models", width="medium", on_dismiss=close_picker)
def model_picker() -> None:
    engine = session.engine()
    room = room_of(engine)
    with st.container(key="quiet-models"):
        st.text(
            f"One model serves everybody who uses this server; another one takes its place. "
            f"{gigabytes(room.free + room.freed)} of memory {'would be' if room.freed else 'is'} free for it."
        )
    if engine.switching is not None:
        frame.remark(
            f"{engine.switching.title} is on its way; another one can be chosen when it is there."
            if engine.switching.to
            else "The model is just being unloaded.",
            "models",
        )
    found, entries = found_models(), list_estimators()
    here = next((m for m in found if m.name == engine.name), None) or described(engine.name)
    if here is not None:
        _card(here, entries, room, engine)
    others = sorted((m for m in found if m.name != engine.name), key=lambda model: bool(model.problem))
    if len(others) > MANY:
        wished = st.text_input("Search", key="models-search", placeholder="part of a name").strip().lower()
        others = [m for m in others if wished in m.title.lower() or wished in m.name.lower()]
        if not others:
            frame.remark(f"No model is called anything like {wished!r}.", "models-none")
    with st.container(height=330 if len(others) > 2 else "content", border=False, gap="small"):
        for model in others:
            _card(model, entries, room, engine)
    if not model_switch.listed_only():
        _another(entries, room, engine)
    if not others:
        with st.container(key="quiet-models-none"):
            st.text(f"Folders named in {FOLDERS} are listed here, and what the hub's cache holds.")


def folders() -> list[str]:
    """The folders that the operator named."""
    return [folder for folder in os.environ.get(FOLDERS, "").split(os.pathsep) if folder.strip()]


def found_models() -> list[LocalModel]:
    return local_models.find_models(folders())


def described(name: str) -> LocalModel | None:
    try:
        return local_models.describe_model(name)
    except ModelNotAvailable:
        return None


def room_of(engine: Engine) -> Room:
    """Memory, and what a number takes in it, as far as that is known before torch is there."""
    if engine.lm is None:
        number = 4
        if "torch" in sys.modules:
            from at2_core import models

            device = engine.loading.get("device", "auto")
            with contextlib.suppress(ModelNotAvailable):  # a device that is not there: loading says so
                number = models._dtype(
                    "auto", models._device("auto" if device == "split" else device)
                ).itemsize
        return Room(free_memory(), 0, number)
    freed = int(engine.lm.model.get_memory_footprint())
    return Room(free_memory(engine.lm.device), freed, engine.lm.dtype.itemsize)


# --------------------------------------------------------------------------------------------------- one model


def _card(model: LocalModel, entries: list[Entry], room: Room, engine: Engine) -> None:
    """What it is, what it takes, and the button."""
    needed = local_models.memory_needed(model, room.number, engine.loading.get("quantize", ""))
    loaded = model.name == engine.name and engine.lm is not None
    fits = room.fits(needed)
    key = f"model-{zlib.crc32(model.name.encode(errors='replace')):x}"
    with st.container(
        border=True, key=f"row-{key}", horizontal=True, vertical_alignment="center", gap="medium"
    ):
        with st.container(gap=None, width="stretch"):
            with st.container(key=f"model-name-{key}"):
                st.text(model.title)
            with st.container(key=f"quiet-{key}", gap=None):
                for line in (about(model), takes(model, needed, room, loaded), owned(model, entries, engine)):
                    st.text(line)
                if loaded and runs_again(engine.lm):
                    st.text(runs_again(engine.lm))
                if model.problem:
                    st.text(model.problem)
                elif not fits and not loaded:
                    st.text(f"It does not fit: {gigabytes(needed - room.free - room.freed)} too much. Close other programs, "
                            "or choose a smaller one.")  # fmt: skip
        if loaded:
            _unload(engine)
            return
        label = "Load" if model.fetched else "Fetch and load"
        pressed = st.button(
            label, key=f"load-{key}", icon=":material/play_arrow:",
            disabled=bool(model.problem) or not fits or engine.switching is not None,
        )  # fmt: skip
        if pressed:
            model_switch.load(model.name, model.title)
            close_picker()
            st.rerun()


def _unload(engine: Engine) -> None:
    with st.container(width="content", gap=None, horizontal_alignment="right"):
        st.text("● loaded", width="content")
        if st.button(
            "Unload", type="tertiary", key="model-unload",
            disabled=engine.busy or engine.working > 0 or engine.switching is not None,
            help="Gives its memory back. It is loaded again when somebody needs it.",
        ):  # fmt: skip
            engine.unload()
            st.rerun()


def about(model: LocalModel) -> str:
    """What it is, in one line."""
    parts = [
        _parameters(model.parameters),
        f"{model.layers} layers × {model.heads} heads" if model.layers and model.heads else "",
        f"{model.context:,} tokens" if model.context else "",
        model.architecture,
        f"licence {model.licence}" if model.licence else "licence not told",
    ]
    return " · ".join(part for part in parts if part)


def takes(model: LocalModel, needed: int, room: Room, loaded: bool) -> str:
    """What it takes, in one line."""
    where = KINDS[model.kind]
    size = f"{gigabytes(model.file_bytes)} {'on disk' if model.fetched else 'to fetch'}"
    parts = [where, size if model.file_bytes else ""]
    if loaded:
        parts.append(f"{gigabytes(room.freed)} in memory")
    elif needed:
        parts.append(f"needs about {gigabytes(needed)} of the {gigabytes(room.free + room.freed)} of memory")
    if not model.fetched and model.kind == "hub":
        parts.append("not on this computer yet")
    return " · ".join(part for part in parts if part)


def owned(model: LocalModel, entries: list[Entry], engine: Engine) -> str:
    """Whether there is an estimator for it."""
    found = local_models.estimators_of(model, entries, fingerprint(model, entries, engine))
    if not found:
        return "No estimator yet: average attention is shown until one is learned"
    counts = {kind: sum(entry.kind == kind for entry in found) for kind in KINDS_OF_ESTIMATORS}
    said = [f"{count} {kind}" for kind, count in counts.items() if count]
    return f"Estimator{'s' if len(found) > 1 else ''}: {', '.join(said)}"


def fingerprint(model: LocalModel, entries: list[Entry], engine: Engine) -> str:
    """Of its weights, where that tells something that the name does not, and costs little."""
    if engine.lm is not None and model.name == engine.name:
        return str(engine.lm.fingerprint)
    alike = any(entry.shape == model.shape for entry in entries)
    if (
        model.folder is None
        or model.kind == "gguf"
        or model.problem
        or not alike
        or "torch" not in sys.modules
    ):
        return ""
    return _fingerprint(str(model.folder), model.file_bytes)


@st.cache_data(max_entries=64, show_spinner=False)
def _fingerprint(folder: str, file_bytes: int) -> str:
    from at2_core import models

    return models._fingerprint(Path(folder))


def _parameters(count: int) -> str:
    if not count:
        return ""
    if count >= 1e9:
        return f"{count / 1e9:.1f} billion parameters"
    return f"{count / 1e6:.0f} million parameters" if count >= 1e6 else f"{count:,} parameters"


# ----------------------------------------------------------------------------------------------- one that is named


def _another(entries: list[Entry], room: Room, engine: Engine) -> None:
    """A model that is in no list: looked at first, then loaded."""
    wished = (
        st.text_input(
            "Another model", key=NAMED, placeholder="folder, .gguf file or owner/name", help=NAMED_HELP
        )
        or ""
    )
    wished = wished.strip()
    if not wished:
        return
    try:
        model = local_models.describe_model(wished)
    except ModelNotAvailable as error:
        frame.complain(str(error), "model-named")
        return
    if not model.fetched and model.kind == "hub":
        _of_hub(model, entries, room, engine)
    else:
        _card(model, entries, room, engine)


def _of_hub(model: LocalModel, entries: list[Entry], room: Room, engine: Engine) -> None:
    """The hub is asked only when somebody presses for it."""
    told = st.session_state.setdefault("model-told", {})
    if model.name not in told and st.button(
        "Ask the hub about it", key="model-ask-hub", icon=":material/public:"
    ):
        with st.spinner("Asking the hub…"):
            told[model.name] = _asked(lambda: local_models.ask_hub(model.name))
    answer = told.get(model.name)
    if isinstance(answer, str):
        del told[model.name]  # the next press asks again
        frame.complain(answer, "model-hub")
    elif answer is not None:
        _card(answer, entries, room, engine)
    else:
        with st.container(key="quiet-model-hub"):
            st.text(
                "It is not on this computer. Asking sends its name to the hub; nothing else leaves this computer."
            )


def _asked(ask: Callable[[], LocalModel]) -> LocalModel | str:
    try:
        return ask()
    except ModelNotAvailable as error:
        return str(error)
