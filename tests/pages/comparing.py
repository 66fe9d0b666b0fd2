"""Driving the Compare page on the exploration of these tests."""

from __future__ import annotations

import base64
from functools import partial

import numpy as np
from streamlit.testing.v1 import AppTest

from pages.ui import compare_state
from pages.ui.compare_board import board
from tests.pages import driving
from tests.pages.driving import payloads, ran, ready, send, until

address = partial(driving.address, keys=compare_state.KEYS)


def opened(**params: str) -> AppTest:
    ready()
    return settled(driving.opened("compare", {"run": "test"}, **params))


def settle() -> None:
    until(lambda: not any(job.active for job in board()._jobs.values()))


def settled(at: AppTest) -> AppTest:
    """What the page shows once nothing runs any more."""
    settle()
    return ran(at.run())


def sent(at: AppTest) -> dict:
    (payload,) = payloads(at, "compare-")
    return payload


def scores(at: AppTest, exploration) -> dict[str, np.ndarray | None]:
    """The matrices in the browser, by method."""
    payload, rows = sent(at), len(exploration.response_ids)
    return {
        c["key"]: None
        if c["scores"] is None
        else np.frombuffer(base64.b64decode(c["scores"]), "<f4").reshape(rows, len(payload["sources"]))
        for c in payload["columns"]
    }


def choose(at: AppTest, **view) -> AppTest:
    """What the component sends when something is chosen in it."""
    return send(at, "compare-", view={"pin": None, "unit": "sentence", "difference": None, **view})


def tables(at: AppTest) -> list:
    return [frame.value for frame in at.dataframe]
