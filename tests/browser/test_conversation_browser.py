"""A conversation, and a prompt given whole, in Chromium with the default model: as a person would go about them."""

from __future__ import annotations

import re

import pytest

from tests.browser.test_explore_browser import MINUTES, eventually

CONTEXT = "The library opens at nine. On Sundays it is closed. Books may be kept for four weeks."
TURNS = ["When does the library open?", "And on Sundays?", "How long may I keep a book?"]
HOSTILE = '<img src=x onerror="top.pwned=1">'
PROMPT = f"Read this. 🦊 The dog sleeps in the sun. {HOSTILE} 🐕 The fox runs away. Who sleeps?"


def response(page) -> str:
    page.locator(".response .u").first.wait_for(timeout=MINUTES)
    return page.locator(".response .body").inner_text()


def run_of(page) -> str:
    return re.search(r"run=(\w+)", page.url).group(1)


def follow(page, query: str) -> None:
    before = run_of(page)
    field = page.get_by_placeholder("The documents stay")
    field.fill(query)
    field.press("Enter")
    eventually(page, lambda: run_of(page) != before, "no new run in the address")
    page.locator(".st-key-shown", has_text=query).wait_for(timeout=MINUTES)
    page.locator(".st-key-follow-link").wait_for(timeout=MINUTES)


def test_three_turns_each_with_an_attribution_of_its_own(visit):
    seen = visit("?run=new")
    page = seen.page
    page.get_by_label("Query").fill(TURNS[0])
    page.get_by_label("Context", exact=True).last.fill(CONTEXT)
    page.get_by_role("button", name="Generate").click()
    page.locator(".st-key-follow-link").wait_for(timeout=MINUTES)
    runs, said = [run_of(page)], [response(page)]
    for query in TURNS[1:]:
        follow(page, query)
        runs.append(run_of(page))
        said.append(response(page))
    assert len(set(runs)) == 3
    for number, (query, answer) in enumerate(zip(TURNS[:2], said[:2], strict=True), 1):
        line = page.locator(f".st-key-turn-{number}")
        assert query in line.inner_text()
        assert answer.split("[")[0].strip()[:20] in line.inner_text()
    assert page.locator(".turn.history").count() == 4
    page.reload()
    assert response(page) == said[2]
    page.get_by_role("button", name="Turn 1").click()
    eventually(page, lambda: run_of(page) == runs[0], "the line does not lead to the first turn")
    eventually(page, lambda: response(page) == said[0], "the first turn's response is not shown")
    page.go_back()
    eventually(page, lambda: response(page) == said[2], "the way back does not lead to the third turn")
    assert not seen.errors
    assert not seen.strangers()


@pytest.fixture
def marking(visit):
    seen = visit("?run=new")
    page = seen.page
    page.get_by_text("A whole prompt").click()
    page.get_by_label("Whole prompt").fill(PROMPT)
    page.get_by_label("Whole prompt").press("Control+Enter")
    page.locator(".marked-text").wait_for()
    yield seen
    assert not seen.errors
    assert page.evaluate("top.pwned") is None


def drag(page, text: str) -> None:
    """Select the text with the mouse."""
    x1, y1, x2, y2 = page.evaluate(
        """(text) => {
          const walk = document.createTreeWalker(document.querySelector(".marked-text"), NodeFilter.SHOW_TEXT);
          for (let node = walk.nextNode(); node; node = walk.nextNode()) {
            const at = node.data.indexOf(text), range = document.createRange();
            if (at < 0) continue;
            range.setStart(node, at); range.setEnd(node, at + text.length);
            const rects = [...range.getClientRects()], a = rects[0], z = rects.at(-1);
            return [a.left + 1, a.top + a.height / 2, z.right - 1, z.top + z.height / 2];
          }
        }""",
        text,
    )
    page.mouse.move(x1, y1)
    page.mouse.down()
    page.mouse.move(x2, y2, steps=4)
    page.mouse.up()


def marked(page) -> list[str]:
    return page.locator("mark").all_inner_texts()


def test_parts_are_marked_with_the_mouse_and_become_the_sources(marking):
    page = marking.page
    drag(page, "The dog sleeps in the sun.")
    eventually(page, lambda: len(marked(page)) == 1, "nothing was marked")
    drag(page, HOSTILE)
    drag(page, "The fox runs away.")
    wished = ["The dog sleeps in the sun.", HOSTILE, "The fox runs away."]
    eventually(page, lambda: marked(page) == wished, "the marks are not what was selected")
    page.locator("mark").nth(1).click()
    eventually(page, lambda: marked(page) == wished[::2], "the click did not remove the mark")
    page.get_by_text("Use my own response").click()
    page.get_by_label("My response").fill("The dog sleeps.")
    page.get_by_role("button", name="Attribute").click()
    page.locator(".response .u").first.wait_for(timeout=MINUTES)
    bodies = page.locator(".doc .body").all_inner_texts()
    assert [re.sub(r"^\[\d\]", "", text).strip() for text in bodies] == wished[::2]
    assert page.locator(".doc > header").all_inner_texts() == ["Source 1", "Source 2"]
    page.reload()
    page.locator(".response .u").first.wait_for(timeout=MINUTES)
    page.get_by_text("change it and ask again").click()
    eventually(page, lambda: marked(page) == wished[::2], "the marks did not come back")


def test_parts_are_marked_by_keyboard_and_taken_back(marking):
    page = marking.page
    page.locator(".marked-text").focus()
    page.keyboard.press("Control+Home")
    page.keyboard.press("Control+Shift+ArrowRight")
    page.keyboard.press("Control+Shift+ArrowRight")
    page.keyboard.press("Enter")
    eventually(page, lambda: len(marked(page)) == 1, "Enter did not mark")
    assert PROMPT.startswith(marked(page)[0])
    page.keyboard.type("cr")  # these letters are shortcuts of the page elsewhere
    assert page.locator(".marked-text").inner_text() == PROMPT
    page.keyboard.press("Backspace")
    eventually(page, lambda: not marked(page), "Backspace did not remove the mark")
    page.get_by_role("button", name="Undo").click()
    eventually(page, lambda: len(marked(page)) == 1, "the mark did not come back")
    page.get_by_role("button", name="Clear all").click()
    eventually(page, lambda: not marked(page), "the marks were not cleared")
    assert "Nothing is marked" in page.locator(".at2-mark-sources .count").inner_text()
