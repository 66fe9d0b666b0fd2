"""Files dropped on the page by a real drag from outside the browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.browser.own_text import unfold
from tests.pages.driving import until

MINUTES = 240_000  # ms; the model loads behind the page
BOOK = """<style>@page { size: A5; margin: 20mm } h2 { break-before: page } p { text-align: justify }</style>
<h1>Bell Point</h1><p>The lighthouse at Bell Point was built in 1911 by the engineer Ada Storm. It replaced a wooden
tower that had burned down three years before.</p><p>Its light can be seen for twenty miles.</p>
<h2>The keepers</h2><p>Four keepers lived on the point with their families. The last keeper was Tom Reed.</p>
<h2>Today</h2><p>The tower is a museum now, and entry costs four pounds.</p>"""
HOSTILE = """<title>![i](http://evil.example/t.png)</title><link rel=stylesheet href=http://evil.example/a.css>
<img src=http://evil.example/a.png onerror="top.pwned=1"><p>&lt;script&gt;top.pwned=1&lt;/script&gt; harmless</p>"""


@pytest.fixture(scope="module")
def files(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a book that the browser has printed, and what nobody should drop."""
    folder = tmp_path_factory.mktemp("files")
    page = chromium.new_page()
    page.set_content(BOOK)
    page.pdf(path=folder / "bell point.pdf", prefer_css_page_size=True)
    page.close()
    (folder / "page.html").write_text(HOSTILE)
    (folder / "scan.pdf").write_bytes(b"no PDF")
    (folder / "**b**.exe").write_bytes(b"MZ")
    return folder


def drop(page: Any, *paths: Path) -> None:
    """Drag files from the desktop over the place for them, and let go."""
    place = page.get_by_test_id("stFileUploaderDropzone")
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **at, "data": data})


@pytest.mark.parametrize("width", [1280, 900])
def test_many_open_documents_scroll_and_are_not_squeezed(visit, width):
    page = visit("?run=new", width=width).page
    page.get_by_text("Several documents").click()
    for number in (3, 4, 5):
        page.get_by_role("button", name="Add a document").click()
        page.get_by_label(f"Text of document {number}").wait_for()
    assert page.locator(".st-key-own-documents-list").bounding_box()["height"] < 450
    for number in (1, 5):
        box = page.get_by_label(f"Text of document {number}")
        box.scroll_into_view_if_needed()
        around = page.get_by_test_id("stTextArea").filter(has=box)
        assert around.bounding_box()["height"] >= box.bounding_box()["height"] > 80


def test_a_dropped_pdf_is_asked_about_and_outlasts_a_reload(visit, files):
    seen = visit("?run=new")
    page, main = seen.page, seen.page.get_by_test_id("stMain")
    drop(page, files / "bell point.pdf")
    shown = unfold(page).input_value()
    assert shown.startswith(
        "Bell Point\nThe lighthouse at Bell Point was built in 1911 by the engineer Ada Storm."
    )
    assert "\n\nThe keepers\nFour keepers" in shown
    assert "Page" not in shown
    title = page.get_by_label("Title of document 1")  # drawn a moment after the text
    until(lambda: title.input_value() == "bell point")

    page.get_by_label("Query").fill("Who was the last keeper of the lighthouse?")
    slider = page.get_by_role("slider", name="Tokens, at most")
    slider.focus()
    slider.press("Home")
    main.get_by_role("button", name="Generate").click()
    answer = page.locator(".text.response")
    answer.locator(".u").first.wait_for(timeout=MINUTES)
    said = answer.inner_text()
    page.reload()
    answer.locator(".u").first.wait_for(timeout=MINUTES)
    assert answer.inner_text() == said
    assert "Tom Reed" in said
    page.locator(".bar fieldset", has_text="Sources").get_by_text("Paragraph", exact=True).click()
    row = page.locator(".rows li", has_text=re.compile(r"The keepers\W+Four keepers"))
    row.wait_for()
    assert row.locator(".name").inner_text() == "bell point, p. 2 · paragraph 3"
    main.get_by_text("Your own text: change it").click()
    assert unfold(page).input_value() == shown
    assert not seen.errors


def test_a_source_of_a_pdf_says_its_page_wherever_it_is_shown(visit, files):
    seen = visit("?run=new")
    page, main = seen.page, seen.page.get_by_test_id("stMain")
    drop(page, files / "bell point.pdf")
    page.get_by_text("3 pages, ").wait_for()  # it has been read
    page.get_by_label("Query").fill("Who was the last keeper?")
    page.get_by_text("Use my own response").click()
    page.get_by_label("My response").fill("The last keeper was Tom Reed.")
    main.get_by_role("button", name="Attribute").click()
    page.locator(".text.response .u").first.wait_for(timeout=MINUTES)
    keeper = page.locator(".rows li", has_text="The last keeper was Tom Reed.")
    until(lambda: keeper.locator(".name").inner_text() == "bell point, p. 2 · sentence 7")
    cite = page.locator(".cite").first
    assert "(bell point, p. 2)" in cite.get_attribute("title")
    assert cite.get_attribute("aria-label").startswith("Go to source 1 (bell point, p. 2)")
    page.locator(".text.prompt .u", has_text="Reed").hover()
    until(lambda: page.locator(".tip").inner_text().startswith("bell point, p. 2 · sentence 7"))
    marks = page.locator(".text.prompt .page")
    assert marks.evaluate_all("(all) => all.map((mark) => mark.dataset.page)") == ["1", "2", "3"]
    assert "p. 1" not in page.locator(".text.prompt").text_content()  # no text: nobody can point at it
    page.locator(".bar fieldset", has_text="Sources").get_by_text("Document", exact=True).click()
    until(lambda: page.locator(".rows .name").first.inner_text() == "bell point")
    page.get_by_role("link", name="Compare").click()
    source = page.locator(".methods .prompt .source", has_text="Tom Reed").first
    source.wait_for(timeout=MINUTES)
    source.hover()
    until(lambda: page.locator(".compare .tip b").inner_text() == "Page 2, sentence 7")
    assert not seen.errors


def test_five_files_leave_the_page_one_screen_and_outlast_a_reload(visit, files):
    seen = visit("?run=new")
    page = seen.page
    notes = [files / f"note {n}.txt" for n in range(4)]
    for note in notes:
        note.write_text("The harbour was dredged. " * 40)
    drop(page, files / "bell point.pdf", *notes)
    page.get_by_text("3 pages, ").wait_for()
    page.get_by_label("Query").fill("Who was the last keeper?")
    page.get_by_text("Use my own response").click()
    page.get_by_label("My response").wait_for()
    page.locator("[data-test-script-state=notRunning]").wait_for()  # all of that has arrived
    assert "draft=" in page.url
    place = page.get_by_test_id("stFileUploaderDropzone")
    # For a moment the place for files still lists them.
    until(lambda: (box := place.bounding_box()) is not None and box["y"] + box["height"] <= 720)
    page.reload()
    page.get_by_label("Title of document 5").wait_for()
    until(lambda: page.get_by_label("Query").input_value() == "Who was the last keeper?")
    assert page.get_by_label("Title of document 1").input_value() == "bell point"
    assert page.get_by_text("3 pages, ").count()
    assert "keeper" not in page.url
    assert not seen.errors


def test_what_is_dropped_is_text_and_what_cannot_be_read_is_said(visit, files):
    seen = visit("?run=new")
    page, main = seen.page, seen.page.get_by_test_id("stMain")
    drop(page, files / "scan.pdf", files / "page.html", files / "**b**.exe")
    main.get_by_text("scan.pdf is no PDF file").wait_for()
    main.get_by_text("**b**.exe is none of the files that can be read").wait_for()
    title = page.get_by_label("Title of document 1")
    until(lambda: title.input_value() == "![i](http://evil.example/t.png)")
    text = unfold(page)
    until(lambda: text.input_value() == "<script>top.pwned=1</script> harmless")
    assert page.evaluate("top.pwned") is None
    assert not seen.strangers()
    assert not seen.errors
