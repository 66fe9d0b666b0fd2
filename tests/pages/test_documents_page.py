"""Files dropped on Explore's panel: what stands in the panel afterwards, and what is said about the others."""

from __future__ import annotations

import csv
import io
import json
import threading

import pytest
from streamlit.testing.v1 import AppTest

from at2_core.prompts import Document
from pages.ui import document_upload, export, own_memory, own_text, session
from pages.ui.token_heatmap import ViewState
from tests.pages.driving import MARKUP, opened, ran, texts
from tests.pages.test_explore import finished, payload
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
        Document(state[f"own-title-{n}"], state[f"own-text-{n}"], state[f"own-pages-{n}"][1])
        for n in at.session_state["own-documents"]
    ]


def unfold(at: AppTest, place: int = 0) -> AppTest:
    """Let the text of a document be edited."""
    return ran(at.button(key=f"own-fold-{at.session_state['own-documents'][place]}").click().run())


def test_a_pdf_becomes_one_document_that_knows_its_pages(at):
    dropped(at, ("bell point.pdf", PAPER))
    text = "\n\n".join(PAGES)
    begun = tuple((text.index(page), n) for n, page in enumerate(PAGES, 1))
    assert documents(at) == [Document("bell point", text, begun)]
    assert at.segmented_control(key="own-kind").value == own_text.SEVERAL
    assert f"3 pages, {len(text)} characters" in [caption.value for caption in at.caption]
    assert unfold(at).text_area(key=f"own-text-{at.session_state['own-documents'][0]}").value == text


def test_uploaded_documents_are_rows_until_one_is_to_be_edited(at):
    dropped(at, *((f"{n}.txt", b"A note.") for n in range(5)))
    first, *_ = at.session_state["own-documents"]
    boxes = lambda: [box.key for box in at.text_area if box.key.startswith("own-text-")]  # noqa: E731
    assert not boxes()
    unfold(at).text_area(key=f"own-text-{first}").set_value("Another note.")
    ran(at.run())
    assert boxes() == [f"own-text-{first}"]
    unfold(at)  # and fold it again
    assert not boxes()
    assert [d.text for d in documents(at)] == ["Another note.", *["A note."] * 4]
    ran(at.button(key=f"own-remove-{first}").click().run())
    assert [d.title for d in documents(at)] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("old", "new", "begin"),
    [  # where page 1, 2 and 3 begin after the edit; None where a page is gone
        ("1911", "1912", [PAGES[0][:9], PAGES[1], PAGES[2]]),
        ("The last", "The very last", [PAGES[0], "The very last", PAGES[2]]),
        ("The lighthouse", "An old lighthouse", ["An old", PAGES[1], PAGES[2]]),
        (PAGES[1], "", [PAGES[0], None, PAGES[2]]),
        ("in 1911.\n\nThe last keeper was ", "by ", [PAGES[0][:9], "Tom", PAGES[2]]),
        ("\n\n".join(PAGES), "Something else entirely, and without pages.", [None, None, None]),
        ("\n\n".join(PAGES), "", [None, None, None]),
    ],
)
def test_pages_stay_with_their_text_while_it_is_edited(old, new, begin):
    text = "\n\n".join(PAGES)
    pages = tuple((text.index(page), n) for n, page in enumerate(PAGES, 1))
    edited = text.replace(old, new)
    found = {number: edited[start:] for start, number in own_memory.carried(pages, text, edited)}
    for number, beginning in enumerate(begin, 1):
        if beginning is None:
            assert number not in found
        else:
            assert found[number].lstrip().startswith(beginning)


def test_several_edits_at_once_leave_the_pages_where_they_are():
    text = "\n\n".join(PAGES)
    pages = tuple((text.index(page), n) for n, page in enumerate(PAGES, 1))
    edited = "A title\n\n" + text.replace("keeper", "watchman") + " And entry is free."
    assert own_memory.carried(pages, text, edited) == (
        (0, 1), (edited.index("The last"), 2), (edited.index("It is"), 3),
    )  # fmt: skip


def test_sources_of_a_pdf_say_their_page_wherever_they_are_shown(at):
    dropped(at, ("harbour.pdf", PAPER))
    at.text_area(key="own-query").set_value("Who was the last keeper?")
    at.segmented_control(key="own-way").set_value(own_text.GIVEN).run()
    at.text_area(key="own-given").set_value("Tom Reed.")
    at = finished(ran(at.button(key="own-go").click().run()))
    shown = payload(at)
    (part,) = [part for part in shown["parts"] if part["kind"] == "context"]
    assert [(shown["prompt"][start:].startswith(PAGES[n - 1]), n) for start, n in part["pages"]] == [
        (True, 1), (True, 2), (True, 3),
    ]  # fmt: skip
    assert "Page" not in shown["prompt"]
    exploration = session.runs().get("".join(at.query_params["run"])).exploration
    matrix = exploration.scores["average"]
    for granularity, pages in (("sentence", {"1", "2", "3"}), ("document", {""})):
        view = ViewState(granularity=granularity)
        rows = list(
            csv.DictReader(io.StringIO(export.ranked_table(exploration, matrix, view).lstrip("\ufeff")))
        )
        assert {row["page"] for row in rows} == pages
        assert all(not row["page"] or row["text"].strip() == PAGES[int(row["page"]) - 1] for row in rows)
        sources = json.loads(export.everything(exploration, matrix, view, "average"))["sources"]
        assert {str(source["page"] or "") for source in sources} == pages


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
