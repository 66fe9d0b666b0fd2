"""A text cut into words, sentences or paragraphs: spans that tile it, for any script.

`split_words`, `split_sentences`, `split_paragraphs` each return character spans [start, end) in order that cover the
whole text, none of them without a visible character unless the text has none; [] for "".
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence

import regex
import sentencex

from .tokens import Span

# --------------------------------------------------------------------------------------------- words

_WORD_BORDER = regex.compile(r"(?wV1)\b")
_GRAPHEME = regex.compile(r"\X")
# Scripts written without spaces: only a dictionary could cut inside a run, so the run counts as a word.
_RUN = regex.compile(r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]{2,}")
_WORDLIKE = regex.compile(r"[\p{L}\p{N}\p{M}\p{So}\p{Extended_Pictographic}]")


def split_words(text: str) -> list[Span]:
    """Words by Unicode's default rules (UAX 29), each with the punctuation and whitespace around it; spans tile.

    A Chinese character or a hiragana is a word of its own, a run of katakana, Thai, Lao, Khmer or Burmese is one word.
    """
    graphemes = {m.start() for m in _GRAPHEME.finditer(text)}
    runs = [m.span() for m in _RUN.finditer(text)]
    inside_run = {i for s, e in runs for i in range(s + 1, e)}
    borders = sorted(({m.start() for m in _WORD_BORDER.finditer(text)} & graphemes) - inside_run | {0})
    starts: list[int] = []
    has_word, after_space = False, True
    for start, end in itertools.pairwise([*borders, len(text)]):
        piece = text[start:end]
        wordlike = bool(_WORDLIKE.search(piece))
        # A word opens a unit unless it follows its own opening punctuation; so does a mark that stands after a space.
        if not piece.isspace() and (after_space or (wordlike and has_word)):
            starts.append(start)
            has_word = False
        has_word |= wordlike
        after_space = piece.isspace()
    return _spans(starts, text)


# ----------------------------------------------------------------------------------------- sentences

_NEWLINE = r"\r\n\v\f\x85\u2028\u2029"
_LINE = regex.compile(rf"[^{_NEWLINE}]*(?:\r\n|[{_NEWLINE}])|[^{_NEWLINE}]+$")
# What opens an item, a row of a table, a heading or a quotation.
_ITEM = regex.compile(r"\s*(?:[-*+•·▪◦–—|#>]|\(?(?:\p{N}{1,3}|\p{L})[.)]\s)")
_ROW = regex.compile(r"\s*\|")
_ALONE = regex.compile(r"\s*[|#>]")  # a row or a heading is never continued on the next line
_CLOSED = regex.compile(r"[.!?:;|…。！？؟۔।॥።]['\"\p{Pe}\p{Pf}]*$")
# What still belongs to a sentence behind its stop.
_CLOSERS = regex.compile(r"(?:[*_~`'\"\p{Pe}\p{Pf}]+(?=\s|$))?\s*")
# An item's number, or an abbreviation that never ends a sentence.
_NOT_YET = regex.compile(
    r"(?:^[\s>#*•-]*\(?(?:\p{N}{1,3}|\p{L})[.)]"
    r"|\b(?i:e\.g|i\.e|cf|viz|approx|ca|z\.\s?B|d\.\s?h|p\.\s?ex|т\.\s?е|Dr|Mr|Mrs|Ms|Prof|St)\.)\s*$"
)
# Stops that the splitter lets pass.
_MISSED = regex.compile(r"(?<=[。！？])(?=\p{N})|(?<=[។៕])(?=\s)")
# The splitter's time grows with the square of the length of a Chinese text.
_CHUNK = regex.compile(r".{2000,}?[。！？]|.+$")
_SCRIPTS = {
    "ja": r"[\p{Hiragana}\p{Katakana}]",
    "zh": r"\p{Han}",
    "hi": r"\p{Devanagari}",
    "ar": r"\p{Arabic}",
    "ru": r"\p{Cyrillic}",
    "el": r"\p{Greek}",
    "hy": r"\p{Armenian}",
}


def split_sentences(text: str) -> list[Span]:
    """Sentences as spans that tile the text; [] for "". For the parts of a prompt and for a response alike.

    An item of a list ends a sentence, a row of a table is one; a line broken only to fit a page does not end any.
    """
    language = _language(text)
    starts: list[int] = []
    for line_start, line_end in _lines(text):
        if _ROW.match(text[line_start:line_end]):
            starts.append(line_start)
            continue
        # To the splitter the end of a wrapped line shall look like a space; one for one keeps the positions.
        line = regex.sub(f"[{_NEWLINE}]", " ", text[line_start:line_end])
        found = {m.start() for m in _MISSED.finditer(line)}
        for chunk in _CHUNK.finditer(line):
            sentences = sentencex.get_sentence_boundaries(language, chunk[0])
            found |= {chunk.start() + sentence["start_index"] for sentence in sentences}
        begun = 0
        for at in sorted(found):
            begins = _begins(line, begun, at)
            if begins is not None:
                starts.append(line_start + begins)
                begun = begins
        starts.append(line_start)
    return _spans(starts, text)


def _begins(line: str, begun: int, at: int) -> int | None:
    """Where the sentence really begins that the splitter lets begin at `at`; None if none does."""
    if 0 < at < len(line) and line[at - 1] == "." and line[at].isalnum():
        return None  # name.Attribute, an abbreviation without spaces
    if at > 0 and not line[at - 1].isspace():
        at = _CLOSERS.match(line, at).end()
    return None if _NOT_YET.search(line[begun:at]) else at


def _language(text: str) -> str:
    """The splitter's rules to use, by the script of most letters, since nobody told us the language."""
    counts = {code: len(regex.findall(script, text)) for code, script in _SCRIPTS.items()}
    if counts["ja"]:
        counts["ja"] += counts["zh"]  # Japanese is written with Chinese characters too
    code = max(counts, key=lambda code: counts[code])
    return code if 2 * counts[code] > len(regex.findall(r"\p{L}", text)) else "en"


def _lines(text: str) -> list[Span]:
    """Lines, where those that were broken only to fit a page are put together again; spans tile the text."""
    lines = [m.span() for m in _LINE.finditer(text)]
    shown = [text[start:end].strip() for start, end in lines]
    starts = [0]
    for _, block in itertools.groupby(range(len(lines)), key=lambda i: bool(shown[i])):
        numbers = list(block)
        if not shown[numbers[0]]:
            continue  # blank lines belong to the line before
        starts.append(lines[numbers[0]][0])
        width = _page_width([len(shown[i]) for i in numbers])
        starts += [
            lines[j][0] for i, j in itertools.pairwise(numbers) if not _wrapped(shown[i], shown[j], width)
        ]
    return _spans(starts, text)


def _page_width(lengths: list[int]) -> int:
    """The width that a block of lines was broken at, or 0 if its lines are of all lengths, as in a list."""
    width = max(lengths)
    full = sum(4 * length >= 3 * width for length in lengths[:-1])  # the last line is short
    return width if 40 <= width <= 100 and full > 1 and 2 * full >= len(lengths) - 1 else 0


def _wrapped(line: str, following: str, width: int) -> bool:
    """Whether a line goes on in the following: that begins with a small letter or, in a block of this width, with a
    word that had no more room."""
    if (
        len(line) < 40
        or not following
        or _CLOSED.search(line)
        or _ALONE.match(line)
        or _ITEM.match(following)
    ):
        return False
    no_room = len(line) + 1 + len(following.split(maxsplit=1)[0]) > width > 0
    return following[0].islower() or no_room


# ---------------------------------------------------------------------------------------- paragraphs

_BLANK = regex.compile(r"\n[^\S\n]*\n\s*")


def split_paragraphs(text: str) -> list[Span]:
    """Paragraphs as spans that tile the text: between blank lines, or line by line where there are none."""
    # A paragraph starts at its line's start, so that it keeps its indent.
    starts = [text.rfind("\n", 0, m.end()) + 1 for m in _BLANK.finditer(text)]
    spans = _spans([0, *starts], text)
    return spans if len(spans) > 1 else _lines(text)


def _spans(starts: Sequence[int], text: str) -> list[Span]:
    """Spans that tile the text. A start is left out if it would leave nothing visible on one side or part a character
    from its marks."""
    if not text:
        return []
    kept, visible_end = [0], len(text.rstrip())
    for start in sorted(set(starts)):
        if start <= kept[-1] or start >= visible_end or text[kept[-1] : start].isspace():
            continue
        if unicodedata.combining(text[start]) or text[start] in "\u200d\ufe0f":
            continue
        kept.append(start)
    return list(itertools.pairwise([*kept, len(text)]))
