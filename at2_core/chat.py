"""A conversation becomes the text that a chat template, or a plain form in its place, makes of it.

- `by_template(tokenizer, messages, stand_ins)`: by the tokenizer's own chat template
- `plainly(messages, stand_ins)`, `plainly_following(...)`: for base models, which have none
- `stand_ins(texts)`: words that stand for the user's texts meanwhile, so that no template can touch these
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from .errors import At2Error

Message = tuple[str, tuple["str | int", ...]]  # role, and its content: literal text or the number of a field


def stand_ins(texts: list[str]) -> list[str]:
    """One unique word per field that occurs in none of the texts. Plain ASCII: no template escapes or trims it.

    The words are the same for the same texts; a text that guesses one only makes the search go on from its own digest.
    """
    seed = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    while any(f"field{seed}x" in text for text in texts):
        seed = hashlib.sha256(seed.encode()).hexdigest()[:16]
    return [f"field{seed}x{i:06d}z" for i in range(len(texts))]


def plainly(messages: Sequence[Message], words: list[str]) -> str:
    """Earlier turns by their role, then the last message and the word that a base model answers after."""
    blocks = [
        _content(pieces, words) if role == "system" else f"{role.capitalize()}: {_content(pieces, words)}"
        for role, pieces in messages[:-1]
    ]
    return "\n\n".join([*blocks, _content(messages[-1][1], words), "Answer:"])


def plainly_following(messages: Sequence[Message], words: list[str], texts: Sequence[str]) -> str:
    """The plain form of a conversation whose context comes first: it begins with what was read before each response.

    texts: what the fields hold. A response that a base model wrote begins with its own space, a given one may not.
    """
    blocks = []
    for role, pieces in messages:
        first, content = pieces[0], _content(pieces, words)
        if role == "assistant":
            begin = texts[first] if isinstance(first, int) else first
            content = f"Answer:{'' if begin[:1].isspace() else ' '}{content}"
        elif role == "user" and isinstance(
            first, int
        ):  # the context's message says for itself what is the query
            content = f"Query: {content}"
        blocks.append(content)
    return "\n\n".join([*blocks, "Answer:"])


def by_template(tokenizer: Any, messages: list[Message], words: list[str]) -> str:
    """The first form of the conversation that the chat template takes, with every field in it exactly once."""
    system_merged, failure = _merge_system(messages), ""
    for form in (messages, _merge_turns(messages), system_merged, _merge_turns(system_merged)):
        chat = [{"role": role, "content": _content(pieces, words)} for role, pieces in form]
        try:
            rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template is a program by somebody else and raises whatever it likes
            failure = (
                failure or f"it says: {str(error).strip().splitlines()[0] if str(error).strip() else 'error'}"
            )
            continue
        if all(rendered.count(word) == 1 for word in words):
            return str(rendered)
        failure = failure or "it does not show every message once"
    raise At2Error(f"This model's chat template does not take this conversation ({failure}).")


def _content(pieces: Iterable[str | int], words: list[str]) -> str:
    return "".join(words[p] if isinstance(p, int) else p for p in pieces)


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
