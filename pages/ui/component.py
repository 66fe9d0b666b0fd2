"""What our components share: their files, numbers and places as a browser reads them, and what it sends back."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

ASSETS = Path(__file__).resolve().parents[2] / "assets"
MOST_MOUNTS = 24  # whose beginnings a session keeps
Span = tuple[int, int]


def asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def script(*ideas: str) -> str:
    """A component's script is one module and cannot import a neighbour; several files keep its ideas apart all the same."""
    return "\n".join(asset(f"{idea}.js") for idea in ideas)


def floats(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()


def ints(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array, "<i4").tobytes()).decode()


def mark(array: np.ndarray) -> str:
    """12 digits that change with any number of it."""
    raw = np.ascontiguousarray(array, "<f4").tobytes()
    return hashlib.sha1(raw, usedforsecurity=False).hexdigest()[:12]


def utf16(text: str) -> np.ndarray:
    """Position of every character (and of the end) as JavaScript counts: outside the basic plane one counts two."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    return np.concatenate([[0], np.cumsum(1 + (codes > 0xFFFF))])


def span_within(sent: Any, count: int) -> Span | None:
    """First and last of `count` things, both inclusive, as a browser sent them; None for what is no such span."""
    if not isinstance(sent, (list, tuple)) or len(sent) != 2 or not all(type(v) is int for v in sent):
        return None
    return (sent[0], sent[1]) if 0 <= sent[0] <= sent[1] < count else None


def beginning(key: str, name: str, wished: dict[str, Any]) -> dict[str, Any]:
    """The state that the mount called so began with. It must not change while it is mounted, or everything would be sent again.

    key: of the session, for the mounts of this component.
    """
    began = st.session_state.setdefault(key, {})
    if name not in began or name not in st.session_state:
        began.pop(name, None)
        began[name] = wished
        while len(began) > MOST_MOUNTS:
            del began[next(iter(began))]
    return began[name]
