"""What browser tests do in the panel for a person's own text."""

from __future__ import annotations

from typing import Any


def unfold(page: Any, place: int = 1) -> Any:
    """Let the text of a document that came filled be edited; return its box."""
    page.get_by_role("button", name="Edit").nth(place - 1).click()
    text = page.get_by_label(f"Text of document {place}")
    text.wait_for()
    return text


def fill_in(page: Any, *, title: str, text: str, query: str, response: str) -> None:
    """One document of several, a query, and a given response; nothing is asked yet."""
    page.get_by_text("Several documents").click()
    page.get_by_label("Title of document 1").fill(title)
    page.get_by_label("Text of document 1").fill(text)
    page.get_by_label("Query").fill(query)
    page.get_by_text("Use my own response").click()
    page.get_by_label("My response").fill(response)
