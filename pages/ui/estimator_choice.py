"""Which estimator Explore and Heads use in this browser session, where it is another one than the model's usual one.

`use_estimator(path)`  choose a file
`choice()`             what is chosen now, and what was used before it
`usual()`              what is used where nothing is chosen

The address names it by its fingerprint (?estimator=...), so a link or a reload finds it again: in the catalogue, or among
the files that were lately chosen on this server. Going to another page drops the address; the session remembers.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from at2_core.card import plain
from at2_core.catalogue import list_estimators
from at2_core.errors import At2Error
from at2_core.estimator import Estimator, check_estimator, load_estimator
from pages.ui import session

PARAM = "estimator"
CHOSEN, FORMER = "estimator-chosen", "estimator-former"  # fingerprints, in the session
MOST_RECENT = 256


@dataclass(frozen=True)
class Choice:
    """chosen: in place of the usual one, or None. former: what it can be compared with. problem: why what was asked for
    is not used, as a sentence."""

    chosen: Estimator | None = None
    former: Estimator | None = None
    problem: str = ""


def use_estimator(path: Path) -> None:
    """Make the estimator in this file the one that Explore and Heads use from here on, and remember the former one.

    Raises EstimatorFileError, and EstimatorMismatch where it does not fit the loaded model; then nothing changes.
    """
    estimator, lm = load_estimator(path), session.engine().lm
    if lm is not None:
        check_estimator(estimator, lm)
    _remember(estimator.fingerprint, path)
    before = st.session_state.get(CHOSEN, "")
    if before != estimator.fingerprint:
        st.session_state[CHOSEN], st.session_state[FORMER] = estimator.fingerprint, before
    if PARAM in st.query_params:
        del st.query_params[PARAM]  # it names the former one


def forget(fingerprint: str) -> None:
    """Its file is gone: what was usual is used again."""
    for key in (CHOSEN, FORMER):
        if st.session_state.get(key) == fingerprint:
            st.session_state[key] = ""
    if st.query_params.get(PARAM) == fingerprint:
        del st.query_params[PARAM]


def choice() -> Choice:
    """What the address asks for, else what the session chose; the address is made to say it."""
    asked = st.query_params.get(PARAM) or st.session_state.get(CHOSEN, "")
    standard = usual()
    if not asked or (standard is not None and asked == standard.fingerprint):
        st.session_state[CHOSEN] = asked
        if PARAM in st.query_params:
            del st.query_params[PARAM]
        return Choice()
    estimator = _find(asked)
    if estimator is None:
        return Choice(problem=f"There is no estimator {plain(asked, 40)!r} on this server (any more).")
    lm = session.engine().lm
    try:
        if lm is not None:
            check_estimator(estimator, lm)
    except At2Error as error:
        # What this window chose for another model waits for that one to come back; what a link names is explained.
        return Choice(problem=str(error) if PARAM in st.query_params else "")
    st.session_state[CHOSEN] = asked
    if st.query_params.get(PARAM) != asked:
        st.query_params[PARAM] = asked
    former = _find(st.session_state.get(FORMER, "")) or standard
    if former is not None and (former.fingerprint == asked or former.theta.shape != estimator.theta.shape):
        former = standard
    return Choice(estimator, former)


def usual() -> Estimator | None:
    """The estimator of the server's model; before the model is there, what its file says."""
    engine = session.engine()
    if engine.lm is not None:
        return engine.estimator
    try:
        return load_estimator(
            session.ESTIMATOR if session.ESTIMATOR and engine.name == session.MODEL else engine.name
        )
    except At2Error:
        return None


def _find(fingerprint: str) -> Estimator | None:
    if not re.fullmatch(r"[0-9a-f]{12}", fingerprint):
        return None
    lately = _recent().get(fingerprint)
    if lately is not None:
        try:
            estimator = load_estimator(lately)
        except At2Error:  # removed, or overwritten
            estimator = None
        if estimator is not None and estimator.fingerprint == fingerprint:
            return estimator
    for entry in list_estimators():
        if entry.fingerprint == fingerprint:
            _remember(fingerprint, entry.path)
            return entry.estimator
    return None


@st.cache_resource(show_spinner=False)
def _recent() -> OrderedDict[str, Path]:
    """The server's lately chosen files by fingerprint: a training run's are in no catalogue."""
    return OrderedDict()


def _remember(fingerprint: str, path: Path) -> None:
    recent = _recent()
    recent[fingerprint] = path
    while len(recent) > MOST_RECENT:
        recent.popitem(last=False)
