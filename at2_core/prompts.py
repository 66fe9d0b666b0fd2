"""A task (context or documents, query, earlier turns, system message) becomes a prompt by the model's chat template.

- `ContextTask`, `Document`, `Turn`: what the user gives
- `Prompt`, `Part`: the rendered text, its token ids, and where each thing the user gave stands in both
- `render(tokenizer, task)`: from the one to the other

The template is rendered with a stand-in for every user field, and the fields are put in afterwards: so their places
are known exactly, and nothing that a template does to a message (trimming, searching for markers) can touch them.
The tokenizer then sees the whole prompt at once, as transformers would show it. Only where a user's text would come
out as a control token is it cut in two, so that it stays text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import At2Error, EmptyInput

ROLES = ("user", "assistant")

Span = tuple[int, int]


@dataclass(frozen=True)
class Document:
    title: str
    text: str


@dataclass(frozen=True)
class Turn:
    role: str  # "user" or "assistant"
    content: str


@dataclass(frozen=True)
class ContextTask:
    """What the user gives: one `context` or several `documents`, a `query`, earlier turns and a system message."""

    context: str = ""
    query: str = ""
    documents: tuple[Document, ...] = ()
    history: tuple[Turn, ...] = ()
    system: str | None = None  # None leaves the system message to the template

    def __post_init__(self) -> None:
        # Lists are what people write; tuples are what can be hashed and compared.
        object.__setattr__(self, "documents", tuple(self.documents))
        object.__setattr__(self, "history", tuple(self.history))


@dataclass(frozen=True)
class Part:
    """One thing the user gave, inside the prompt: characters [start, end), tokens [token_start, token_end)."""

    kind: str  # "system", "history", "title", "context" or "query"
    start: int
    end: int
    token_start: int
    token_end: int
    document: int | None = None
    turn: int | None = None


@dataclass(frozen=True)
class Prompt:
    """The rendered input. Every character of `text` lies in the span of at least one token; what no part covers is
    the template's."""

    text: str
    ids: tuple[int, ...]  # (n,)
    offsets: tuple[Span, ...]  # (n,) characters of `text`; tokens that share a character both span it
    parts: tuple[Part, ...]  # in the order of the text

    @property
    def n(self) -> int:
        return len(self.ids)


def render(tokenizer: Any, task: ContextTask) -> Prompt:
    """The prompt of a task, by the chat template of a fast tokenizer or, where it has none, by a plain one."""
    _check(task)
    messages, fields = _messages(task)
    stand_ins = _stand_ins([text for _, text in fields])
    has_template = bool(getattr(tokenizer, "chat_template", None))
    skeleton = _by_template(tokenizer, messages, stand_ins) if has_template else _plainly(messages, stand_ins)
    text, parts = _fill(skeleton, stand_ins, fields)

    controls = _Controls(tokenizer)
    ids, raw = _encode(tokenizer, controls, text, [(p.start, p.end) for p in parts])
    if controls.sequence(ids, raw, text) != controls.sequence(*_tokenize(tokenizer, skeleton), skeleton):
        raise At2Error("The text around a field changes how this model's chat template is read; please reword its ends.")
    offsets = _tile(raw, text, controls.mask(ids, raw, text))
    prefix = [] if has_template else _prefix(tokenizer)
    anchors = [-1] * len(prefix) + [_anchor(text, span) for span in offsets]
    return Prompt(
        text=text,
        ids=tuple(prefix) + tuple(ids),
        offsets=((0, 0),) * len(prefix) + tuple(offsets),
        parts=tuple(_with_tokens(part, anchors) for part in parts),
    )


# ---------------------------------------------------------------------------------------------- the task


def _check(task: ContextTask) -> None:
    texts = [task.context, task.query, *(t.content for t in task.history)]
    texts += [s for d in task.documents for s in (d.title, d.text)]
    if task.system is not None:
        texts.append(task.system)
    for text in texts:
        if not isinstance(text, str):
            raise At2Error(f"A task is made of text, but one of its fields is a {type(text).__name__}.")
    for turn in task.history:
        if turn.role not in ROLES:
            raise At2Error(f"A turn's role is 'user' or 'assistant', not {turn.role!r}.")
    if task.documents and task.context.strip():
        raise At2Error("Give either one context or a list of documents, not both.")
    if task.documents and not any(d.text.strip() for d in task.documents):
        raise EmptyInput("All documents are empty; at least one needs text.")
    if not task.documents and not task.context.strip():
        raise EmptyInput("The context is empty; give the text that the answer should come from.")
    if not task.query.strip():
        raise EmptyInput("The query is empty; ask something about the context.")


Field = tuple[Part, str]  # a part whose positions are not known yet, and its text
Message = tuple[str, tuple["str | int", ...]]  # role, and its content: literal text or the number of a field


def _messages(task: ContextTask) -> tuple[list[Message], list[Field]]:
    """The conversation with numbers in place of the user's fields, and the fields."""
    fields: list[Field] = []

    def field(kind: str, text: str, document: int | None = None, turn: int | None = None) -> int:
        fields.append((Part(kind, 0, 0, 0, 0, document, turn), _without_surrogates(text)))
        return len(fields) - 1

    messages: list[Message] = []
    if task.system is not None:
        messages.append(("system", (field("system", task.system),)))
    for i, turn in enumerate(task.history):
        messages.append((turn.role, (field("history", turn.content, turn=i),)))
    content: list[str | int] = ["Context: "]
    if task.documents:
        for i, document in enumerate(task.documents):
            content += ["\n\n"] if i else []
            content += [field("title", document.title, document=i), "\n"] if document.title.strip() else []
            content += [field("context", document.text, document=i)]
    else:
        content.append(field("context", task.context))
    content += ["\n\nQuery: ", field("query", task.query)]
    messages.append(("user", tuple(content)))
    return messages, fields


def _without_surrogates(text: str) -> str:
    # Halves of a pair that belong together become the character they mean; a lone half becomes U+FFFD.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


# ------------------------------------------------------------------------------------------ the template


def _stand_ins(texts: list[str]) -> list[str]:
    """One unique word per field that occurs in none of the texts. Plain ASCII: no template escapes or trims it."""
    number = 0
    while any(f"field{number}x" in text for text in texts):
        number += 1
    return [f"field{number}x{i:06d}z" for i in range(len(texts))]


def _content(pieces: Iterable[str | int], stand_ins: list[str]) -> str:
    return "".join(stand_ins[p] if isinstance(p, int) else p for p in pieces)


def _plainly(messages: list[Message], stand_ins: list[str]) -> str:
    blocks = [
        _content(pieces, stand_ins) if role == "system" else f"{role.capitalize()}: {_content(pieces, stand_ins)}"
        for role, pieces in messages[:-1]
    ]
    return "\n\n".join([*blocks, _content(messages[-1][1], stand_ins), "Answer:"])


def _by_template(tokenizer: Any, messages: list[Message], stand_ins: list[str]) -> str:
    """The first form of the conversation that the chat template takes, with every field in it exactly once."""
    system_merged, failure = _merge_system(messages), ""
    for form in (messages, _merge_turns(messages), system_merged, _merge_turns(system_merged)):
        chat = [{"role": role, "content": _content(pieces, stand_ins)} for role, pieces in form]
        try:
            rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template is a program by somebody else and raises whatever it likes
            failure = failure or f"it says: {str(error).strip().splitlines()[0] if str(error).strip() else 'error'}"
            continue
        if all(rendered.count(s) == 1 for s in stand_ins):
            return rendered
        failure = failure or "it does not show every message once"
    raise At2Error(f"This model's chat template does not take this conversation ({failure}).")


def _merge_system(messages: list[Message]) -> list[Message]:
    """The system message in front of the first user message, for templates that have no such role."""
    if messages[0][0] != "system":
        return messages
    system, rest = messages[0][1], messages[1:]
    first = next(i for i, (role, _) in enumerate(rest) if role == "user")
    return [*rest[:first], ("user", (*system, "\n\n", *rest[first][1])), *rest[first + 1 :]]


def _merge_turns(messages: list[Message]) -> list[Message]:
    """Neighbours of the same role as one message, for templates that demand alternation."""
    merged: list[Message] = []
    for role, pieces in messages:
        if merged and merged[-1][0] == role:
            merged[-1] = (role, (*merged[-1][1], "\n\n", *pieces))
        else:
            merged.append((role, pieces))
    return merged


def _fill(skeleton: str, stand_ins: list[str], fields: list[Field]) -> tuple[str, list[Part]]:
    """The rendered text with the fields in place, and the parts with their characters, in the text's order."""
    text, parts, done = "", [], 0
    for at, i in sorted((skeleton.index(s), i) for i, s in enumerate(stand_ins)):
        text += skeleton[done:at]
        part, content = fields[i]
        parts.append(replace(part, start=len(text), end=len(text) + len(content)))
        text += content
        done = at + len(stand_ins[i])
    return text + skeleton[done:], parts


# -------------------------------------------------------------------------------------------- the tokens


class _Controls:
    """Which token ids steer the model, so that user text must never become one.

    Special tokens, and added tokens that look like markup (`<think>`). Added words and runs of whitespace, which some
    tokenizers hold as added tokens too, are ordinary text.
    """

    def __init__(self, tokenizer: Any) -> None:
        added = tokenizer.added_tokens_decoder
        self.ids = {
            i for i, token in added.items()
            if len(token.content.strip()) > 1 and (token.special or re.search(r"[^\w\s]", token.content))
        }  # fmt: skip
        # The unknown token stands for any character outside the vocabulary: no control unless it was spelled out.
        self.unknown, self.unknown_text = tokenizer.unk_token_id, tokenizer.unk_token

    def mask(self, ids: Sequence[int], offsets: Sequence[Span], text: str) -> list[bool]:
        return [
            i in self.ids and (i != self.unknown or text[s:e].strip() == self.unknown_text)
            for i, (s, e) in zip(ids, offsets, strict=True)
        ]

    def sequence(self, ids: Sequence[int], offsets: Sequence[Span], text: str) -> list[int]:
        return [i for i, control in zip(ids, self.mask(ids, offsets, text), strict=True) if control]


def _tokenize(tokenizer: Any, text: str) -> tuple[list[int], list[Span]]:
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(encoding["input_ids"]), [(int(s), int(e)) for s, e in encoding["offset_mapping"]]


def _encode(tokenizer: Any, controls: _Controls, text: str, parts: list[Span]) -> tuple[list[int], list[Span]]:
    """Token ids and offsets of the text. Where a control token would arise from a part, the text is cut inside its
    characters and both sides are tokenized on their own; without such an accident nothing is ever cut."""
    cuts: set[int] = set()
    while True:
        ids, offsets = _tokenize_between(tokenizer, text, sorted(cuts))
        arisen = [
            span
            for span, control in zip(offsets, controls.mask(ids, offsets, text), strict=True)
            if control and any(text[max(span[0], s) : min(span[1], e)].strip() for s, e in parts)
        ]
        if not arisen:
            return ids, offsets
        before = len(cuts)
        cuts.update(at for span in arisen if (at := _cut_inside(text, span)) is not None)
        if len(cuts) == before:
            shown = text[arisen[0][0] : arisen[0][1]]
            raise At2Error(f"The text contains {shown!r}, which this model can only read as a control token.")


def _cut_inside(text: str, span: Span) -> int | None:
    """A place inside the span's visible characters, behind the first: `<|im_end|>` is read as `<` and `|im_end|>`."""
    visible = [i for i in range(*span) if not text[i].isspace()]
    return visible[1] if len(visible) > 1 else None


def _tokenize_between(tokenizer: Any, text: str, cuts: list[int]) -> tuple[list[int], list[Span]]:
    ids: list[int] = []
    offsets: list[Span] = []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        piece = text[start:end]
        # Some tokenizers put a space before whatever they are given. Behind a guard the piece is not the beginning,
        # provided that no token reaches across the border; the guard's own tokens are dropped.
        for guard in ("\n", text[start - 1], "") if start else ("",):
            piece_ids, spans = _tokenize(tokenizer, guard + piece)
            g = len(guard)
            if not any(s < g < e for s, e in spans):
                break
        kept = [(i, s, e) for i, (s, e) in zip(piece_ids, spans, strict=True) if s >= g]
        ids += [i for i, _, _ in kept]
        offsets += [(start + s - g, start + e - g) for _, s, e in kept]
    return ids, offsets


def _prefix(tokenizer: Any) -> list[int]:
    """What the tokenizer itself puts before a text (its BOS token). What it puts behind one would end the prompt."""
    encoding = tokenizer("x", return_special_tokens_mask=True)
    ids, special = encoding["input_ids"], encoding["special_tokens_mask"]
    return list(ids[: special.index(0)]) if 0 in special else []


def _tile(offsets: list[Span], text: str, control: list[bool]) -> list[Span]:
    """The offsets widened so that every character lies in a token's span.

    Tokenizers leave characters out: the space before a word, or a combining mark that was composed away. A space
    goes to the token that follows, everything else to the token before.
    """
    starts, ends = [s for s, _ in offsets], [e for _, e in offsets]
    reached = 0
    for i in range(len(offsets)):
        if starts[i] > reached:
            gap = text[reached : starts[i]]
            split = re.search(r"\s", gap)
            border = reached + split.start() if split and not control[i] else starts[i]
            if i == 0 or (control[i - 1] and not control[i]):
                border = reached
            for j in range(i - 1, -1, -1):
                if ends[j] != reached or control[j] != control[i - 1]:
                    break
                ends[j] = border
            starts[i] = border
        starts[i] = max(starts[i], starts[i - 1]) if i else starts[i]
        ends[i] = reached = max(ends[i], reached, starts[i])
    for j in range(len(offsets) - 1, -1, -1):
        if ends[j] != reached:
            break
        ends[j] = len(text)
    return list(zip(starts, ends, strict=True))


def _anchor(text: str, span: Span) -> int:
    """The character that decides where a token belongs: its first visible one, or the middle of pure whitespace."""
    start, end = span
    return next((i for i in range(start, end) if not text[i].isspace()), max(start, (start + end - 1) // 2))


def _with_tokens(part: Part, anchors: list[int]) -> Part:
    inside = [i for i, a in enumerate(anchors) if part.start <= a < part.end]
    if inside:
        return replace(part, token_start=inside[0], token_end=inside[-1] + 1)
    first = next((i for i, a in enumerate(anchors) if a >= part.start), len(anchors))
    return replace(part, token_start=first, token_end=first)
