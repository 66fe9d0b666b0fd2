"""A text becomes token ids with exact characters, and what a user wrote never becomes a control token.

- `encode(tokenizer, text, user)`: ids, character spans and which tokens are controls, of a text whose `user` spans are
  not ours
- `encode_text(tokenizer, text)`: ids and spans of a text that is the user's altogether, such as a given response
- `without_surrogates(text)`: what of a text can be tokenized at all
- `anchor(text, span)`: the character that decides to which part or source a token belongs

The tokenizer sees the whole text at once, so the ids are the ones that it gives by itself. Only where a control token
would arise from a user's text is that text cut in two, inside the characters that spell the token.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import At2Error

Span = tuple[int, int]


@dataclass(frozen=True)
class Encoding:
    ids: list[int]  # (n,)
    offsets: list[Span]  # (n,) characters of the text
    control: list[bool]  # (n,) whether the token steers the model

    @property
    def controls(self) -> list[int]:
        """The ids of the control tokens, in order."""
        return list(itertools.compress(self.ids, self.control))


def encode(tokenizer: Any, text: str, user: Sequence[Span] = ()) -> Encoding:
    """The tokens of a text by a fast tokenizer, without BOS or EOS. The spans in `user` yield no control tokens."""
    known = _control_ids(tokenizer)
    cuts: set[int] = set()
    while True:
        ids, offsets = _tokenize_between(tokenizer, text, sorted(cuts))
        control = _are_controls(tokenizer, known, text, ids, offsets)
        arisen = [span for span in itertools.compress(offsets, control) if _shows_in(text, span, user)]
        if not arisen:
            return Encoding(ids, _tile(offsets, text, control), control)
        new = {at for span in arisen if (at := _cut_inside(text, span)) is not None} - cuts
        if not new:
            shown = text[slice(*arisen[0])]
            raise At2Error(f"The text contains {shown!r}, which this model can read only as a control token.")
        cuts |= new  # what is left on either side may spell another control token: look again


def encode_text(tokenizer: Any, text: str) -> tuple[list[int], list[Span]]:
    """Ids and character spans of a text in which nothing is a control token."""
    clean = re.sub(
        "[\ud800-\udfff]", "\ufffd", text
    )  # one for one, so that the spans hold for the text as given
    encoding = encode(tokenizer, clean, [(0, len(clean))])
    return encoding.ids, encoding.offsets


def without_surrogates(text: str) -> str:
    """The text as Unicode has it: two halves that belong together become their character, a lone one U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def anchor(text: str, span: Span) -> int:
    """The first visible character of a token's span, or the middle of one that is all whitespace."""
    start, end = span
    return next((i for i in range(start, end) if not text[i].isspace()), max(start, (start + end - 1) // 2))


def prefix_ids(tokenizer: Any) -> list[int]:
    """What the tokenizer itself puts before a text (its BOS token). What it puts behind one would end the prompt."""
    encoding = tokenizer("x", return_special_tokens_mask=True)
    special = encoding["special_tokens_mask"]
    return list(encoding["input_ids"][: special.index(0)]) if 0 in special else []


def _control_ids(tokenizer: Any) -> set[int]:
    """Special tokens, and added tokens that look like markup (`<think>`), steer the model. Added words, single
    characters and runs of whitespace, which some tokenizers also keep as added tokens, are ordinary text."""
    return {
        i
        for i, token in tokenizer.added_tokens_decoder.items()
        if len(token.content.strip()) > 1 and (token.special or re.search(r"[^\w\s]", token.content))
    }


def _are_controls(
    tokenizer: Any, known: set[int], text: str, ids: Sequence[int], offsets: Sequence[Span]
) -> list[bool]:
    # The unknown token stands for any character outside the vocabulary; it is a control only where it is spelled out.
    unknown, spelled = tokenizer.unk_token_id, tokenizer.unk_token
    return [
        i in known and (i != unknown or text[s:e].strip() == spelled)
        for i, (s, e) in zip(ids, offsets, strict=True)
    ]


def _shows_in(text: str, span: Span, spans: Iterable[Span]) -> bool:
    return any(text[max(span[0], s) : min(span[1], e)].strip() for s, e in spans)


def _cut_inside(text: str, span: Span) -> int | None:
    """A place between the span's visible characters: `<|im_end|>` will be read as `<` and `|im_end|>`."""
    visible = [i for i in range(*span) if not text[i].isspace()]
    return visible[1] if len(visible) > 1 else None


def _tokenize(tokenizer: Any, text: str) -> tuple[list[int], list[Span]]:
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(encoding["input_ids"]), [(int(s), int(e)) for s, e in encoding["offset_mapping"]]


def _tokenize_between(tokenizer: Any, text: str, cuts: list[int]) -> tuple[list[int], list[Span]]:
    ids: list[int] = []
    offsets: list[Span] = []
    for start, end in itertools.pairwise([0, *cuts, len(text)]):
        # Some tokenizers put a space before whatever they are given. Behind a guard a piece is not the beginning,
        # provided that no token reaches across the border; the guard's own tokens are dropped.
        for guard in ("\n", text[start - 1], "") if start else ("",):
            piece_ids, spans = _tokenize(tokenizer, guard + text[start:end])
            border = len(guard)
            if not any(s < border < e for s, e in spans):
                break
        shift = start - border
        kept = [
            (i, (s + shift, e + shift)) for i, (s, e) in zip(piece_ids, spans, strict=True) if s >= border
        ]
        ids += [i for i, _ in kept]
        offsets += [span for _, span in kept]
    return ids, offsets


def _tile(offsets: Sequence[Span], text: str, control: Sequence[bool]) -> list[Span]:
    """The offsets widened so that every character lies in a token's span; starts and ends never go back.

    Tokenizers leave characters out: the space before a word, or a mark that was composed into its letter. Whitespace
    goes to the token that follows, anything else to the one before; control tokens take neither if they can help it.
    """
    starts: list[int] = []
    ends: list[int] = []

    def widen(end: int) -> None:
        # All tokens that share the last character get what follows it.
        last = ends[-1]
        for j in range(len(ends) - 1, -1, -1):
            if ends[j] != last or control[j] != control[len(ends) - 1]:
                break
            ends[j] = end

    for i, (start, end) in enumerate(offsets):
        reached = ends[-1] if ends else 0
        if start > reached:
            space = re.search(r"\s", text[reached:start])
            if not ends or (control[i - 1] and not control[i]):
                start = reached
            elif space and not control[i]:
                start = reached + space.start()
            if start > reached:
                widen(start)
                reached = start
        starts.append(max(start, starts[-1]) if starts else start)
        ends.append(max(end, reached, starts[-1]))
    if ends and ends[-1] < len(text):
        widen(len(text))
    return list(zip(starts, ends, strict=True))
