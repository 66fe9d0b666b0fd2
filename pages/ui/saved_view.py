"""What the Explore page shows, as one HTML file that opens offline and is as alive as the page: the component's own script
and style, the data it was sent, and a small host in place of Streamlit.

Texts and names are data in it: JSON that cannot end its element, and never markup. Its own policy forbids every request,
and every script and style but these, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tomllib
from dataclasses import asdict
from datetime import date
from string import Template
from typing import Any

import numpy as np

from at2_core.exploration import Exploration
from pages.ui.component import ASSETS, asset
from pages.ui.export import Head, origin
from pages.ui.token_heatmap import SCRIPT, ViewState, measure_of, payload

ESTIMATED = (
    "The deeper the blue of a source, the more the model used it for the response, by this method’s estimate and whether or "
    "not it is true; red, under Signed, counts against it."
)
ATTENDED = (
    "The deeper the blue of a source, the more of this head’s attention went to it from the response, whether or not the "
    "response depended on it."
)


def saved_view(
    exploration: Exploration,
    scores: np.ndarray,
    view: ViewState,
    method: str,
    name: str,
    head: Head | None = None,
    own: np.ndarray | None = None,
    day: date | None = None,
) -> str:
    """The HTML of a file that begins as the view is: scores float32 (T, n), own (T, T) or None, and what was chosen.

    name: what the method is called. day: when it was saved, today by default.
    """
    saved = {
        "about": _about(exploration, view, method, name, head, day or date.today()),
        # Sealed: a scope whose scores were not read cannot wait for them here.
        "data": payload(exploration, scores, own, asdict(view), measure=measure_of(method))
        | {"sealed": True},
    }
    style = theme() + asset("token_heatmap.css") + asset("saved_view.css")
    script = f"{SCRIPT}\n{asset('saved_view.js')}"
    parts = {"policy": _policy(style, script), "style": style, "script": script, "saved": as_data(saved)}
    return Template(asset("saved_view.html")).substitute(parts)


def _about(
    exploration: Exploration, view: ViewState, method: str, name: str, head: Head | None, day: date
) -> dict[str, Any]:
    """What stands above the texts. Somebody's own text has no title; then its query is one."""
    estimator = origin(exploration, view, method, head)["estimator"]
    facts = [
        ("Model", exploration.model),
        ("Method", f"{name}: layer {head[0]}, head {head[1]}" if head else name),
        ("Estimator", estimator),
        ("Saved from AT2 Explorer", f"{day.day} {day:%B %Y}"),
    ]
    return {
        "title": exploration.title or exploration.task.query or "A response and its sources",
        "reading": ATTENDED if head else ESTIMATED,
        "facts": [fact for fact in facts if fact[1]],
    }


def as_data(value: Any) -> str:
    """JSON without a character that means anything to HTML: it can stand in a script element and not end it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))  # all but ASCII is escaped
    return re.sub("[<>&]", lambda sign: f"\\u{ord(sign.group()):04x}", text)


def theme() -> str:
    """CSS: the app's theme as the variables in which Streamlit hands it to a component, light and dark."""
    told = tomllib.loads((ASSETS.parent / ".streamlit" / "config.toml").read_text(encoding="utf-8"))["theme"]
    always = {name: value for name, value in told.items() if name.endswith("Radius")}
    light, dark = _variables(always | told["light"]), _variables(told["dark"])
    return f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"


def _variables(values: dict[str, Any]) -> str:
    named = {re.sub("[A-Z]", lambda c: f"-{c.group().lower()}", name): v for name, v in values.items()}
    return "".join(f"--st-{name}:{value};" for name, value in named.items() if isinstance(value, str))


def _policy(style: str, script: str) -> str:
    """The Content-Security-Policy under which nothing is loaded and nothing runs but these two."""
    return (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
