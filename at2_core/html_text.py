"""The text of an HTML page as it shows: blocks as paragraphs, headings above them, rows of tables line by line.

`read_html(content)` is its title and its text; DocumentNotRead says what is wrong, in words that stand behind the file's
name. Scripts, styles and navigation are left out, and nothing that the page names is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import regex

from .errors import DocumentNotRead
from .plain_text import decoded
from .text_blocks import Block, put_together, row, tidy

_DROPPED = {
    "head", "title", "script", "style", "noscript", "template", "nav", "svg", "math", "iframe", "object", "embed",
    "applet", "audio", "video", "canvas", "map", "button", "select", "textarea", "input", "datalist",
}  # fmt: skip
_BLOCKS = {
    "html", "body", "div", "p", "section", "article", "main", "header", "footer", "aside", "figure", "figcaption",
    "blockquote", "pre", "ul", "ol", "dl", "dd", "li", "hr", "form", "fieldset", "details", "address", "center",
    "table", "caption", "thead", "tbody", "tfoot", "tr", "td", "th",
}  # fmt: skip
_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6", "dt", "summary"}


def read_html(content: bytes) -> tuple[str, str]:
    """Title, or "", and text."""
    import lxml.etree
    import lxml.html

    named = regex.search(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w-]+)", content[:4096], regex.I)
    text = decoded(content, named[1].decode() if named else "")
    # Allows deeper nesting; what it costs ends with this process.
    parser = lxml.html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        tree = lxml.html.document_fromstring(text.encode(), parser=parser)
    except lxml.etree.LxmlError as error:
        raise DocumentNotRead("has no text") from error
    if any(entry.level_name == "FATAL" for entry in parser.error_log):
        raise DocumentNotRead("is an HTML page whose parts are nested too deeply or are too long")
    shown = put_together(_html_blocks(tree))
    if not shown:
        raise DocumentNotRead("has no text; a page that a script builds has to be saved from the browser")
    return tidy(tree.findtext(".//head/title") or tree.findtext(".//h1") or ""), shown


def _html_blocks(tree: Any) -> Iterator[Block]:
    import lxml.etree

    said, opened = "", {"heading": 0, "item": 0}
    walk = lxml.etree.iterwalk(tree, events=("start", "end"))
    for event, element in walk:
        kind = "heading" if element.tag in _HEADINGS else "item" if element.tag == "li" else ""
        if kind or element.tag in _BLOCKS:
            yield _html_block(said, opened)
            said = ""
        if kind:
            opened[kind] += 1 if event == "start" else -1
        if event == "end":
            said += element.tail or ""
        elif element.tag in _DROPPED or _is_hidden(element):
            walk.skip_subtree()
        elif whole := _html_whole(element):
            yield from whole
            walk.skip_subtree()
        else:
            said += "\v" if element.tag == "br" else element.text or ""
    yield _html_block(said, opened)


def _html_block(said: str, opened: dict[str, int]) -> Block:
    text = "\n".join(map(tidy, said.split("\v"))).strip()
    if opened["heading"]:
        return "heading", tidy(text)
    return ("item", f"- {text}" if text else "") if opened["item"] else ("text", text)


def _is_hidden(element: Any) -> bool:
    if element.get("hidden") is not None or element.get("role") == "navigation":
        return True
    return "display:none" in element.get("style", "").replace(" ", "").lower()


def _html_whole(element: Any) -> list[Block]:
    """The blocks of a table that holds data, or of text with its own lines; [] for everything else."""
    if element.tag == "pre":
        return [("text", regex.sub(r"\n\s*\n", "\n", "".join(element.itertext()).strip("\n")))]
    if element.tag != "table" or element.find(".//table") is not None:  # one around others lays out a page
        return []
    rows = [["".join(cell.itertext()) for cell in row.iter("td", "th")] for row in element.iter("tr")]
    if max(map(len, rows), default=0) < 2 or any(len(cell) > 1000 for row in rows for cell in row):
        return []
    caption = ("heading", tidy(element.findtext("caption") or ""))
    return [("end", ""), caption, *(("row", row(cells)) for cells in rows), ("end", "")]
