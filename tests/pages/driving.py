"""Driving the app as a browser would: what the tests of several pages do."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from streamlit.testing.v1 import AppTest

import at2_core as at2
from at2_core.runs import RunFolder, Settings
from pages.ui import session

APP = Path(__file__).parents[2] / "app.py"
MARKUP = "<b>x</b> **y** ![i](http://evil.example/i.png) :red[z] $a$"
HOSTILE = "<script>alert(1)</script> *x*"
THETA = np.array([[0.1, -0.3, 0.05, 0.2], [0.0, 0.4, -0.15, 0.25]], np.float32)  # strongest: layer 1, head 1
DOCUMENTS = [
    at2.Document("Foxes", "The quick brown fox jumps. The dog sleeps in the sun. 🦊 It runs."),
    at2.Document(HOSTILE, "Paris is the capital of France. *Berlin* is not."),
]
RESPONSE = "The dog sleeps. Paris is far away."
SMALL = Settings(num_ablations=16, max_new_tokens=8)  # of the run that was trained
METHODS = ("average", "bm25", "random", "context_cite_8")  # of the evaluation that was judged


def until(true: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def copied(folder: Path, home: Path) -> RunFolder:
    """A run of one's own that is like another."""
    return RunFolder(shutil.copytree(folder, home / folder.name))


def ready() -> None:
    """The server's model is loaded."""
    session.engine().start()
    session.engine().wait()


def ran(at: AppTest) -> AppTest:
    assert not at.exception, at.exception
    return at


def opened(page: str, first: Mapping[str, str] | None = None, **params: str) -> AppTest:
    """A page as its address names it. first: the address that the app was opened with."""
    at = AppTest.from_file(str(APP), default_timeout=60)
    for name, value in (first or {}).items():
        at.query_params[name] = value
    at.run()
    for name, value in params.items():
        at.query_params[name] = value
    return ran(at.switch_page(f"pages/{page}.py").run())


def texts(at: AppTest) -> str:
    """What is said as text."""
    return "\n".join(element.value for element in at.text)


def address(at: AppTest, keys: tuple[str, ...]) -> dict[str, str]:
    return {k: v[0] if isinstance(v, list) else v for k, v in at.query_params.items() if k in keys}


def components(at: AppTest, key: str) -> list:
    """Those whose key begins so."""
    return [c for c in at.get("bidi_component") if f"-{key}" in c.proto.id]


def payloads(at: AppTest, key: str) -> list[dict]:
    """What components whose key begins so were sent, parsed as the browser does."""
    return [json.loads(c.proto.json) for c in components(at, key)]


def send(at: AppTest, key: str, **state: Any) -> AppTest:
    """What a component sends when its state changes."""
    (component,) = components(at, key)
    states = at._tree.get_widget_states()
    widget = states.widgets.add()
    widget.id = component.proto.id
    widget.json_value = json.dumps(state)
    return ran(at._run(states))
