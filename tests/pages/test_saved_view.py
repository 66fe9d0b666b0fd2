"""A saved view is the view itself, and nothing in it can be taken for anything but text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tomllib
from dataclasses import asdict, replace
from datetime import date
from html.parser import HTMLParser

import numpy as np
import pytest

from at2_core import exploration as explorations
from pages.ui.component import ASSETS
from pages.ui.saved_view import as_data, saved_view, theme
from pages.ui.token_heatmap import ViewState
from tests.pages.driving import HOSTILE, opened, payloads, ran

ENDS = "</script><!--<script> &lt;/script&gt; ]]> \u2028\u2029 $script ${policy} \ud800"
DAY = date(2026, 2, 3)


class Elements(HTMLParser):
    """The elements of a page: (name, attributes, text), as a browser cuts them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.comments, self.inside = 0, False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))
        self.inside = True

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.found[-1][2].append(data)

    def handle_comment(self, data):
        self.comments += 1

    def all(self, name: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, "".join(text)) for tag, attributes, text in self.found if tag == name]


@pytest.fixture(scope="module")
def example():
    loaded = explorations.load_example("mill")
    count = len(loaded.response_ids)
    own = np.tril(np.random.default_rng(0).normal(size=(count, count)), -1).astype(np.float32)
    return replace(loaded, own_scores={"at2": own})


def page_of(example, view: ViewState | None = None, **asked) -> str:
    asked = {"method": "at2", "name": "AT2", "own": example.own_scores.get("at2"), "day": DAY} | asked
    return saved_view(example, example.scores["at2"], view or ViewState(), **asked)


def saved_in(page: str) -> dict:
    (data,) = [text for about, text in Elements(page).all("script") if about["type"] == "application/json"]
    return json.loads(data)


def matrix(text: str, columns: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, columns)


def test_it_holds_the_very_scores_and_what_was_chosen(example):
    view = ViewState(pin=(2, 5), source=(40, 44), scope="prompt", granularity="word", unit="token", signed=True,
                     intensity=1.7, threshold=0.2, template=True)  # fmt: skip
    data = saved_in(page_of(example, view))["data"]
    assert np.array_equal(matrix(data["scores"], example.prompt.n), example.scores["at2"])
    assert np.array_equal(matrix(data["own"], len(example.response_ids)), example.own_scores["at2"])
    assert (data["prompt"], data["response"]) == (example.prompt.text, example.text)
    assert data["initial"] == json.loads(json.dumps(asdict(view)))
    assert (data["measure"], data["compact"]) == ("attribution", False)


def test_it_is_what_the_page_draws(folders):
    at = ran(opened("explore", example="mill", pin="2-5", granularity="word"))
    (drawn,) = payloads(at, "explore-")
    view = ViewState(pin=(2, 5), granularity="word")
    saved = saved_in(page_of(explorations.load_example("mill"), view))
    assert saved["data"] == drawn | {"sealed": True}


def test_it_says_what_it_is(example):
    about = saved_in(page_of(example))["about"]
    assert about["title"] == example.title
    assert dict(about["facts"]) == {
        "Model": example.model,
        "Method": "AT2",
        "Estimator": example.estimator,
        "Saved from AT2 Explorer": "3 February 2026",
    }
    untitled = saved_in(page_of(replace(example, title="")))["about"]
    assert untitled["title"] == example.task.query


def test_one_head_has_no_estimator_and_other_words(example):
    saved = saved_in(page_of(example, method="head", name="One head", head=(7, 3), own=None))
    facts = dict(saved["about"]["facts"])
    assert facts["Method"] == "One head: layer 7, head 3"
    assert "Estimator" not in facts
    assert "attention" in saved["about"]["reading"]
    assert (saved["data"]["measure"], saved["data"]["own"]) == ("attention", "")


def test_no_text_ends_its_element(example):
    usual = Elements(page_of(example))
    names = {"title": ENDS, "model": ENDS, "estimator": ENDS + HOSTILE, "text": ENDS + example.text}
    documents = tuple(replace(d, title=ENDS) for d in example.task.documents)
    hostile = replace(example, **names, task=replace(example.task, documents=documents))
    page = page_of(hostile, name=ENDS)
    elements = Elements(page)
    assert [tag for tag, _, _ in elements.found] == [tag for tag, _, _ in usual.found]
    assert elements.comments == 0
    saved = saved_in(page)
    assert saved["data"]["response"] == ENDS + example.text
    assert saved["data"]["titles"] == [ENDS] * len(documents)
    assert dict(saved["about"]["facts"])["Method"] == ENDS
    page.encode()  # half a character is no UTF-8, so it may not stand there as such
    (data,) = [text for a, text in elements.all("script") if a["type"] == "application/json"]
    assert not re.search("[<>&\u2028\u2029]", data)


def test_data_comes_back_as_it_was():
    value = {ENDS: [ENDS, 1.5, None, "🦊 \x00\r\n"]}
    assert json.loads(as_data(value)) == value


def test_its_policy_allows_its_own_script_and_style_and_nothing_else(example):
    elements = Elements(page_of(example))
    ((policy, _),) = [(a, t) for a, t in elements.all("meta") if "http-equiv" in a]
    said = dict(part.strip().split(" ", 1) for part in policy["content"].split(";"))
    ((_, style),) = elements.all("style")
    (script,) = [text for about, text in elements.all("script") if about["type"] == "module"]
    for name, text in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert said.pop(name) == f"'sha256-{digest}'"
    assert said == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}
    order = [tag for tag, _, _ in elements.found]
    assert order.index("meta") < order.index("style") < order.index("script")


def test_it_names_no_address_and_brings_the_components_own_files(example):
    page = page_of(example)
    assert not re.search(r"<(link|img|iframe|a|base)\b|url\(|@import|\bimport\b\s*[({\"']", page)
    addresses = set(re.findall(r"\w+://[^\s\"'`]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # the name of a vocabulary
    for name in ("token_heatmap.js", "token_heatmap_paint.js", "token_heatmap.css", "saved_view.js"):
        assert (ASSETS / name).read_text(encoding="utf-8") in page


def test_the_colours_are_the_apps():
    told = tomllib.loads((ASSETS.parent / ".streamlit/config.toml").read_text(encoding="utf-8"))["theme"]
    light, dark = theme().split("@media (prefers-color-scheme: dark)")
    used = set(re.findall(r"var\(--st-([a-z-]+-color)\b", page_styles()))
    assert len(used) >= 8
    for part, mode in ((light, "light"), (dark, "dark")):
        given = dict(re.findall(r"--st-([a-z-]+):([^;]+);", part))
        assert used <= given.keys()
        assert given["blue-text-color"] == told[mode]["blueTextColor"]


def page_styles() -> str:
    return "".join(
        path.read_text(encoding="utf-8") for path in (ASSETS / "token_heatmap.css", ASSETS / "saved_view.css")
    )


def test_it_is_offered_beside_the_other_files(folders):
    at = ran(opened("explore"))
    labels = [button.proto.label for button in at.get("download_button")]
    assert labels[:3] == ["This view (HTML)", "Ranked sources (CSV)", "Everything (JSON)"]
