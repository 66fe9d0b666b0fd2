"""A response cut into thought and answer, by the pair of markers that its model puts around a thought.

- `split_thoughts(text, markers)`: the segments of a response; they tile it
- `markers_of(tokenizer)`: the pair that a model's tokenizer or chat template knows, or None
- `response_sentences(text, segments)`: its sentences, none of which reaches across a border
- `parts_of(...)`: the segments' texts as parts that can be cut into sources

A response may be cut off inside a thought, begin inside one that the chat template has opened, or speak of markers. So a
thought opens only where the response begins, where another one has just closed, or where a closing marker follows; any
other marker is text of the answer. Markers are found in upper and lower case.
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
    (rf"◁({_WORD})▷", "◁/{}▷"),
    (r"<\|(inner)_prefix\|>", "<|{}_suffix|>"),
]
# Where a response goes through channels, all its messages before the final one are its thought.
_CHANNELS = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>")
_BY_CHANNEL: Markers = (
    "<|channel|>analysis<|message|>",
    "<|end|><|start|>assistant<|channel|>final<|message|>",
)


@dataclass(frozen=True)
class Segment:
    """Characters [start, end) of a response; what it says is [text_start, text_end), without its markers and the white space
    around them."""

    kind: str  # "thought" or "answer"
    start: int
    end: int
    text_start: int
    text_end: int

    @property
    def cut_off(self) -> bool:
        """Whether it is a thought that no marker closes."""
        return self.kind == "thought" and self.text_end == self.end


def split_thoughts(text: str, markers: Markers | None = None, *, opened: bool = False) -> list[Segment]:
    """The thoughts and answers of a response, in order; they tile it. [] for "".

    markers: USUAL where none are given. opened: whether the prompt ends inside a thought. A text whose first marker is a
    closing one began inside a thought, too. Raises At2Error for markers that mark nothing.
    """
    opening, closing = markers or USUAL
    check_markers((opening, closing))
    found = list(_found(text, opening, closing))
    last_close = max((span[0] for kind, span in found if kind != "open"), default=-1)
    opened = opened or (bool(found) and found[0][0] == "close")
    segments: list[Segment] = []
    at = 0
    while at < len(text):
        if not opened:
            # A marker before anything is said opens the response, or follows a thought.
            said = _past_blanks(text, at, len(text))
            opens = (span for kind, span in found if kind != "close" and span[0] >= at)
            start = next((span for span in opens if span[0] <= said or span[1] <= last_close), None)
            if start is None or start[0] > said:
                begin = start[0] if start else len(text)
                segments.append(Segment("answer", at, begin, at, begin))
                at = begin
            if start is None:
                break
            inside = start[1]
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
    return prompt.rstrip().lower().endswith((markers or USUAL)[0].strip().lower())


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
            if closes := re.search(re.escape(closing.format(match[1])), written, re.IGNORECASE):
                return match[0], closes[0]
    return _BY_CHANNEL if set(_CHANNELS) <= set(known) or all(c in written for c in _CHANNELS) else None


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
    forms = {"open": re.escape(opening), "close": re.escape(closing)}
    if re.fullmatch(forms["open"], closing, re.IGNORECASE):
        forms = {"either": forms["open"]}
    longest_first = sorted(forms, key=lambda kind: len(forms[kind]), reverse=True)
    written = "|".join(f"(?P<{kind}>{forms[kind]})" for kind in longest_first)
    for match in re.finditer(written, text, re.IGNORECASE):
        yield str(match.lastgroup), match.span()


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
