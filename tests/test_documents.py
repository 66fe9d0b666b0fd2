"""Files as documents: what a person would read in them comes out, and nothing that is wrong with them gets further."""

from __future__ import annotations

import csv
import http.server
import io
import itertools
import os
import sys
import threading
import time
import zipfile

import docx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as some

from at2_core import document_readers, documents, docx_text
from at2_core.documents import SUFFIXES, read_document
from at2_core.errors import DocumentNotRead
from at2_core.prompts import Document
from at2_core.segmentation import split_paragraphs, split_sentences
from tests.paper import lines, pdf, printed

TOWER = (
    "The lighthouse at Bell Point was built in 1911 by the engineer Ada Storm. It replaced a wooden tower that had "
    "burned down three years before, and its light could be seen for twenty miles on a clear night."
)
KEEPER = (
    "Four keepers lived on the point with their families. The last keeper was Tom Reed, who left in 1978."
)
MAIN = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
RELATED = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def text_of(name: str, content: bytes | str) -> str:
    """The text of the one document in a file, read in this process."""
    raw = content.encode() if isinstance(content, str) else content
    return document_readers.read(name[name.rindex(".") :], raw).text


def wrong(name: str, content: bytes | str, **options) -> str:
    with pytest.raises(DocumentNotRead) as caught:
        read_document(name, content.encode() if isinstance(content, str) else content, **options)
    said = str(caught.value)
    assert said.startswith(name[:100])
    assert said.endswith(".")
    assert "\n" not in said
    return said


def outcome(name: str, content: bytes) -> list[Document] | str:
    """What becomes of a file, all in this process: one for each of hundreds would take long."""

    def here(suffix: str, content: bytes, seconds: float) -> Document:
        return document_readers.read(suffix, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_read_apart", here)
        try:
            return read_document(name, content)
        except DocumentNotRead as error:
            return str(error)


def check(found: list[Document] | str) -> None:
    """Documents with text, or one sentence."""
    if isinstance(found, str):
        assert found.endswith(".")
        assert len(found) < 500
        assert "\n" not in found
        return
    assert found
    for document in found:
        assert document.title.strip()
        assert document.text.strip()
        assert not set(document.text) & set("\x00\x1b\r\x85\ud800")


def paragraphs(text: str) -> list[str]:
    return [text[start:end].strip() for start, end in split_paragraphs(text)]


def package(parts: dict[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def word(body: str, before: str = "", **parts: str) -> bytes:
    """A Word file that holds this body."""
    main = f'<Relationship Id="r1" Type="{RELATED}/officeDocument" Target="word/document.xml"/>'
    beside = "".join(
        f'<Relationship Id="{kind}" Type="{RELATED}/{kind}" Target="{kind}.xml"/>' for kind in parts
    )
    return package(
        {
            "_rels/.rels": f"<Relationships>{main}</Relationships>",
            "word/_rels/document.xml.rels": f"<Relationships>{beside}</Relationships>",
            "word/document.xml": f'{before}<w:document xmlns:w="{MAIN}"><w:body>{body}</w:body></w:document>',
            **{f"word/{kind}.xml": f'<w:x xmlns:w="{MAIN}">{xml}</w:x>' for kind, xml in parts.items()},
        }
    )


def p(text: str, properties: str = "") -> str:
    return f'<w:p><w:pPr>{properties}</w:pPr><w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'


# --------------------------------------------------------------------------------------------------- every kind


def samples() -> dict[str, bytes]:
    """A small file of each kind; all of them say who built the tower."""
    page = f"<title>Bell Point</title><p>{TOWER}"
    return {
        ".txt": TOWER.encode(),
        ".md": f"# Tower\n\n{TOWER}".encode(),
        ".html": page.encode(),
        ".htm": page.encode(),
        ".pdf": pdf([printed(TOWER)]),
        ".docx": word(p(TOWER)),
        ".csv": f'name,text\nBell Point,"{TOWER}"'.encode(),
    }


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_each_kind_is_one_document_named_after_it(suffix):
    (document,) = read_document(f"C:\\texts\\my tower{suffix.upper()}", samples()[suffix])
    assert document.title == ("Bell Point" if "htm" in suffix else "my tower")
    assert TOWER in document.text


def test_a_title_is_one_short_line():
    assert read_document("a\n\x00b\ud800c.txt", b"x")[0].title == "a b\ufffdc"
    assert (
        read_document("x.html", f"<title>{'long ' * 100}</title>x".encode())[0].title
        == "long " * 39 + "long…"
    )
    assert read_document("x.html", b"<h1>A heading</h1>text")[0].title == "A heading"
    assert read_document(".md", b"x")[0].title == ".md"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=some.text(max_size=12), suffix=some.sampled_from(SUFFIXES), content=some.binary(max_size=400))
@example(name="", suffix=".pdf", content=b"%PDF-1.4 %%EOF")
@example(name="", suffix=".html", content=b"<meta charset=undefined>\xff")
@example(name="", suffix=".html", content=b"<meta charset=raw_unicode_escape>\\ud800\xff")
@example(name="", suffix=".csv", content=b'"')
def test_whatever_comes_gives_documents_with_text_or_a_sentence(name, suffix, content):
    check(outcome(name + suffix, content))


@settings(max_examples=150, deadline=None)
@given(
    kind=some.sampled_from([".html", ".docx", ".csv", ".pdf", ".md"]),
    at=some.floats(0, 1),
    put=some.binary(max_size=6),
    drop=some.integers(0, 40),
)
def test_a_damaged_file_gives_documents_or_a_sentence(kind, at, put, drop):
    content = samples()[kind]
    place = int(at * len(content))
    check(outcome("x" + kind, content[:place] + put + content[place + drop :]))


# --------------------------------------------------------------------------------------------------- plain text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Zürich", "utf-8-sig"), ("Zürich", "cp1252"), ("Zürich", "utf-16"), ("Zürich", "utf-32"),
        ("Le café était fermé à Noël, où l'élève a mangé – “enfin”.", "cp1252"),
        ("¿Dónde está el faro? Se construyó en el año 1911.", "latin-1"),
        ("Маяк был построен в 1911 году инженером Адой Сторм.", "cp1251"),
        ("灯台は1911年に建てられました。光は遠くから見えます。", "shift_jis"),
        ("灯塔建于1911年,由工程师艾达设计。", "gb18030"),
        ("Wieża została zbudowana w roku 1911 przez inżyniera.", "cp1250"),
        ("The lighthouse was built.", "utf-16-le"),
    ],
)  # fmt: skip
def test_text_is_read_in_the_encoding_it_was_written_in(text, encoding):
    assert text_of("a.txt", text.encode(encoding)) == text


def test_markdown_stays_as_it_is_with_plain_line_ends():
    text = "# Title\n\n* item\n\n\n\n    code\twith a tab\n"
    assert text_of("a.md", text.replace("\n", "\r\n")) == text


# -------------------------------------------------------------------------------------------------------- html


PAGE = """<!doctype html><html><head><title>The  lighthouse &amp; more</title><style>p{}</style></head><body>
<nav><a href="/">Home</a></nav><script>document.write("no")</script><noscript>no</noscript>
<h1>Light&shy;house</h1><p>Built in <b>19</b>11 by
   Ada&nbsp;Storm.<br>Second line.</p><div>Loose <span>text</span><p>para<!-- no --> graph</p>after</div>
<ul><li>One<li><p>Two</p><ul><li>Below</ul></ul>
<table><caption>Sizes</caption><tr><th>What<th>m</tr><tr><td>Height<td>41</table>
<table><tr><td><table><tr><td>laid<td>out</table><td>beside</table>
<pre>def f():
    return 1

f()</pre><p hidden>no</p><p style="display: none">no</p><select><option>no</select></body></html>"""


def test_html_reads_as_it_shows():
    found = document_readers.read(".html", PAGE.encode())
    title, text = found.title, found.text
    assert title == "The lighthouse & more"
    assert text == (
        "Lighthouse\nBuilt in 1911 by Ada Storm.\nSecond line.\n\nLoose text\n\npara graph\n\nafter\n\n"
        "- One\n- Two\n- Below\n\nSizes\n| What | m |\n| Height | 41 |\n\n| laid | out |\n\nbeside\n\n"
        "def f():\n    return 1\nf()"
    )


def test_the_charset_that_a_page_declares_is_believed():
    page = '<meta http-equiv="Content-Type" content="text/html; charset=koi8-r"><p>Маяк построен.'
    assert text_of("a.html", page.encode("koi8-r")) == "Маяк построен."


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("<script>x</script><nav>a</nav>", "has to be saved from the browser"),
        ("<div>" * 5000 + "x", "nested too deeply"),
        ("<!-- only this -->", "has no text"),
    ],
)
def test_a_page_without_readable_text_says_so(page, said):
    assert said in wrong("a.html", page)


# --------------------------------------------------------------------------------------------------------- docx


def test_docx_reads_in_the_order_in_which_it_stands():
    file = docx.Document()
    file.add_heading("The tower", 1)
    file.add_paragraph(TOWER)
    table = file.add_table(2, 2)
    for cell, text in zip(
        itertools.chain(*(row.cells for row in table.rows)), ["What", "m", "Height", "41"], strict=True
    ):
        cell.text = text
    file.add_paragraph("One", style="List Bullet")
    file.add_paragraph("Two", style="List Number")
    file.add_paragraph("first line\nsecond\tline")
    out = io.BytesIO()
    file.save(out)
    assert text_of("a.docx", out.getvalue()) == (
        f"The tower\n{TOWER}\n\n| What | m |\n| Height | 41 |\n\n- One\n- Two\n\nfirst line\nsecond line"
    )


def test_docx_leaves_out_what_was_deleted_or_hidden_and_adds_the_notes():
    said = "<w:r><w:t>{}</w:t></w:r>"
    framed = p("framed", '<w:pStyle w:val="h2"/>')
    body = (
        f"<w:p><w:ins>{said.format('New')}</w:ins><w:del><w:r><w:delText>old</w:delText></w:r></w:del>"
        f"<w:moveFrom>{said.format('gone')}</w:moveFrom><w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r>"
        '<w:r><w:footnoteReference w:id="7"/></w:r></w:p>'
        f"<w:sdt><w:sdtContent>{framed}</w:sdtContent></w:sdt>{p('below')}"
        f"<w:p><w:r><w:pict><w:txbxContent>{p('boxed')}{p('text')}</w:txbxContent></w:pict></w:r></w:p>"
    )
    style = (
        '<w:style w:styleId="h"><w:name w:val="heading 1"/></w:style>'
        '<w:style w:styleId="h2"><w:name w:val="Mine"/><w:basedOn w:val="h"/></w:style>'
    )
    notes = f'<w:footnote w:id="7">{p("A note.")}</w:footnote><w:footnote w:id="8">{p("unused")}</w:footnote>'
    content = word(body, styles=style, footnotes=notes)
    assert text_of("a.docx", content) == "New [1]\n\nframed\nbelow\n\nboxed\ntext\n\n[1] A note."
    strict = "http://purl.oclc.org/ooxml/wordprocessingml/main"
    again = package({n: zipfile.ZipFile(io.BytesIO(content)).read(n).replace(MAIN.encode(), strict.encode())
                     for n in zipfile.ZipFile(io.BytesIO(content)).namelist()})  # fmt: skip
    assert text_of("a.docx", again) == text_of("a.docx", content)


def test_no_entity_of_a_docx_is_opened(tmp_path):
    (tmp_path / "note.txt").write_text("the secret")
    entity = f'<!DOCTYPE x [<!ENTITY f SYSTEM "{(tmp_path / "note.txt").as_uri()}">]>'
    for said in outcome("a.docx", word(p("before &f; after"), before=entity)):
        assert "secret" not in str(said)


def test_a_docx_that_grows_without_end_is_refused(monkeypatch):
    bodies = ["ha", *(f"&e{i};" * 10 for i in range(11))]
    grow = "".join(f'<!ENTITY e{i} "{body}">' for i, body in enumerate(bodies))
    for said in outcome("a.docx", word(p("a&e11;b"), before=f"<!DOCTYPE x [{grow}]>")):
        assert len(str(said)) < 1000
    monkeypatch.setattr(docx_text, "MOST_UNPACKED", 2**20)
    bomb = word(p("0" * 3_000_000))
    assert len(bomb) < 10_000
    assert "unpacks to 3 MB" in outcome("a.docx", bomb)


# ---------------------------------------------------------------------------------------------------------- csv


def test_a_row_of_a_table_makes_sense_by_itself():
    table = 'name;height;note\r\nBell Point;41;"white; red\nand new"\r\n\r\nCape;;old\r\nLow;3;x;more\r\n'
    assert paragraphs(text_of("a.csv", table)) == [
        "name: Bell Point; height: 41; note: white; red and new",
        "name: Cape; note: old",
        "name: Low; height: 3; note: x; Column 4: more",
    ]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_cells_are_cut_at_the_mark_that_the_table_uses(mark):
    table = f"town{mark}people\nZürich{mark}400,000; more or less\n"
    quoted = table.replace("400,000; more or less", '"400,000; more or less"')
    assert text_of("a.csv", quoted) == "town: Zürich; people: 400,000; more or less"


def test_a_table_without_names_or_with_one_column():
    assert paragraphs(text_of("a.csv", "1,2\n3,4")) == [
        "Column 1: 1; Column 2: 2",
        "Column 1: 3; Column 2: 4",
    ]
    assert paragraphs(text_of("a.csv", "quote\nTo be.\nNot to be.")) == ["To be.", "Not to be."]
    assert text_of("a.csv", "only,this") == "Column 1: only; Column 2: this"


# ---------------------------------------------------------------------------------------------------------- pdf


def test_lines_are_put_together_to_paragraphs_and_sentences():
    page = [*printed(TOWER), *printed(KEEPER, top=475), *lines("Light - white\nHorn - two blasts", top=430)]
    text = text_of("a.pdf", pdf([page]))
    assert paragraphs(text) == [TOWER, KEEPER, "Light - white\nHorn - two blasts"]
    assert len(split_sentences(text)) == 6


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_page_that_is_turned_reads_like_one_that_is_not(degrees):
    page = [*printed(TOWER), *printed(KEEPER, top=475)]
    assert text_of("a.pdf", pdf([page], rotate=degrees)) == text_of("a.pdf", pdf([page]))


def test_a_document_knows_where_its_pages_begin_and_its_text_is_its_own():
    content = pdf([printed(TOWER), [], [*printed(KEEPER), *printed(TOWER, top=475)]])
    (document,) = read_document("a.pdf", content)
    assert paragraphs(document.text) == [TOWER, KEEPER, TOWER]
    assert document.pages == ((0, 1), (document.text.index(KEEPER), 3))
    assert read_document("a.pdf", pdf([printed(TOWER)]))[0].pages == ((0, 1),)
    assert read_document("a.txt", TOWER.encode())[0].pages == ()


def test_words_that_were_parted_at_a_line_end_are_mended_in_moderation():
    shown = "The divided word that was di-\nvided is mended, and a well-\nknown one stays well-known here."
    assert text_of("a.pdf", pdf([lines(shown)])) == shown.replace("di-\nv", "div").replace("-\nk", "-k")
    assert (
        text_of("a.pdf", pdf([lines("He wrote to the Bell-\nPoint keeper about it.")])).count("Bell-Point")
        == 1
    )


def test_columns_are_read_one_after_the_other():
    left, right = printed(TOWER, width=150), printed(KEEPER, width=150, left=230)
    assert paragraphs(text_of("a.pdf", pdf([[*left, *right]]))) == [TOWER, KEEPER]


def test_a_sentence_across_pages_stands_on_the_page_where_it_begins():
    first, rest = TOWER.split("wooden ")
    text = text_of("a.pdf", pdf([printed(first), printed(f"wooden {rest} {KEEPER}")]))
    assert paragraphs(text) == [TOWER, KEEPER]


def test_running_titles_and_page_numbers_are_left_out():
    bodies = [
        f"Chapter {word} tells of the tower and its keepers." for word in ("one", "two", "three", "four")
    ]
    pages = [
        [(50, 570, "A history of Bell Point"), (50, 500, body), (200, 20, f"{n} / 4")]
        for n, body in enumerate(bodies, 1)
    ]
    first, *others = paragraphs(text_of("a.pdf", pdf(pages)))
    assert first == "A history of Bell Point"
    assert others == bodies
    assert text_of("a.pdf", pdf(pages[:2])).count("A history") == 2  # on two pages it may be text


def test_a_running_title_that_names_the_chapter_is_left_out_too():
    chapters = ["The tower", "The keepers", "The light", "The sea"]
    pages = [
        [(50, 570, f"{n} {name}"), (50, 500, f"It tells of {name}.")] for n, name in enumerate(chapters, 7)
    ]
    text = text_of("a.pdf", pdf(pages))
    assert paragraphs(text) == [f"It tells of {name}." for name in chapters]


def test_numbers_that_are_not_the_pages_own_stay():
    pages = [[(50, 500, f"Bill {n}"), (50, 300, f"Total: {n * n} pounds")] for n in range(4, 9)]
    text = text_of("a.pdf", pdf(pages))
    assert all(f"Total: {n * n} pounds" in text for n in range(4, 9))


def test_the_numbers_of_a_manuscripts_lines_are_left_out():
    ruler = [(10, 540 - 13 * i, f"{i:03}") for i in range(40)]
    assert text_of("a.pdf", pdf([[*ruler, *printed(TOWER)]])) == TOWER


def test_a_long_pdf_is_one_document():
    bodies = [f"This is what page {n} says about the tower." for n in range(1, 301)]
    (document,) = read_document("long.pdf", pdf([[(50, 500, body)] for body in bodies]))
    assert paragraphs(document.text) == bodies
    assert document.pages[299] == (document.text.index(bodies[299]), 300)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pdf([[]]), "run a text recognition (OCR)"),
        (b"%PDF-1.7\nnothing of the kind", "damaged PDF"),
        (b"plain text", "is no PDF file"),
        (pdf([[(50, 500, "x")]])[:300], "damaged PDF"),
        (pdf([]), "damaged PDF"),
    ],
)
def test_a_pdf_that_gives_no_text_says_why(content, said):
    assert said in wrong("a.pdf", content)


LOCKED = (
    b"%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Count 0/Kids[]>>\nendobj\n"
    b"3 0 obj\n<</Filter/Standard/V 1/R 2/P -4/O<" + b"11" * 32 + b">/U<" + b"22" * 32 + b">>>\nendobj\n"
    b"trailer<</Root 1 0 R/Encrypt 3 0 R/ID[<11><11>]>>\n%%EOF"
)


def test_a_locked_pdf_says_so():
    assert "locked by a password" in wrong("a.pdf", LOCKED)


# ----------------------------------------------------------------------------------------------------- wrong files


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.exe", b"MZ", "none of the files that can be read"),
        ("http://example.org/page", b"x", "none of the files"),
        ("a", b"x", "none of the files"),
        ("a.txt", b"", "is empty"),
        ("a.txt", b" \n", "no text"),
        ("a.md", b"a\x00b", "binary data"),
        ("a.txt", bytes(range(256)) * 4, "binary data"),
        ("a.txt", b"%PDF-1.4", "its name should end in .pdf"),
        ("a.csv", b"PK\x03\x04rest", "zip archive"),
        ("a.html", b"\x89PNG\r\n", "picture"),
        ("a.docx", b"\xd0\xcf\x11\xe0rest", "without a password"),
        ("a.docx", b"PK\x03\x04rest", "damaged .docx"),
        ("a.docx", package({"a.txt": "x"}), "no Word file"),
        ("a.csv", b",,\n,", "no rows"),
    ],
)
def test_a_wrong_file_is_named_and_explained(name, content, said):
    with pytest.raises(DocumentNotRead) as caught:
        read_document(name, content)
    assert said in str(caught.value)
    assert str(caught.value).startswith(name.rsplit("/")[-1])


def test_too_much_text_and_too_large_a_file_are_refused(monkeypatch):
    assert "2,000,100 characters" in wrong("a.txt", "a" * 2_000_100)
    assert "characters of text" in wrong("a.csv", "name,value\n" + "a,1\n" * 150_000)
    monkeypatch.setattr(documents, "MOST_BYTES", 2**20)
    assert "has 2 MB; 1 MB is the most" in wrong("a.txt", "a" * 2 * 2**20)


def test_reading_is_ended_when_it_takes_too_long(monkeypatch, tmp_path):
    process = tmp_path / "process"
    endless = tmp_path / "python"
    endless.write_text(f"#!/bin/sh\necho $$ > {process}\nexec sleep 600\n")
    endless.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(endless))
    began = time.monotonic()
    assert "was not read within 2 seconds" in wrong("a.pdf", pdf([printed(TOWER)]), seconds=2)
    assert time.monotonic() - began < 60
    with pytest.raises(ProcessLookupError):
        os.kill(int(process.read_text()), 0)


def test_a_reader_that_dies_takes_nobody_with_it(monkeypatch, tmp_path):
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\nkill -SEGV $$\n")
    dying.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dying))
    assert "cannot be read" in wrong("a.pdf", pdf([printed(TOWER)]))


def test_nothing_that_a_file_names_is_fetched():
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)

        def log_message(self, *about):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}"
    page = (
        f'<!DOCTYPE html SYSTEM "{here}/a.dtd"><base href="{here}"><link rel=stylesheet href="{here}/a.css">'
        f'<meta http-equiv=refresh content="0;url={here}/b"><img src="{here}/a.png"><iframe src="{here}/c"></iframe>'
        f'<script src="{here}/a.js"></script>text <a href="{here}/d">link</a>'
    )
    external = f'<Relationship Id="e" Type="{RELATED}/styles" TargetMode="External" Target="{here}/s.xml"/>'
    archive = package(
        {
            "_rels/.rels": f'<Relationships><Relationship Type="{RELATED}/officeDocument" Target="d.xml"/></Relationships>',
            "_rels/d.xml.rels": f"<Relationships>{external}</Relationships>",
            "d.xml": f'<!DOCTYPE d SYSTEM "{here}/d.dtd"><d><body><p><r><t>text</t></r></p></body></d>',
        }
    )
    action = f"/OpenAction<</S/URI/URI({here}/pdf)>>"
    try:
        assert read_document("a.html", page.encode())[0].text == "text link"
        assert read_document("a.docx", archive)[0].text == "text"
        assert read_document("a.pdf", pdf([[(50, 500, "text")]], extra=action))[0].text == "text"
        time.sleep(0.1)
    finally:
        server.shutdown()
        server.server_close()
    assert asked == []


def test_a_small_table_leaves_others_their_long_fields():
    before = csv.field_size_limit()
    read_document("small.csv", b"a,b\n1,2\n")
    assert csv.field_size_limit() >= before
