"""The sources of a prompt: what gets a score, at five granularities, each with exact characters and tokens.

- `cut(prompt, granularity)`: the sources of the context; they tile it, in characters and in tokens
- `split_sentences(text)`: the sentences of any text, as spans that tile it (from `segmentation`)

A cut is made in characters first and then moved to tokens: a token goes where its first visible character is, and a
unit that is left without a token joins its neighbour.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import At2Error
from .prompts import Part, Prompt
from .segmentation import split_paragraphs, split_sentences, split_words
from .tokens import anchor

__all__ = ["GRANULARITIES", "Source", "cut", "split_sentences"]

GRANULARITIES = ("token", "word", "sentence", "paragraph", "document")

_SPLIT = {
    "word": split_words,
    "sentence": split_sentences,
    "paragraph": split_paragraphs,
    "document": lambda text: [(0, len(text))],
}


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
        split = _SPLIT[granularity]
        starts = [part.start + s for s, _ in split(prompt.text[part.start : part.end])]
        borders, firsts = _to_tokens(prompt, part, starts)
    borders, firsts = [*borders, part.end], [*firsts, part.token_end]
    return [
        Source(prompt.text[s:e], s, e, first, last, part.document or 0)
        for (s, e), (first, last) in zip(itertools.pairwise(borders), itertools.pairwise(firsts), strict=True)
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
