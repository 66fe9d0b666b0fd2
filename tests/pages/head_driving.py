"""Driving the Heads page on the exploration of these tests."""

from __future__ import annotations

import base64
import json
from functools import partial

import numpy as np
from streamlit.testing.v1 import AppTest

from pages.ui import head_state
from tests.pages import driving
from tests.pages.driving import payloads, ready

address = partial(driving.address, keys=head_state.KEYS)


def opened(wait: bool = True, **params: str) -> AppTest:
    if wait:
        ready()
    return driving.opened("heads", {"run": "test"}, **params)


def grid(at: AppTest):
    return at.get("plotly_chart")[0]


def drawn(chart) -> np.ndarray:
    """The numbers in the heatmap, (heads, layers)."""
    z = json.loads(chart.proto.spec)["data"][0]["z"]
    if isinstance(z, list):
        return np.array(z)
    shape = [int(n) for n in z["shape"].split(",")]
    return np.frombuffer(base64.b64decode(z["bdata"]), z["dtype"]).reshape(shape)


def matrices(at: AppTest) -> dict[str, np.ndarray]:
    (sent,) = payloads(at, "heads-matrix")
    shape = len(sent["response"]), len(sent["prompt"])
    return {
        h["id"]: np.frombuffer(base64.b64decode(h["weights"]), "<f4").reshape(shape) for h in sent["heads"]
    }


def click(at: AppTest, *points: int) -> AppTest:
    """What the browser sends for a click (or shift-clicks) on the grid; Streamlit has no public way to say it."""
    states = at._tree.get_widget_states()
    widget = states.widgets.add()
    widget.id = grid(at).proto.id
    chosen = [{"point_index": p, "curve_number": 1} for p in points]
    selection = {"points": chosen, "point_indices": list(points), "box": [], "lasso": []}
    widget.string_value = json.dumps({"selection": selection})
    return at._run(states)


def spec(at: AppTest) -> dict:
    return json.loads(grid(at).proto.spec)
