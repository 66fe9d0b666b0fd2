"""A task (context or documents, query, earlier turns, system message) becomes a prompt by the model's chat template.

- `ContextTask`, `Document`, `Turn`: what the user gives
- `Prompt`, `Part`: the rendered text, its token ids, and where each thing the user gave stands in both
- `render(tokenizer, task)`: from the one to the other
- `encode_text(tokenizer, text)`: the same care for a text without a template, a response for instance

The template is rendered with a stand-in for every user field, and the fields are put in afterwards: so their places
are known exactly, and nothing that a template does to a message (trimming, searching for markers) can touch them.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from .errors import At2Error, EmptyInput
from .tokens import Span, anchor, encode, encode_text, prefix_ids, without_surrogates

__all__ = ["ContextTask", "Document", "Part", "Prompt", "Turn", "encode_text", "render", "without_surrogates"]

ROLES = ("user", "assistant")


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

    encoding = encode(tokenizer, text, [(part.start, part.end) for part in parts])
    if encoding.controls != encode(tokenizer, skeleton).controls:
        raise At2Error(
            "The text at the border of a field hides a control token of the model; reword its ends."
        )
    prefix = [] if has_template else prefix_ids(tokenizer)
    anchors = [-1] * len(prefix) + [anchor(text, span) for span in encoding.offsets]
    parts = [_with_tokens(part, anchors) for part in parts]
    for kind in ("context", "query"):
        if not any(part.token_start < part.token_end for part in parts if part.kind == kind):
            raise EmptyInput(f"The {kind} holds no character that this model's tokenizer knows.")
    return Prompt(
        text=text,
        ids=(*prefix, *encoding.ids),
        offsets=(*[(0, 0)] * len(prefix), *encoding.offsets),
        parts=tuple(parts),
    )


# ---------------------------------------------------------------------------------------------- the task


def _check(task: ContextTask) -> None:
    for document in task.documents:
        if not isinstance(document, Document):
            raise At2Error(f"Documents are a list of Document, but one is a {type(document).__name__}.")
    for turn in task.history:
        if not isinstance(turn, Turn):
            raise At2Error(f"The history is a list of Turn, but one is a {type(turn).__name__}.")
        if turn.role not in ROLES:
            raise At2Error(f"A turn's role is 'user' or 'assistant', not {turn.role!r}.")
    texts = [task.context, task.query, *(turn.content for turn in task.history)]
    texts += [text for document in task.documents for text in (document.title, document.text)]
    texts += [] if task.system is None else [task.system]
    for text in texts:
        if not isinstance(text, str):
            raise At2Error(f"A task is made of text, but one of its fields is a {type(text).__name__}.")
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
        fields.append((Part(kind, 0, 0, 0, 0, document, turn), without_surrogates(text)))
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


# ------------------------------------------------------------------------------------------ the template


def _stand_ins(texts: list[str]) -> list[str]:
    """One unique word per field that occurs in none of the texts. Plain ASCII: no template escapes or trims it.

    The words are the same for the same texts; a text that guesses one only makes the search go on from its own digest.
    """
    seed = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    while any(f"field{seed}x" in text for text in texts):
        seed = hashlib.sha256(seed.encode()).hexdigest()[:16]
    return [f"field{seed}x{i:06d}z" for i in range(len(texts))]


def _content(pieces: Iterable[str | int], stand_ins: list[str]) -> str:
    return "".join(stand_ins[p] if isinstance(p, int) else p for p in pieces)


def _plainly(messages: list[Message], stand_ins: list[str]) -> str:
    blocks = [
        _content(pieces, stand_ins)
        if role == "system"
        else f"{role.capitalize()}: {_content(pieces, stand_ins)}"
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
            failure = (
                failure or f"it says: {str(error).strip().splitlines()[0] if str(error).strip() else 'error'}"
            )
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


def _with_tokens(part: Part, anchors: list[int]) -> Part:
    """The part with its tokens: those whose anchor lies in it. Anchors never go back, so they are neighbours."""
    return replace(
        part, token_start=bisect_left(anchors, part.start), token_end=bisect_left(anchors, part.end)
    )
