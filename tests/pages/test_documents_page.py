"""Files dropped on Explore's panel: what stands in the panel afterwards, and what is said about the others."""

from __future__ import annotations

import threading

import pytest
from streamlit.testing.v1 import AppTest

from at2_core.prompts import Document
from pages.ui import document_upload, own_text
from tests.pages.driving import MARKUP, opened, ran, texts
from tests.paper import lines, pdf

pytestmark = pytest.mark.usefixtures("tiny_server")
PAGES = ["The lighthouse was built in 1911.", "The last keeper was Tom Reed.", "It is a museum now."]
PAPER = pdf([lines(page) for page in PAGES])


@pytest.fixture
def at() -> AppTest:
    return opened("explore", first={"run": "new"}, run="new")


def dropped(at: AppTest, *files: tuple[str, bytes]) -> AppTest:
    at.file_uploader[0].set_value([(name, content, "application/octet-stream") for name, content in files])
    return ran(at.run())


def documents(at: AppTest) -> list[Document]:
    state = at.session_state
    return [
        Document(state[f"own-title-{n}"], state[f"own-text-{n}"]) for n in at.session_state["own-documents"]
    ]


def test_a_pdf_becomes_one_document_whose_pages_are_named(at):
    dropped(at, ("bell point.pdf", PAPER))
    text = "\n\n".join(f"Page {n}\n{page}" for n, page in enumerate(PAGES, 1))
    assert documents(at) == [Document("bell point", text)]
    assert at.segmented_control(key="own-kind").value == own_text.SEVERAL
    assert at.text_area(key=f"own-text-{at.session_state['own-documents'][0]}").value == text


def test_files_come_in_their_order_behind_what_is_there(at):
    at.text_area(key="own-context").set_value("My own words.")
    page = f"<title>{MARKUP}</title><p>On the web.".replace("<b>x</b>", "x")
    dropped(at, ("page.html", page.encode()), ("b.csv", b"name,height\nBell,41"), ("a.txt", b"A note."))
    assert [d.text for d in documents(at)] == [
        "My own words.",
        "On the web.",
        "name: Bell; height: 41",
        "A note.",
    ]
    assert documents(at)[1].title == MARKUP.replace("<b>x</b>", "x")
    dropped(at, ("c.md", b"# More"))
    assert [d.title for d in documents(at)][-2:] == ["a", "c"]


def test_what_cannot_be_read_is_said_as_text_and_takes_nothing_away(at):
    at.text_area(key="own-context").set_value("My own words.")
    dropped(at, (f"{MARKUP}.exe", b"MZ"), ("empty.txt", b""), ("a.pdf", b"no"), ("https://x.org/a.html", b""))
    assert at.text_area(key="own-context").value == "My own words."
    assert at.segmented_control(key="own-kind").value == own_text.ONE
    said = texts(at)
    for sentence in (
        "is none of the files that can be read",
        "empty.txt is empty.",
        "a.pdf is no PDF file",
        "a.html is empty.",
    ):
        assert sentence in said
    for kind in ("markdown", "html", "error", "warning", "caption"):
        assert not any("evil.example" in str(element.proto) for element in at.get(kind))
    ran(at.run())
    assert "a.pdf" not in texts(at)  # it was said


def test_good_files_come_in_beside_bad_ones(at):
    dropped(at, ("a.txt", b"A note."), ("b.docx", b"PK\x03\x04"), ("c.txt", b"Another."))
    assert [d.title for d in documents(at)] == ["a", "c"]
    assert "b.docx is a damaged .docx file" in texts(at)


def test_many_bad_files_do_not_fill_the_page(at):
    dropped(at, *((f"{n}.exe", b"MZ") for n in range(9)))
    assert sum(".exe is none of" in text.value for text in at.text) == document_upload.MOST_COMPLAINTS
    assert "4 more files were not taken either." in texts(at)


def test_a_page_that_runs_again_while_a_file_is_read_waits_for_the_same_reading(at, monkeypatch):
    began, go = [], threading.Event()

    def slowly(name: str, content: bytes) -> list[Document]:
        began.append(name)
        go.wait(30)
        return [Document(name, content.decode())]

    monkeypatch.setattr(document_upload, "read_document", slowly)
    at.default_timeout = 1
    with pytest.raises(RuntimeError, match="timed out"):
        dropped(at, ("a.txt", b"A note."))
    at.default_timeout = 60
    go.set()
    at.text_area(key="own-query").set_value("What?")
    ran(at.run())
    assert began == ["a.txt"]
    assert documents(at) == [Document("a.txt", "A note.")]
    assert at.text_area(key="own-query").value == "What?"
    ran(at.run())
    assert documents(at) == [Document("a.txt", "A note.")]
