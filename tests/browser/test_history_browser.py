"""Back and Forward in Chromium: every page shows what its address says."""

from __future__ import annotations

import re

import pytest

MINUTES = 240_000  # ms: loading the model on a busy machine


@pytest.fixture
def example(visit):
    """`example("compare")` opens a page on an example, drawn."""

    def opened(path: str, drawn: str):
        seen = visit(f"{path}?example=bees")
        seen.page.locator(drawn).first.wait_for(state="attached", timeout=MINUTES)
        return seen

    return opened


def address_has(page, *said: str) -> None:
    """Waits for an address with these choices behind the example, and no others."""
    page.wait_for_url(re.compile(r"\?example=bees" + "".join(f"&{choice}" for choice in said) + "$"))


def choose(page, group: str, name: str) -> None:
    page.get_by_role("radiogroup", name=group).get_by_role("radio", name=name, exact=True).click()


def is_chosen(page, group: str, name: str) -> None:
    """Waits until it is."""
    page.get_by_role("radiogroup", name=group).get_by_role(
        "radio", name=name, exact=True, checked=True
    ).wait_for()


def is_pinned(page, pinned: bool) -> None:
    page.get_by_role("button", name="Clear pin", disabled=not pinned).wait_for()


@pytest.mark.parametrize(
    ("path", "drawn", "group", "first", "then", "told"),
    [
        ("", ".at2 .response .u", "Method", "AT2", "Average attention", "method=average"),
        (
            "compare",
            ".at2.compare .method .heat .scores path",
            "Sources",
            "Sentence",
            "Paragraph",
            "granularity=paragraph",
        ),
    ],
)
def test_choices_and_pins_follow_back_and_forward(example, path, drawn, group, first, then, told):
    seen = example(path, drawn)
    page = seen.page
    choose(page, group, then)
    address_has(page, told)
    page.locator(".response .u").nth(2).click()
    address_has(page, told, r"pin=\d+-\d+")
    page.go_back()
    is_pinned(page, False)
    is_chosen(page, group, then)
    page.go_back()
    is_chosen(page, group, first)
    address_has(page)
    page.go_forward()
    is_chosen(page, group, then)
    page.go_forward()
    is_pinned(page, True)
    is_chosen(page, group, then)
    address_has(page, told, r"pin=\d+-\d+")
    assert not seen.errors


def test_heads_follows_back_and_forward_to_another_page_too(example):
    seen = example("heads", ".js-plotly-plot")
    page = seen.page
    first = page.get_by_role("heading", name=re.compile("Layer"))
    first.wait_for(timeout=MINUTES)
    strongest = first.inner_text()
    page.locator(".js-plotly-plot .nsewdrag").first.click(position={"x": 300, "y": 150})
    address_has(page, r"layer=\d+", r"head=\d+")
    page.get_by_role("heading").filter(has_text="Layer").filter(has_not_text=strongest).wait_for()
    page.get_by_role("link", name="Compare").click()
    page.locator(".at2.compare .method .heat .scores path").first.wait_for(state="attached", timeout=MINUTES)
    address_has(page)
    page.go_back()  # Streamlit's own step: the page without the example in its address
    address_has(page)
    page.go_back()
    page.wait_for_url(re.compile("/heads"))
    address_has(page, r"layer=\d+", r"head=\d+")
    page.get_by_role("heading").filter(has_text="Layer").filter(has_not_text=strongest).wait_for()
    page.go_back()
    page.get_by_role("heading", name=strongest).wait_for()
    address_has(page)
    assert not seen.errors
