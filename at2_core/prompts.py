"""A task (context or documents, query, earlier turns, system message) becomes a prompt by the model's chat template.

- `ContextTask`, `Document`, `Turn`: what the user gives; `follow_up` is the task of the conversation's next query
- `Prompt`, `Part`: the rendered text, its token ids, and where each thing the user gave stands in both
- `render(tokenizer, task)`: from the one to the other
- `encode_text(tokenizer, text)`: the same care for a text without a template, a response for instance

The template is rendered with a stand-in for every user field, and the fields are put in afterwards: so their places
are known exactly, and nothing that a template does to a message (trimming, searching for markers) can touch them.
A prompt that is given whole passes no template: it is read as it stands.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import chat
from .errors import At2Error, EmptyInput
from .tokens import Encoding, Span, anchor, encode, encode_text, prefix_ids, without_surrogates

__all__ = [
    "ContextTask",
    "Document",
    "Part",
    "Prompt",
    "Turn",
    "encode_text",
    "follow_up",
    "render",
    "without_surrogates",
]

ROLES = ("user", "assistant")


@dataclass(frozen=True)
class Document:
    """pages: (character of the text where one begins, its number), in order. No part of what a model reads: they say where a
    source stands."""

    title: str
    text: str
    pages: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "pages", tuple(tuple(page) for page in self.pages))


@dataclass(frozen=True)
class Turn:
    role: str  # "user" or "assistant"
    content: str


@dataclass(frozen=True)
class ContextTask:
    """What the user gives: one `context` or several `documents`, a `query`, earlier turns and a system message.

    context_first: the context stands with the first of the user's turns, and later turns and the query follow bare, as in a
    conversation that began with it; else it stands with the query.
    prompt: in place of all these a prompt given whole, which no template touches. marked: its characters [start, end) that
    are the context, each a document of its own; with nothing marked all of it is, but for its control tokens.
    control_tokens: whether what looks like a control token outside the marks is one; inside them it never is.
    """

    context: str = ""
    query: str = ""
    documents: tuple[Document, ...] = ()
    history: tuple[Turn, ...] = ()
    system: str | None = None  # None leaves the system message to the template
    context_first: bool = False
    prompt: str = ""
    marked: tuple[Span, ...] = ()
    control_tokens: bool = True

    def __post_init__(self) -> None:
        # Lists are what people write; tuples are what can be hashed and compared.
        object.__setattr__(self, "documents", tuple(self.documents))
        object.__setattr__(self, "history", tuple(self.history))
        object.__setattr__(self, "marked", tuple(tuple(mark) for mark in self.marked))

    @property
    def titles(self) -> tuple[str, ...]:
        """The title of each document that `Part.document` counts; one without a title for a single context."""
        return tuple(d.title for d in self.documents) or ("",) * max(1, len(self.marked))


def follow_up(task: ContextTask, response: str, query: str) -> ContextTask:
    """The task of the next query in a conversation: the same documents, with what was asked and answered in front.

    Raises At2Error for a prompt given whole: nobody knows how its turns are written.
    """
    if task.prompt:
        raise At2Error(
            "A prompt given whole has no follow-up; give a context and a query for a conversation."
        )
    said = (*task.history, Turn("user", task.query), Turn("assistant", response))
    return replace(task, history=said, query=query, context_first=True)


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
    if task.prompt:
        return _as_given(tokenizer, task)
    messages, fields = _messages(task)
    texts = [text for _, text in fields]
    stand_ins = chat.stand_ins(texts)
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if has_template:
        skeleton = chat.by_template(tokenizer, messages, stand_ins)
    elif task.context_first:
        skeleton = chat.plainly_following(messages, stand_ins, texts)
    else:
        skeleton = chat.plainly(messages, stand_ins)
    text, parts = _fill(skeleton, stand_ins, fields)

    encoding = encode(tokenizer, text, [(part.start, part.end) for part in parts])
    if encoding.controls != encode(tokenizer, skeleton).controls:
        raise At2Error(
            "The text at the border of a field hides a control token of the model; reword its ends."
        )
    prompt = _prompt(text, [] if has_template else prefix_ids(tokenizer), encoding, parts)
    for kind in ("context", "query"):
        if not any(part.token_start < part.token_end for part in prompt.parts if part.kind == kind):
            raise EmptyInput(f"The {kind} holds no character that this model's tokenizer knows.")
    return prompt


def _prompt(text: str, prefix: list[int], encoding: Encoding, parts: list[Part]) -> Prompt:
    anchors = [-1] * len(prefix) + [anchor(text, span) for span in encoding.offsets]
    return Prompt(
        text=text,
        ids=(*prefix, *encoding.ids),
        offsets=(*[(0, 0)] * len(prefix), *encoding.offsets),
        parts=tuple(_with_tokens(part, anchors) for part in parts),
    )


# ------------------------------------------------------------------------------------- a prompt given whole


def _as_given(tokenizer: Any, task: ContextTask) -> Prompt:
    """The text as it stands. What is marked is the context, what else can be read is the query, in as many parts as the marks
    and the control tokens leave. With nothing marked all that can be read is the context, in such parts.

    A control token is nobody's: many heads rest on the first of them, and it would take most of every score.
    """
    text = without_surrogates(task.prompt)
    marks = sorted((_place(task.prompt, start), _place(task.prompt, end)) for start, end in task.marked)
    user = marks if task.control_tokens else [(0, len(text))]
    encoding = encode(tokenizer, text, user)
    prefix = prefix_ids(tokenizer)
    if encoding.ids[: len(prefix)] == prefix:  # the text says for itself how it begins
        prefix = []
    steering = list(itertools.compress(encoding.offsets, encoding.control))
    parts = [Part("context", start, end, 0, 0, number) for number, (start, end) in enumerate(marks)]
    if marks or steering:
        between = _between(text, sorted([*marks, *steering]))
        parts += [Part("query" if marks else "context", start, end, 0, 0) for start, end in between]
    else:
        parts.append(Part("context", 0, len(text), 0, 0))
    prompt = _prompt(text, prefix, encoding, sorted(parts, key=lambda part: part.start))
    if not any(part.token_start < part.token_end for part in prompt.parts if part.kind == "context"):
        what = "What is marked" if marks else "The prompt, but for its control tokens,"
        raise EmptyInput(f"{what} holds no character that this model's tokenizer knows.")
    return prompt


def _between(text: str, taken: Sequence[Span]) -> list[Span]:
    """What stands between these, without the white space around it."""
    spans = []
    for (_, start), (end, _) in itertools.pairwise([(0, 0), *taken, (len(text), 0)]):
        if bare := text[start:end].strip():
            start = text.index(bare, start)
            spans.append((start, start + len(bare)))
    return spans


def _place(text: str, at: int) -> int:
    """Where a position of a text is in `without_surrogates` of it; inside a pair it is before their character."""
    inside = 0 < at < len(text) and "\ud800" <= text[at - 1] < "\udc00" <= text[at] < "\ue000"
    return len(without_surrogates(text[: at - inside]))


# ---------------------------------------------------------------------------------------------- the task


def _check(task: ContextTask) -> None:
    for document in task.documents:
        if not isinstance(document, Document):
            raise At2Error(f"Documents are a list of Document, but one is a {type(document).__name__}.")
        if not are_pages(document.pages):
            raise At2Error("A document's pages are pairs (character, number), in the order of the text.")
    for turn in task.history:
        if not isinstance(turn, Turn):
            raise At2Error(f"The history is a list of Turn, but one is a {type(turn).__name__}.")
        if turn.role not in ROLES:
            raise At2Error(f"A turn's role is 'user' or 'assistant', not {turn.role!r}.")
    texts = [task.context, task.query, *(turn.content for turn in task.history)]
    texts += [text for document in task.documents for text in (document.title, document.text)]
    texts += [task.prompt, *([] if task.system is None else [task.system])]
    for text in texts:
        if not isinstance(text, str):
            raise At2Error(f"A task is made of text, but one of its fields is a {type(text).__name__}.")
    if task.prompt:
        _check_whole(task)
        return
    if task.marked:
        raise At2Error("Marks belong to a prompt given whole; name a context's parts as documents.")
    if task.documents and task.context.strip():
        raise At2Error("Give either one context or a list of documents, not both.")
    if task.documents and not any(d.text.strip() for d in task.documents):
        raise EmptyInput("All documents are empty; at least one needs text.")
    if not task.documents and not task.context.strip():
        raise EmptyInput("The context is empty; give the text that the answer should come from.")
    if not task.query.strip():
        raise EmptyInput("The query is empty; ask something about the context.")


def are_pages(pages: tuple[Any, ...]) -> bool:
    """Whether these can be the pages of a document."""
    if not all(len(page) == 2 and all(type(n) is int and n >= 0 for n in page) for page in pages):
        return False
    return all(a < b for (a, _), (b, _) in itertools.pairwise(pages))


def _check_whole(task: ContextTask) -> None:
    if task.context or task.documents or task.query or task.history or task.system is not None:
        raise At2Error(
            "A prompt given whole is all there is; give no context, documents, query, turns or system."
        )
    if not task.prompt.strip():
        raise EmptyInput("The prompt is empty; give the text that the model should go on from.")
    reached = 0
    for mark in sorted(task.marked):
        if len(mark) != 2 or not all(type(at) is int for at in mark):
            raise At2Error(f"A mark is where it starts and ends in the prompt, not {mark!r}.")
        start, end = mark
        if not reached <= start < end <= len(task.prompt):
            raise At2Error(
                f"The mark from {start} to {end} is empty, reaches into another one or lies outside the prompt of "
                f"{len(task.prompt):,} characters."
            )
        reached = end


Field = tuple[Part, str]  # a part whose positions are not known yet, and its text


def _messages(task: ContextTask) -> tuple[list[chat.Message], list[Field]]:
    """The conversation with numbers in place of the user's fields, and the fields."""
    fields: list[Field] = []

    def field(kind: str, text: str, document: int | None = None, turn: int | None = None) -> int:
        fields.append((Part(kind, 0, 0, 0, 0, document, turn), without_surrogates(text)))
        return len(fields) - 1

    def context() -> list[str | int]:
        content: list[str | int] = ["Context: "]
        for i, document in enumerate(task.documents):
            content += ["\n\n"] if i else []
            content += [field("title", document.title, document=i), "\n"] if document.title.strip() else []
            content += [field("context", document.text, document=i)]
        content += [] if task.documents else [field("context", task.context)]
        return [*content, "\n\nQuery: "]

    messages: list[chat.Message] = []
    if task.system is not None:
        messages.append(("system", (field("system", task.system),)))
    first = next((i for i, turn in enumerate(task.history) if turn.role == "user"), -1)
    with_turn = first if task.context_first else -1  # else it goes with the query
    for i, turn in enumerate(task.history):
        before = context() if i == with_turn else []
        messages.append((turn.role, (*before, field("history", turn.content, turn=i))))
    before = context() if with_turn < 0 else []
    messages.append(("user", (*before, field("query", task.query))))
    return messages, fields


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


def _with_tokens(part: Part, anchors: list[int]) -> Part:
    """The part with its tokens: those whose anchor lies in it. Anchors never go back, so they are neighbours."""
    return replace(
        part, token_start=bisect_left(anchors, part.start), token_end=bisect_left(anchors, part.end)
    )
