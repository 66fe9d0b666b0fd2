"""What a source of examples holds, read once for as long as it does not change."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import streamlit as st

from at2_core import data, formats
from at2_core.data import Examples
from at2_core.errors import At2Error, DataError
from pages.ui.train_draft import ROLES

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """What a source holds. names: its columns, as far as they are known; columns: what was asked of them."""

    source: str
    stamp: tuple
    title: str
    names: tuple[str, ...] = ()
    guess: Mapping[str, str] | None = None  # None where the columns cannot be guessed
    examples: Examples | None = None
    columns: Mapping[str, str] | None = None
    complaint: str = ""


def look(source: str, roles: tuple[str, ...] = ROLES) -> Found:
    """The source's columns and what they are taken for. roles: those that a page offers."""
    hub = source.startswith(formats.HUB)
    path = Path(source)
    found = Found(source, _stamp(source), source.removeprefix(formats.HUB) if hub else path.name)
    try:
        names = () if hub or path.is_dir() else _names(source, found.stamp)
        found = replace(found, names=names)
        read = read_as(source, found.stamp, ())
    except DataError as error:
        return replace(found, complaint=short(str(error), found))
    guess = {role: name for role in roles if (name := getattr(read.columns, role))}
    return replace(
        found, names=read.names or names, guess=guess if names or hub else None, examples=read, columns={}
    )


def _stamp(source: str) -> tuple:
    """Changes when the content does: size and time of every file there is to read."""
    path = Path(source)
    if source.startswith(formats.HUB):
        return ()
    try:
        files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
        # The last one also tells a file that may be read by now, for what was wrong is kept like what was found.
        return tuple((f.name, f.stat().st_size, f.stat().st_mtime_ns, f.stat().st_ctime_ns) for f in files)
    except OSError:
        return ()


def read_as(source: str, stamp: tuple, columns: tuple[tuple[str, str], ...]) -> Examples:
    read = _read(source, stamp, columns)
    if isinstance(read, str):
        raise DataError(read)
    return read


@st.cache_resource(max_entries=6, show_spinner=False)
def _read(source: str, stamp: tuple, columns: tuple[tuple[str, str], ...]) -> Examples | str:
    """The examples, or why there are none: an exception would not be kept, and all be read again on each click."""
    try:
        return data.read_data(source, dict(columns))
    except At2Error as error:
        reason = str(error)
    except Exception as error:  # the readers are other people's, and raise what they like
        log.exception("reading %s failed", source)
        reason = f"{source} cannot be read ({type(error).__name__}: {error})."
    if source.startswith(formats.HUB) and not of_columns(reason):  # the hub may answer the next time
        raise DataError(reason)
    return reason


def of_columns(complaint: str) -> bool:
    """Whether it speaks of the columns alone: the rest could be read."""
    return "has no column" in complaint


@st.cache_resource(max_entries=6, show_spinner=False)
def _names(source: str, stamp: tuple) -> tuple[str, ...]:
    """The columns, of the first rows; none where the reading itself will say what is wrong."""
    reader = formats.READERS.get(Path(source).suffix.lower())
    try:
        rows = reader(Path(source))[:100] if reader else []
    except Exception:
        return ()
    return tuple(dict.fromkeys(str(name) for _, row in rows if isinstance(row, Mapping) for name in row))


def likely(names: tuple[str, ...]) -> dict[str, str]:
    """What columns are taken for where not all that is needed was found."""
    found = {role: next((k for k in known if k in names), "") for role, known in data.KNOWN.items()}
    return {role: name for role, name in found.items() if name}


def short(sentence: str, found: Found) -> str:
    return sentence.replace(found.source, found.title)
