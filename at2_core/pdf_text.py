"""The text of a PDF in paragraphs, page by page.

A PDF knows characters and their places, not sentences. Where a line ends only because the page does, it is put together
with the next one, and a word that was parted there is mended; where a person ended it, it stays ended. Where each
page begins is told beside the text: so a source can say where it stands, and the text stays the document's own.

`read_pdf(content)` is a document without a title; DocumentNotRead says what is wrong, in words that stand behind the file's
name.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import regex

from .errors import DocumentNotRead
from .pdf_lines import PARTED, Line, read_lines
from .plain_text import visible
from .prompts import Document

_ENDED = regex.compile(r"[.!?:;…。！？؟۔।॥]['\"\p{Pe}\p{Pf}\p{N}]*$")
_ITEM = regex.compile(r"(?:[-*•·▪◦–—]|\(?(?:\p{N}{1,3}|\p{L})[.)]|\[\p{N}{1,3}\])\s")
_DENSE = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}。、，！？：；「」（）]"
_UNSPACED = regex.compile(rf"{_DENSE}\n{_DENSE}")
_STOP = regex.compile(r"[.!?…。！？؟۔।॥]['\"\p{Pe}\p{Pf}]*(?:\s|$)")


def read_pdf(content: bytes) -> Document:
    """The text of all pages, their paragraphs parted by blank lines; DocumentNotRead where there is none."""
    pages = read_lines(content)
    if not any(pages):
        raise DocumentNotRead("has no text, only pictures of it; run a text recognition (OCR) over it first")
    words = Counter(
        word for page in pages for line in page for word in regex.findall(r"[\p{L}\p{N}-]+", line.text)
    )
    pitches = _pitches(pages)
    body = _body_height(pages)
    numbered = [(n, _paragraphs(page, pitches, body, words)) for n, page in enumerate(pages, 1) if page]
    _carry_sentences(numbered)
    text = ""
    begun = []
    for number, shown in numbered:
        said = visible("\n\n".join(shown))  # before anything is counted
        if said.strip():
            text += "\n\n" if text else ""
            begun.append((len(text), number))
            text += said
    return Document("", text, tuple(begun))


def _pitches(pages: Sequence[Sequence[Line]]) -> dict[int, float]:
    """From one line of a paragraph to the next, in points, by the height of the lines."""
    steps: dict[int, list[float]] = {}
    for page in pages:
        for a, b in itertools.pairwise(page):
            step = a.bottom - b.bottom
            if round(a.height) == round(b.height) and 0.5 * a.height < step < 3 * a.height:
                steps.setdefault(round(a.height), []).append(step)
    # Below the median: where most paragraphs are single lines, the median is the step between paragraphs.
    return {height: sorted(found)[len(found) * 3 // 10] for height, found in steps.items()}


def _body_height(pages: Sequence[Sequence[Line]]) -> float:
    """The height of the lines in which most of the text stands."""
    heights: Counter[float] = Counter()
    for page in pages:
        for line in page:
            heights[round(line.height, 1)] += len(line.text)
    return heights.most_common(1)[0][0]


def _paragraphs(
    lines: Sequence[Line], pitches: dict[int, float], body: float, words: Counter[str]
) -> list[str]:
    """The lines put together; a heading stands on a line of its own above its paragraph."""
    margins = _margins(lines)
    texts = [[lines[0].text]]
    starts = [0]
    for i, (a, b) in enumerate(itertools.pairwise(lines), 1):
        first = starts[-1] == i - 1
        between = _between(a, b, margins[i - 1], pitches.get(round(a.height), 1.3 * a.height), first)
        if between == "\n\n" and not (first and _is_heading(a, body) and not _is_heading(b, body)):
            texts.append([b.text])
            starts.append(i)
        elif between == " ":
            texts[-1][-1] = _mended(texts[-1][-1], b.text, words)
        else:
            texts[-1].append(b.text)
    return ["\n".join(line.replace(PARTED, "-") for line in text) for text in texts]


def _margins(lines: Sequence[Line]) -> list[float]:
    """For each line the right edge of its column: a column goes down, the next one starts higher."""
    margins: list[float] = []
    begun = 0
    for i in range(1, len(lines) + 1):
        if i == len(lines) or lines[i].bottom > lines[i - 1].top:
            edges = sorted(line.right for line in lines[begun:i])
            # Not the farthest: a title may run across columns.
            margins += [edges[(len(edges) - 1) * 3 // 4]] * (i - begun)
            begun = i
    return margins


def _between(a: Line, b: Line, margin: float, pitch: float, first: bool) -> str:
    """What stands between two lines: a blank line, a line's end, or a space.

    first: whether `a` opens its paragraph, and so may stand farther in than the lines below it.
    """
    if a.text.endswith(PARTED):
        return " "
    ended = bool(_ENDED.search(a.text))
    goes_on = not ended and b.text[0].islower()
    # Whether the next word had had room: then a person ended the line.
    letter = (a.right - a.left) / max(len(a.text), 1)
    had_room = margin - a.right > 1.3 * letter * (1 + len(b.text.split(maxsplit=1)[0]))
    in_new_column = b.bottom > a.top
    if goes_on and (in_new_column or a.bottom - b.bottom < 3 * pitch):
        return " "
    if max(a.height, b.height) > 1.15 * min(a.height, b.height):
        return "\n\n"
    if in_new_column:
        return "\n\n" if ended or had_room else " "
    if a.bottom - b.bottom > 1.3 * pitch:
        return "\n\n"
    if _ITEM.match(b.text):
        return "\n"
    inwards = b.left - a.left
    if ended and (inwards > 0.8 * a.height or (inwards < -0.8 * a.height and not first)):
        return "\n\n"
    if had_room:
        return "\n\n" if ended and not first else "\n"
    return " "


def _is_heading(line: Line, body: float) -> bool:
    return line.height > 1.05 * body and len(line.text) < 120 and not _ENDED.search(line.text)


def _mended(before: str, after: str, words: Counter[str]) -> str:
    """Two lines as one; a word parted between them is put together unless the text writes it with its hyphen."""
    parted = before.endswith((PARTED, "-", "\u2010", "\u00ad")) and before[-2:-1].isalpha()
    if not parted or not after[0].isalpha():
        joint = f"{before.replace(PARTED, '-')}\n{after}"
        return joint.replace("\n", "" if _UNSPACED.search(joint) or parted else " ")
    head, tail = regex.search(r"[\p{L}\p{N}-]*.$", before)[0][:-1], regex.match(r"[\p{L}\p{N}-]*", after)[0]
    whole, hyphened = words[head + tail], words[f"{head}-{tail}"]
    keep = hyphened > whole or (not whole and after[0].isupper())
    return f"{before[:-1]}{'-' if keep else ''}{after}"


def _carry_sentences(pages: Sequence[tuple[int, list[str]]]) -> None:
    """A sentence stands whole on the page on which it begins: the rest of it is moved there."""
    for (_, page), (_, following) in itertools.pairwise(pages):
        if not page or not following or _ENDED.search(page[-1]) or not following[0][0].islower():
            continue
        stop = _STOP.search(following[0])
        end = stop.end() if stop else len(following[0])
        if end > 600:
            continue
        page[-1] = _mended(page[-1], following[0][:end].rstrip(), Counter())
        following[0] = following[0][end:]
        if not following[0]:
            del following[0]
