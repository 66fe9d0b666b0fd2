"""The sources of a prompt: what gets a score, at five granularities, each with exact characters and tokens.

- `cut(prompt, granularity)`: the sources of the context; they tile it, in characters and in tokens
- `split_sentences(text)`: the sentences of any text, as spans that tile it

A cut is made in characters first (`_units`) and then moved to tokens (`_to_tokens`): a token goes where its first
visible character is, and a unit that is left without a token joins its neighbour.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import regex
import sentencex

from .errors import At2Error
from .prompts import Part, Prompt
from .tokens import Span, anchor

GRANULARITIES = ("token", "word", "sentence", "paragraph", "document")


@dataclass(frozen=True)
class Source:
    """A unit of the prompt that gets a score: characters [start, end) and tokens [token_start, token_end)."""

    text: str
    start: int
    end: int
    token_start: int
    token_end: int
    document: int


def cut(prompt: Prompt, granularity: str, *, kinds: Sequence[str] = ("context",)) -> list[Source]:
    """The sources of the parts of these kinds, in order. They tile each part and never reach across two."""
    if granularity not in GRANULARITIES:
        raise At2Error(f"A granularity is one of {', '.join(GRANULARITIES)}, not {granularity!r}.")
    sources: list[Source] = []
    for part in prompt.parts:
        if part.kind in kinds and part.token_start < part.token_end:
            sources += _cut_part(prompt, part, granularity)
    return sources


def _cut_part(prompt: Prompt, part: Part, granularity: str) -> list[Source]:
    if granularity == "token":
        borders, firsts = _tokens(prompt, part)
    else:
        starts = [part.start + s for s, _ in _units(prompt.text[part.start : part.end], granularity)]
        borders, firsts = _to_tokens(prompt, part, starts)
    borders, firsts = [*borders, part.end], [*firsts, part.token_end]
    return [
        Source(prompt.text[s:e], s, e, first, last, part.document or 0)
        for s, e, first, last in zip(borders, borders[1:], firsts, firsts[1:], strict=False)
    ]


def _tokens(prompt: Prompt, part: Part) -> tuple[list[int], list[int]]:
    """Where each source of granularity token starts, in characters and in tokens. Tokens that share a character
    (the bytes of an emoji) are one source."""
    borders, firsts = [part.start], [part.token_start]
    reached = max(part.start, prompt.offsets[part.token_start][1])
    for i in range(part.token_start + 1, part.token_end):
        span = prompt.offsets[i]
        own = min(span[1], part.end) > reached  # a last token without characters of its own opens no source
        if own and reached > borders[-1] and anchor(prompt.text, span) >= reached:
            borders.append(reached)
            firsts.append(i)
        reached = max(reached, span[1])
    return borders, firsts


def _to_tokens(prompt: Prompt, part: Part, starts: list[int]) -> tuple[list[int], list[int]]:
    """The starts that keep at least one token, and that token. `starts` begin with the part's own."""
    first: dict[int, int] = {}
    for i in range(part.token_start, part.token_end):
        unit = max(0, bisect_right(starts, anchor(prompt.text, prompt.offsets[i])) - 1)
        first.setdefault(unit, i)
    kept = sorted(first)
    # What comes before the first unit with a token belongs to it, so that the part is covered from its start.
    return [part.start, *(starts[u] for u in kept[1:])], [first[u] for u in kept]


def _units(text: str, granularity: str) -> list[Span]:
    if granularity == "word":
        return split_words(text)
    if granularity == "sentence":
        return split_sentences(text)
    if granularity == "paragraph":
        return split_paragraphs(text)
    return [(0, len(text))] if text else []


# --------------------------------------------------------------------------------------------- words

_WORD_BORDER = regex.compile(r"(?wV1)\b")
_GRAPHEME = regex.compile(r"\X")
_RUN = regex.compile(  # scripts written without spaces: only a dictionary could cut inside a run, so the run is the word
    r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]{2,}"
)
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
    for start, end in zip(borders, [*borders[1:], len(text)], strict=True):
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

_ITEM = regex.compile(r"\s*([-*+•·▪◦–—|#>]|\(?\p{N}{1,3}[.)]\s|\(?\p{L}[.)]\s)")
_CLOSED = regex.compile(r"[.!?:;|…。！？؟۔।॥።][\p{Pe}\p{Pf}\"']*$")
_SCRIPTS = (
    ("ja", r"[\p{Hiragana}\p{Katakana}]"),
    ("zh", r"\p{Han}"),
    ("hi", r"\p{Devanagari}"),
    ("ar", r"\p{Arabic}"),
)


def split_sentences(text: str) -> list[Span]:
    """Sentences as spans that tile the text; [] for "". Works for a prompt's parts and for a response alike.

    A line of a list or a table ends a sentence; a line that was only wrapped does not.
    """
    starts: list[int] = []
    language = _language(text)
    for line_start, line_end in _lines(text):
        # The splitter wants a wrapped line's end to look like a space; one character for one keeps the positions.
        line = regex.sub(r"[\r\n\v\f\x85\u2028\u2029]", " ", text[line_start:line_end])
        for sentence in sentencex.get_sentence_boundaries(language, line):
            starts.append(line_start + sentence["start_index"])
    return _spans(starts, text)


def _language(text: str) -> str:
    """The splitter's rules to use, by script: nobody told us the language. English where the letters are Latin."""
    letters = len(regex.findall(r"\p{L}", text))
    for code, script in _SCRIPTS:
        if len(regex.findall(script, text)) * 5 > letters:
            return code
    return "en"


def _lines(text: str) -> list[Span]:
    """Lines, where lines that were broken only to fit a page's width are put together again; spans tile."""
    lines = [m.span() for m in regex.finditer(r"[^\n]*\n|[^\n]+$", text)]
    starts = [s for s, _ in lines[:1]]
    for (start, end), (next_start, next_end) in zip(lines, lines[1:], strict=False):
        if not _wrapped(text[start:end].strip(), text[next_start:next_end].strip()):
            starts.append(next_start)
    return _spans(starts, text)


def _wrapped(line: str, following: str) -> bool:
    if len(line) < 40 or not following or _CLOSED.search(line) or _ITEM.match(line) or _ITEM.match(following):
        return False
    return following[0].islower()


# ---------------------------------------------------------------------------------------- paragraphs


def split_paragraphs(text: str) -> list[Span]:
    """Paragraphs as spans that tile the text: between blank lines, or line by line where there are none."""
    blank = [m.end() for m in regex.finditer(r"\n[^\S\n]*\n\s*", text)]
    inner = [at for at in blank if text[:at].strip() and text[at:].strip()]
    if inner:
        return _spans([0, *(at - _indent(text, at) for at in inner)], text)
    return _spans([s for s, _ in _lines(text)], text)


def _indent(text: str, at: int) -> int:
    """How many spaces before `at` belong to its own line: an indented paragraph keeps its indent."""
    return at - 1 - text.rfind("\n", 0, at)


def _spans(starts: Sequence[int], text: str) -> list[Span]:
    """Spans that tile the text. A start that would leave a span of whitespace, or split a character from its marks,
    is left out."""
    if not text:
        return []
    kept = [0]
    for start in sorted(set(starts)):
        if start <= kept[-1] or not text[start:].strip():
            continue
        if not text[kept[-1] : start].strip():
            continue
        if unicodedata.combining(text[start]) or text[start] in "\u200d\ufe0f":
            continue
        kept.append(start)
    return list(zip(kept, [*kept[1:], len(text)], strict=True))
