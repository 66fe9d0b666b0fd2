"""The sources of a prompt: what gets a score, at five granularities, each with exact characters and tokens.

- `cut(prompt, granularity)`: the sources of the context; they tile it, in characters and in tokens
- `cut_all(gen, granularity, scope)`: those of the whole prompt, or also of the response itself, with their roles
- `page_of(source, gen)`: the page that a source stands on, where its document has pages
- `split_sentences(text)`: the sentences of any text, as spans that tile it (from `segmentation`)

A cut is made in characters first and then moved to tokens: a token goes where its first visible character is, and a
unit that is left without a token joins its neighbour.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Protocol

from .errors import At2Error
from .prompts import ContextTask, Part, Prompt, Turn
from .segmentation import split_paragraphs, split_sentences, split_words
from .thoughts import Markers, is_opened, parts_of
from .tokens import Span, anchor

__all__ = ["GRANULARITIES", "SCOPES", "Source", "cut", "cut_all", "in_scope", "page_of", "split_sentences"]

GRANULARITIES = ("token", "word", "sentence", "paragraph", "document")
SCOPES = (
    "context",  # the context or the documents' texts
    "prompt",  # everything in the prompt but the template
    "thought",  # the response's own thought, before its answer
    "all",  # the prompt, and the response before what is attributed
)
REACHING = ("thought", "all")  # scopes whose sources may stand in the response
OWN_ROLES = ("thought", "response")  # of sources in the response itself

_SPLIT = {
    "word": split_words,
    "sentence": split_sentences,
    "paragraph": split_paragraphs,
    "document": lambda text: [(0, len(text))],
}


@dataclass(frozen=True)
class Source:
    """A unit that gets a score: characters [start, end) and tokens [token_start, token_end) of the prompt.

    A source in the response counts on from there: its first character is `len(prompt.text)`, its first token `prompt.n`.
    role: "context", "title", "query", "system", "user" or "assistant" (an earlier turn, whose number is `turn`), "thought" or
    "response".
    """

    text: str
    start: int
    end: int
    token_start: int
    token_end: int
    document: int
    role: str = "context"
    turn: int | None = None


class Answered(Protocol):
    """A prompt and its response: a Generation, an Exploration."""

    @property
    def task(self) -> ContextTask: ...
    @property
    def rendered(self) -> Prompt: ...
    @property
    def text(self) -> str: ...
    @property
    def response_offsets(self) -> Sequence[Span]: ...


def cut(
    prompt: Prompt, granularity: str, *, kinds: Sequence[str] = ("context",), turns: Sequence[Turn] = ()
) -> list[Source]:
    """The sources of the parts of these kinds, in order. They tile each part and never reach across two.

    turns: the task's history, for the roles of its parts; without it their role is "history".
    """
    if granularity not in GRANULARITIES:
        raise At2Error(f"A granularity is one of {', '.join(GRANULARITIES)}, not {granularity!r}.")
    sources: list[Source] = []
    for part in prompt.parts:
        if part.kind in kinds and part.token_start < part.token_end:
            sources += _cut_part(prompt, part, granularity, role_of(part, turns))
    return sources


def cut_all(
    gen: Answered, granularity: str, scope: str = "all", *, markers: Markers | None = None
) -> list[Source]:
    """The sources of a scope, in order: those of the prompt's parts, then those of the response's thoughts and answers.

    markers: what a thought stands between (see `thoughts`); they belong to no source, and neither does the template.
    """
    if scope not in SCOPES:
        raise At2Error(f"A scope is one of {', '.join(SCOPES)}, not {scope!r}.")
    prompt, turns = gen.rendered, gen.task.history
    kinds = ("context",) if scope == "context" else tuple({part.kind for part in prompt.parts})
    sources = [] if scope == "thought" else cut(prompt, granularity, kinds=kinds, turns=turns)
    if scope in REACHING:
        opened = is_opened(prompt.text, markers)
        parts = parts_of(gen.text, gen.response_offsets, markers, opened=opened)
        kinds = ("thought",) if scope == "thought" else OWN_ROLES
        ids = tuple(range(len(gen.response_offsets)))  # only their number counts
        answer = Prompt(text=gen.text, ids=ids, offsets=tuple(gen.response_offsets), parts=tuple(parts))
        sources += [_behind(prompt, source) for source in cut(answer, granularity, kinds=kinds)]
    return sources


def in_scope(source: Source, scope: str) -> bool:
    """Whether `cut_all` would return the source for this scope."""
    if scope == "context":
        return source.role == "context"
    if scope == "thought":
        return source.role == "thought"
    return scope == "all" or source.role not in OWN_ROLES


def page_of(source: Source, gen: Answered) -> int | None:
    """The page on which a source of the context begins; None where its document has no pages, or is all of several."""
    documents = gen.task.documents
    if source.role != "context" or source.document >= len(documents):
        return None
    pages = documents[source.document].pages
    texts = [part for part in gen.rendered.parts if part.kind == "context"]
    part = next((part for part in texts if part.document == source.document), None)
    if part is None or (len(pages) > 1 and (source.start, source.end) == (part.start, part.end)):
        return None
    at = bisect_right(pages, source.start - part.start, key=itemgetter(0))
    return pages[at - 1][1] if at else None


def role_of(part: Part, turns: Sequence[Turn] = ()) -> str:
    """The role of a part's sources."""
    if part.kind == "history" and part.turn is not None and part.turn < len(turns):
        return turns[part.turn].role
    return part.kind


def _behind(prompt: Prompt, source: Source) -> Source:
    """A source of the response alone, counted on from the prompt's end."""
    shift, n = len(prompt.text), prompt.n
    return replace(
        source, start=source.start + shift, end=source.end + shift,
        token_start=source.token_start + n, token_end=source.token_end + n,
    )  # fmt: skip


def _cut_part(prompt: Prompt, part: Part, granularity: str, role: str) -> list[Source]:
    if granularity == "token":
        borders, firsts = _tokens(prompt, part)
    else:
        split = _SPLIT[granularity]
        starts = [part.start + s for s, _ in split(prompt.text[part.start : part.end])]
        borders, firsts = _to_tokens(prompt, part, starts)
    borders, firsts = [*borders, part.end], [*firsts, part.token_end]
    return [
        Source(prompt.text[s:e], s, e, first, last, part.document or 0, role, part.turn)
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
