"""The lines of a PDF's pages with their places, without what is printed around the text.

`read_lines(content)`: for each page its `Line`s in reading order; DocumentNotRead says what is wrong with the file, in
words that stand behind its name.
"""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import regex

from .errors import DocumentNotRead

MOST_PAGES = 5000
Mark = tuple[str, int]
_NUMBER = regex.compile(r"(\d{1,9})", regex.ASCII)
PARTED = "\ufffe"  # what the reader writes for a hyphen at a line's end


@dataclass(frozen=True)
class Line:
    """One line as printed; points, measured from the lower left corner of the page as it is looked at."""

    text: str
    left: float
    bottom: float
    right: float
    top: float

    @property
    def height(self) -> float:
        return self.top - self.bottom


def read_lines(content: bytes) -> list[list[Line]]:
    """The lines of each page, [] for one without text."""
    return _without_running_lines([_without_rulers(page) for page in _pages(content)])


def _pages(content: bytes) -> list[list[Line]]:
    import pypdfium2

    if b"%PDF-" not in content[:1024]:
        raise DocumentNotRead("is no PDF file, whatever its name says")
    try:
        pdf = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise DocumentNotRead("is locked by a password; save it without one first") from error
        raise DocumentNotRead("is a damaged PDF file; save or export it again") from error
    if len(pdf) > MOST_PAGES:
        raise DocumentNotRead(
            f"has {len(pdf):,} pages; {MOST_PAGES:,} is the most, so take the part that matters"
        )
    pages = []
    for number in range(len(pdf)):
        try:
            pages.append(_lines(pdf[number]))
        except pypdfium2.PdfiumError:
            pages.append([])  # one damaged page does not take the others with it
    return pages


def _lines(page: Any) -> list[Line]:
    """The page's lines in reading order; what stands side by side, as a raised figure does, is one line."""
    textpage = page.get_textpage()
    text = textpage.get_text_range()
    quarters = page.get_rotation() // 90
    lines: list[Line] = []
    for match in regex.finditer(rf"[^\r\n{PARTED}]+{PARTED}?", text):
        shown = [i for i in range(*match.span()) if not text[i].isspace() and text[i] != PARTED]
        if not shown:
            continue
        places = {shown[0], shown[len(shown) // 2], shown[-1]}
        boxes = [box for i in places if (box := _box(textpage, i, quarters))]
        if not boxes:
            continue
        low = statistics.median(box[1] for box in boxes)
        high = low + statistics.median(box[3] - box[1] for box in boxes)
        left, right = min(box[0] for box in boxes), max(box[2] for box in boxes)
        line = Line(" ".join(match[0].split()), left, low, right, high)
        if lines and _side_by_side(lines[-1], line):
            lines[-1] = _beside(lines[-1], line)
        else:
            lines.append(line)
    return lines


def _box(textpage: Any, index: int, quarters: int) -> tuple[float, float, float, float] | None:
    """Left, bottom, right, top of a character of the text on a page that is turned by so many quarters."""
    import pypdfium2

    place = pypdfium2.raw.FPDFText_GetCharIndexFromTextIndex(textpage, index)
    if place < 0:
        return None
    left, bottom, right, top = textpage.get_charbox(place, loose=True)
    for _ in range(quarters % 4):
        left, bottom, right, top = bottom, -right, top, -left
    return left, bottom, right, top


def _side_by_side(a: Line, b: Line) -> bool:
    shared = min(a.top, b.top) - max(a.bottom, b.bottom)
    return shared > 0.5 * min(a.height, b.height) and b.left > a.right - 0.3 * a.height


def _beside(a: Line, b: Line) -> Line:
    gap = " " if b.left - a.right > 0.15 * a.height else ""
    taller = a if a.height >= b.height else b
    return replace(taller, text=a.text + gap + b.text, left=a.left, right=b.right)


def _without_rulers(page: Sequence[Line]) -> list[Line]:
    """Without the numbers that count the lines of a manuscript, which are read as a column of their own."""
    numbers = [int(line.text) if line.text.isdecimal() and len(line.text) < 6 else None for line in page]
    kept: list[Line] = []
    begun = 0
    for i in range(1, len(page) + 1):
        before = numbers[i - 1]
        if i == len(page) or before is None or numbers[i] != before + 1:
            kept += page[begun:i] if i - begun < 20 else []
            begun = i
    return kept


def _without_running_lines(pages: list[list[Line]]) -> list[list[Line]]:
    """Pages without what stands at the same place of many of them: page numbers, and a running title but for its first.

    A number that differs otherwise than the pages' own numbers do is not one of them: it may be what a page is about.
    """
    marks = [
        {line: _marks(line, number) for line in {*edge[:2], *edge[-2:]}}
        for number, edge in enumerate(sorted(page, key=lambda line: line.bottom) for page in pages)
    ]
    counts = Counter(mark for page in marks for found in page.values() for mark in found)
    often = max(3, len([page for page in pages if page]) // 3)  # titles of left and right pages differ
    seen: set[Mark] = set()
    kept = []
    for page, found in zip(pages, marks, strict=True):
        out = set()
        for line, (same, *counted) in found.items():
            if any(counts[mark] >= often for mark in counted) or (counts[same] >= often and same in seen):
                out.add(line)
            seen.add(same)
        kept.append([line for line in page if line not in out] or page)
    return kept


def _marks(line: Line, page: int) -> list[Mark]:
    """A line and its height on the page: as it is, then with some of its numbers counted from the page's own, and as
    whatever stands beside such a number."""
    place = round(line.bottom / 4)
    pieces = _NUMBER.split(line.text)  # every second one is a number
    ways = itertools.product(*[(n, f"#{int(n) - page}") for n in pieces[1:6:2]])
    texts = [
        "".join(itertools.chain(*zip(pieces[::2], [*way, *pieces[7::2], ""], strict=True))) for way in ways
    ]
    if len(pieces) > 1 and len(line.text) < 100:
        texts += [f"#{int(pieces[1]) - page} …"] if not pieces[0] else []
        texts += [f"… #{int(pieces[-2]) - page}"] if not pieces[-1] else []
    return [(text, place) for text in texts]
