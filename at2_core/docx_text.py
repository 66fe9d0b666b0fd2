"""The text of a Word file in the order in which it stands: headings, paragraphs, items of lists, rows of tables, notes.

`read_docx(content)` is the text; DocumentNotRead says what is wrong, in words that stand behind the file's name.

Tags are compared without their namespaces, of which there are two (transitional and strict) for the same things. Of
changes that were tracked, the text after them is read. Nothing but the archive itself is opened.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import regex

from .errors import DocumentNotRead
from .text_blocks import Block, put_together, row, tidy

MOST_UNPACKED = 100 * 2**20  # bytes of one part; an archive yields no more than it says beforehand
_GONE = {"del", "moveFrom", "Fallback", "pPr", "sectPr", "instrText", "delText"}
_HEADING = regex.compile(r"(?i)(heading|title|subtitle|überschrift|titre|título|titolo)\b")


def read_docx(content: bytes) -> str:
    import lxml.etree

    if content.startswith(b"\xd0\xcf\x11\xe0"):
        raise DocumentNotRead("has a password or is of an old kind; save it as .docx without a password")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _Reader(archive).text()
    except (
        zipfile.BadZipFile, zlib.error, lxml.etree.LxmlError, EOFError, NotImplementedError, OSError, RuntimeError, ValueError,
    ) as error:  # fmt: skip
        raise DocumentNotRead("is a damaged .docx file or none at all; save or export it again") from error


class _Reader:
    """One open archive: its main part, the styles that are headings or lists, the notes met so far."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        main = self._related("", "officeDocument")
        if not main:
            raise DocumentNotRead("is no Word file, whatever its name says")
        self.main = self._part(main[0])
        self.styles = _styles(self._part(*self._related(main[0], "styles")))
        self.notes = {
            (kind, _attribute(note, "id")): note
            for kind in ("footnote", "endnote")
            for note in _children(self._part(*self._related(main[0], f"{kind}s")), kind)
        }
        self.noted: list[Any] = []

    def text(self) -> str:
        blocks = [block for body in _children(self.main, "body") for block in self._blocks(body)]
        number = 0
        while number < len(self.noted):  # a note may have notes
            note = self.noted[number]
            number += 1
            said = tidy(" ".join(text for _, text in self._blocks(note)))
            blocks.append(("text", f"[{number}] {said}"))
        return put_together(blocks)

    def _part(self, name: str = "") -> Any:
        """The root of a part; an empty element where there is none."""
        import lxml.etree

        if name not in self.archive.namelist():
            return lxml.etree.Element("none")
        size = self.archive.getinfo(name).file_size
        if size > MOST_UNPACKED:
            raise DocumentNotRead(f"unpacks to {size / 2**20:,.0f} MB of text, more than a document ever has")
        parser = lxml.etree.XMLParser(
            resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True
        )
        return lxml.etree.fromstring(self.archive.read(name), parser)

    def _related(self, part: str, kind: str) -> list[str]:
        """Name of the part that this one calls its `kind`, in a list, or []."""
        folder, base = posixpath.split(part)
        for relation in _children(
            self._part(posixpath.join(folder, "_rels", f"{base}.rels")), "Relationship"
        ):
            inside = relation.get("TargetMode") != "External"
            if inside and relation.get("Type", "").rsplit("/", 1)[-1] == kind:
                return [
                    posixpath.normpath(posixpath.join("/", folder, relation.get("Target", ""))).lstrip("/")
                ]
        return []

    def _blocks(self, container: Any) -> Iterator[Block]:
        for element in container:
            name = _name(element)
            if name == "p":
                yield self._paragraph(element)
                for box in _outermost(element, "txbxContent"):
                    yield "text", "\n".join(text for _, text in self._blocks(box) if text)
            elif name == "tbl":
                yield from self._table(element)
                yield "end", ""
            elif name not in _GONE:
                yield from self._blocks(element)

    def _paragraph(self, paragraph: Any) -> Block:
        lines = self._said(paragraph).split("\n")
        text = "\n".join(map(tidy, lines)).strip()
        properties = next(iter(_children(paragraph, "pPr")), ())
        style = next((_attribute(p, "val") for p in properties if _name(p) == "pStyle"), "")
        kind = self.styles.get(style, "text")
        numbers = [
            _attribute(n, "val") for p in properties if _name(p) == "numPr" for n in p if _name(n) == "numId"
        ]
        if numbers and kind != "heading":
            kind = "text" if numbers[0] == "0" else "item"
        return kind, f"- {text}" if kind == "item" and text else tidy(text) if kind == "heading" else text

    def _table(self, table: Any) -> Iterator[Block]:
        for line in _children(table, "tr"):
            cells = [list(self._blocks(cell)) for cell in _children(line, "tc")]
            if len(cells) == 1:  # a frame around what is in it
                yield from cells[0]
            else:
                yield "row", row(" ".join(text for _, text in cell) for cell in cells)

    def _said(self, element: Any) -> str:
        out = []
        for part in element:
            name = _name(part)
            if name in _GONE or name == "txbxContent" or (name == "r" and _is_hidden(part)):
                continue
            if name == "t":
                out.append(part.text or "")
            elif name in ("tab", "br", "cr", "noBreakHyphen"):
                out.append({"tab": "\t", "noBreakHyphen": "-"}.get(name, "\n"))
            elif name in ("footnoteReference", "endnoteReference"):
                note = self.notes.get((name.removesuffix("Reference"), _attribute(part, "id")))
                if note is not None and len(self.noted) < 10_000:
                    self.noted.append(note)
                    out.append(f" [{len(self.noted)}]")
            else:
                out.append(self._said(part))
        return "".join(out)


def _styles(root: Any) -> dict[str, str]:
    """What the paragraphs of a style are ("heading", "item"), by its id; a style may be based on another."""
    own, based = {}, {}
    for style in _children(root, "style"):
        known = _attribute(style, "styleId")
        names = {_name(part): part for part in style.iter()}
        title = _attribute(names["name"], "val") if "name" in names else ""
        level = _attribute(names["outlineLvl"], "val") if "outlineLvl" in names else "9"
        based[known] = _attribute(names["basedOn"], "val") if "basedOn" in names else ""
        if level != "9" or _HEADING.match(title):
            own[known] = "heading"
        elif "numId" in names or title.lower().startswith("list "):
            own[known] = "item"
    kinds = {}
    for style in based:
        at, left = style, 20
        while at not in own and at in based and left:
            at, left = based[at], left - 1
        kinds[style] = own.get(at, "text")
    return kinds


def _name(element: Any) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _attribute(element: Any, name: str) -> str:
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")


def _children(element: Any, name: str) -> list[Any]:
    return [child for child in element if _name(child) == name]


def _outermost(element: Any, name: str) -> Iterator[Any]:
    for child in element:
        if _name(child) == name:
            yield child
        elif _name(child) not in _GONE:
            yield from _outermost(child, name)


def _is_hidden(run: Any) -> bool:
    properties = next(iter(_children(run, "rPr")), ())
    return any(_name(p) == "vanish" and _attribute(p, "val") not in ("0", "false") for p in properties)
