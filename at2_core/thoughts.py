"""A response cut into thought and answer, by the pair of markers that its model puts around a thought.

- `split_thoughts(text, markers)`: the segments of a response; they tile it
- `markers_of(tokenizer)`: the pair that a model's tokenizer or chat template knows, or None
- `response_sentences(text, segments)`: its sentences, none of which reaches across a border
- `parts_of(...)`: the segments' texts as parts that can be cut into sources

A response may be cut off inside a thought, begin inside one that the chat template has opened, or speak of markers
inside a thought. A closing marker that closes nothing is text of the answer.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import At2Error
from .prompts import Part
from .segmentation import split_sentences
from .tokens import Span, anchor

Markers = tuple[str, str]  # what opens a thought, what closes it
USUAL: Markers = ("<think>", "</think>")
LONGEST_MARKER = 100  # characters

# Words by which models name their thoughts, and the forms in which a pair of markers is built from one.
_WORD = r"(?:think|thinking|thought|thoughts|reason|reasoning|scratchpad)"
_FORMS = [
    (rf"<((?:\w+:)?{_WORD})>", "</{}>"),
    (rf"\[({_WORD})\]", "[/{}]"),
    (rf"<\|({_WORD})\|>", "<|/{}|>"),
    (rf"<\|begin_of_({_WORD})\|>", "<|end_of_{}|>"),
    (rf"<\|start_of_({_WORD})\|>", "<|end_of_{}|>"),
    (rf"<\|start_({_WORD})\|>", "<|end_{}|>"),
]


@dataclass(frozen=True)
class Segment:
    """Characters [start, end) of a response; what it says is [text_start, text_end), without its markers and the white space
    around them."""

    kind: str  # "thought" or "answer"
    start: int
    end: int
    text_start: int
    text_end: int


def split_thoughts(text: str, markers: Markers | None = None, *, opened: bool = False) -> list[Segment]:
    """The thoughts and answers of a response, in order; they tile it. [] for "".

    markers: USUAL where none are given. opened: whether the prompt ends inside a thought. A text whose first marker is a
    closing one began inside a thought, too. Raises At2Error for markers that mark nothing.
    """
    opening, closing = markers or USUAL
    check_markers((opening, closing))
    found = list(_found(text, opening, closing))
    opened = opened or (opening != closing and bool(found) and found[0][0] == "close")
    segments: list[Segment] = []
    at = 0
    while at < len(text):
        if not opened:
            start = next((span for kind, span in found if kind != "close" and span[0] >= at), None)
            begin = start[0] if start else len(text)
            if begin > at:
                segments.append(Segment("answer", at, begin, at, begin))
            if start is None:
                break
            at, inside = start
        else:
            inside, opened = at, False
        close = _end_of_thought([(kind, span) for kind, span in found if span[0] >= inside])
        last, end = close or (len(text), len(text))
        first = _past_blanks(text, inside, last)
        last = first + len(text[first:last].rstrip()) if close else last
        following = next((span[0] for _, span in found if span[0] >= end), len(text))
        end = _past_blanks(text, end, following)
        segments.append(Segment("thought", at, end, first, last))
        at = end
    return segments


def check_markers(markers: Markers) -> None:
    """Raises At2Error, with what to do, if these cannot mark a thought."""
    if not all(marker.strip() for marker in markers):
        raise At2Error(
            "A thought needs a marker on both sides; give the text that opens it and the text that closes it."
        )
    if any(len(marker) > LONGEST_MARKER for marker in markers):
        raise At2Error(f"A marker has at most {LONGEST_MARKER} characters; give the marker alone.")


def is_opened(prompt: str, markers: Markers | None = None) -> bool:
    """Whether the prompt ends with the marker that opens a thought, as some chat templates do."""
    return prompt.rstrip().endswith((markers or USUAL)[0].strip())


def markers_of(tokenizer: Any) -> Markers | None:
    """The pair around a thought among a tokenizer's added tokens, else in its chat template; None if it knows none."""
    known = [token.content for token in getattr(tokenizer, "added_tokens_decoder", {}).values()]
    template = getattr(tokenizer, "chat_template", None)
    templates = template.values() if isinstance(template, dict) else [template]
    written = "\n".join(text for text in templates if isinstance(text, str))
    for form, closing in _FORMS:
        for content in known:
            match = re.fullmatch(form, content, re.IGNORECASE)
            if match and (end := _closing(closing, match[1], known)):
                return content, end
    for form, closing in _FORMS:
        for match in re.finditer(form, written, re.IGNORECASE):
            if closing.format(match[1]) in written:
                return match[0], closing.format(match[1])
    return None


def response_sentences(text: str, segments: Sequence[Segment]) -> list[Span]:
    """Sentences that tile the text. A marker is one of its own, together with a thought that says nothing."""
    spans: list[Span] = []
    for segment in segments:
        said = text[segment.text_start : segment.text_end]
        own = (
            [(segment.text_start + start, segment.text_start + end) for start, end in split_sentences(said)]
            if said.strip() or segment.kind == "answer"
            else []
        )
        first, last = (own[0][0], own[-1][1]) if own else (segment.end, segment.end)
        spans += [(segment.start, first)] if first > segment.start else []
        spans += own
        spans += [(last, segment.end)] if last < segment.end else []
    return spans


def parts_of(
    text: str, offsets: Sequence[Span], markers: Markers | None = None, *, opened: bool = False
) -> list[Part]:
    """What the segments of a response say, as parts of kind "thought" or "response" in its characters and tokens.

    Markers belong to no part, as the template's tokens in a prompt. offsets: (T,) characters of each token.
    """
    anchors = [anchor(text, span) for span in offsets]
    parts = []
    for segment in split_thoughts(text, markers, opened=opened):
        first = bisect_left(anchors, segment.text_start) if segment.text_start else 0
        last = bisect_left(anchors, segment.text_end) if segment.text_end < len(text) else len(anchors)
        kind = "thought" if segment.kind == "thought" else "response"
        if text[segment.text_start : segment.text_end].strip() and last > first:
            parts.append(Part(kind, segment.text_start, segment.text_end, first, last))
    return parts


def _found(text: str, opening: str, closing: str) -> Iterator[tuple[str, Span]]:
    """The markers in a text, in order: "open", "close", or "either" where both are written alike."""
    longest_first = sorted({opening, closing}, key=len, reverse=True)
    for match in re.finditer("|".join(map(re.escape, longest_first)), text):
        kind = "either" if opening == closing else "open" if match[0] == opening else "close"
        yield kind, match.span()


def _past_blanks(text: str, at: int, limit: int) -> int:
    while at < limit and text[at].isspace():
        at += 1
    return at


def _end_of_thought(found: Sequence[tuple[str, Span]]) -> Span | None:
    """The marker that closes a thought, among those behind its beginning; None if it was cut off.

    Thoughts may hold thoughts. Where more of them open than close, the last marker that closes is taken for its end.
    """
    depth = 1
    for kind, span in found:
        depth += 1 if kind == "open" else -1
        if not depth:
            return span
    return next((span for kind, span in reversed(found) if kind != "open"), None)


def _closing(form: str, word: str, known: Sequence[str]) -> str | None:
    wished = form.format(word).lower()
    return next((content for content in known if content.lower() == wished), None)
