"""What is attributed to, and thoughts beside their answer, in Chromium with the default model."""

from __future__ import annotations

import json

import pytest

from tests.browser.own_text import fill_in
from tests.browser.test_explore_browser import MINUTES, address, drawn, eventually, switch

EVERYTHING, PROMPT = "Prompt and earlier response", "Whole prompt"
TEXT = (
    "The lighthouse at Varn Point was built in 1871. Its first keeper was Agnes Thorne, a former schoolteacher. "
    "She kept the lamp for twenty-six years. Today the tower is a museum."
)
QUERY = "Who was the first keeper, and what was her profession before?"
THOUGHT = "The question asks for the first keeper. The text says that Agnes Thorne was the first. She was a schoolteacher."
RESPONSE = f"<think>\n{THOUGHT}\n</think>\n\nThe first keeper was Agnes Thorne. She had been a schoolteacher."

COLOURED = """(where) => [...document.querySelectorAll('*')]
  .flatMap((e) => [...(e.shadowRoot?.querySelectorAll(where + ' .scores path') ?? [])])
  .filter((p) => p.style.fillOpacity > 0 && getComputedStyle(p).visibility === 'visible').length"""
ANSWER, THINKING = ".response:not(.thought)", ".response.thought"


def coloured(page, pane: str) -> int:
    """How many sources or targets of a pane show a colour."""
    return page.evaluate(COLOURED, pane)


def names(page) -> list[str]:
    return page.locator(".rows li:not([hidden]) .name").all_inner_texts()


def sentences(page, pane: str):
    return page.locator(f"{pane} .sentence:not(.marker)")


@pytest.fixture
def thinking(visit):
    """A given response with a thought, drawn."""
    seen = visit("?run=new")
    page = seen.page
    fill_in(page, title="Varn Point", text=TEXT, query=QUERY, response=RESPONSE)
    page.get_by_role("button", name="Attribute", exact=True).click()
    sentences(page, THINKING).first.wait_for(timeout=MINUTES)
    return seen


def test_the_whole_prompt_and_what_came_before_can_be_attributed_to(visit):
    seen = drawn(visit("?example=lighthouse"))
    page = seen.page
    eventually(
        page,
        lambda: names(page) and "Query" not in names(page),
        "the context alone has no rank for the query",
    )
    switch(page, "Attribute to", PROMPT)
    eventually(page, lambda: "Query" in names(page), "the query is no source of the whole prompt")
    eventually(page, lambda: "scope=prompt" in address(page), "the scope is not in the address")
    assert coloured(page, ".response") == 0
    switch(page, "Attribute to", EVERYTHING)
    sentences(page, ".response").nth(1).locator(".u").nth(1).click()
    page.mouse.move(5, 5)
    eventually(page, lambda: "Response · sentence 1" in names(page), "the earlier sentence is no source", 120)
    eventually(page, lambda: coloured(page, ".response") == 1, "the earlier sentence has no colour")
    page.reload()
    drawn(seen)
    eventually(page, lambda: "Response · sentence 1" in names(page), "a reload forgot the scope", 60)
    page.keyboard.press("Escape")
    assert not seen.errors
    assert not seen.strangers()


def test_an_answer_beside_its_thought(thinking):
    page = thinking.page
    boxes = [page.locator(f".text{pane}").bounding_box() for pane in (".prompt", THINKING, ANSWER)]
    assert boxes[0]["x"] < boxes[1]["x"] < boxes[2]["x"]
    assert sentences(page, THINKING).count() == 3
    assert sentences(page, ANSWER).count() == 2
    assert "<think>" not in page.locator(THINKING).inner_text()
    switch(page, "Attribute to", EVERYTHING)
    sentences(page, ANSWER).nth(1).locator(".u").nth(1).hover()
    eventually(page, lambda: coloured(page, THINKING) > 0, "the thought has no colours")
    eventually(page, lambda: coloured(page, ANSWER) == 1, "the answer's first sentence has no colour")
    sentences(page, THINKING).nth(1).locator(".u").nth(2).hover()  # what it came from, and where it was used
    eventually(
        page, lambda: coloured(page, ANSWER) == 2, "the answer does not show where the thought was used"
    )
    eventually(
        page, lambda: coloured(page, ".prompt") > 1, "the prompt does not show where the thought came from"
    )
    switch(page, "Attribute to", "Thought")
    eventually(page, lambda: coloured(page, ".prompt") == 0, "the prompt is no source of this scope")
    eventually(page, lambda: "scope=thought" in address(page), "the scope is not in the address")
    page.reload()
    sentences(page, THINKING).first.wait_for(timeout=MINUTES)
    eventually(
        page,
        lambda: names(page) and all(n.startswith("Thought · ") for n in names(page)),
        "a reload forgot",
        60,
    )
    assert not thinking.errors


def test_the_numbers_are_those_of_the_file(thinking):
    page = thinking.page
    switch(page, "Attribute to", EVERYTHING)
    sentences(page, ANSWER).nth(1).locator(".u").nth(1).click()
    page.mouse.move(5, 5)
    eventually(page, lambda: "pin=" in address(page), "the pin is not in the address")
    page.wait_for_timeout(500)
    shown = [
        (row.locator(".text").inner_text(), float(row.locator(".raw").inner_text().replace("e−", "e-")))
        for row in page.locator(".rows li:not([hidden])").all()
    ]
    page.get_by_role("button", name="Save").click()
    with page.expect_download(timeout=MINUTES) as download:
        page.get_by_role("button", name="Everything (JSON)").click()
    whole = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert whole["scope"] == "all"
    stored = sorted(
        (
            (value, s["text"].strip())
            for value, s in zip(whole["target_scores"], whole["sources"], strict=True)
            if value > 0
        ),
        reverse=True,
    )
    assert len(shown) == min(10, len(stored))
    for (text, raw), (value, source) in zip(shown, stored, strict=False):
        assert raw == pytest.approx(value, rel=6e-3)
        assert text[:20] == source[:20]


def test_the_panel_of_thoughts_says_what_it_is_for_and_nothing_lies_on_the_response(visit):
    page = drawn(visit("?example=lighthouse")).page
    page.get_by_role("button", name="Thoughts").click()
    said = page.get_by_text("What a response says between two markers")
    said.wait_for()
    page.wait_for_timeout(1000)  # a tooltip comes late
    assert not page.get_by_role("tooltip").count()
    panel = page.get_by_test_id("stPopoverBody").bounding_box()
    assert panel["width"] < 420
    assert panel["x"] <= said.bounding_box()["x"] < panel["x"] + panel["width"]


TWICE = "<think>The first keeper?</think>It was Agnes Thorne.<think>And before?</think>She had been a schoolteacher."
# Words that can be seen, and not only a part of them.
LEGENDS = """() => [...document.querySelectorAll('*')]
  .flatMap((e) => [...(e.shadowRoot?.querySelectorAll('.legend .words') ?? [])])
  .filter((w) => {
    const [own, around] = [w, w.closest('.legend')].map((e) => e.getBoundingClientRect());
    return own.width && own.top < around.bottom - 1 && w.scrollWidth <= w.clientWidth + 1;
  }).map((w) => w.textContent)"""


def test_all_answers_are_attributed_and_each_legend_has_words(visit):
    seen = visit("?run=new")
    page = seen.page
    fill_in(page, title="Varn Point", text=TEXT, query=QUERY, response=TWICE)
    page.get_by_role("button", name="Attribute", exact=True).click()
    sentences(page, ANSWER).nth(1).wait_for(timeout=MINUTES)
    page.mouse.move(5, 5)
    eventually(
        page,
        lambda: page.locator(".ranked .for").inner_text() == "for the whole answer",
        "the list is of something else",
    )
    assert page.evaluate(LEGENDS) == ["stronger blue = more came from here"]
    body = page.locator(f"{ANSWER} .body").first
    before = body.bounding_box()
    page.locator(".prompt .doc .body .u").nth(3).hover()
    eventually(page, lambda: len(page.evaluate(LEGENDS)) == 2, "the answer's legend has no words")
    assert body.bounding_box() == before, "the legend moved the answer"
    switch(page, "Scores", "Signed")
    eventually(
        page, lambda: page.evaluate(LEGENDS) == ["blue = relied on, red = against"], "red has no words"
    )
    assert not seen.errors
