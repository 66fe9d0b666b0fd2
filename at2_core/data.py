"""Examples to learn from and to judge by: tasks, with what is known about them, read from JSON lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import At2Error
from .prompts import ContextTask, Document


@dataclass(frozen=True)
class Example:
    """A task; `response` is given or, if None, made by the model."""

    id: str
    task: ContextTask
    response: str | None = None
    origin: str = ""  # the record's "source": which data set and which part of it

    @property
    def seed(self) -> int:
        """A number that depends on what the example says alone, so that order and resuming change nothing."""
        said = json.dumps([self.id, asdict(self.task), self.response], sort_keys=True)
        return int.from_bytes(hashlib.sha256(said.encode()).digest()[:4], "big")


def read_examples(path: str | Path) -> list[Example]:
    """The examples of a JSON-lines file: "query" with "context" or "documents"; optional "id" and "response".

    A document is {"title", "text"} or {"title", "sentences"}. Raises At2Error, naming the line, for one that cannot be used.
    """
    with open(path, encoding="utf-8") as lines:
        return list(parse_examples(lines, Path(path).name))


def parse_examples(lines: Iterable[str], where: str) -> Iterator[Example]:
    """The examples of JSON lines; `where` is named in errors."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            yield Example(
                id=str(record.get("id", number)),
                task=ContextTask(
                    context="" if record.get("documents") else record["context"],
                    query=record["query"],
                    documents=tuple(_document(d) for d in record.get("documents") or ()),
                ),
                response=record.get("response"),
                origin=str(record.get("source") or ""),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise At2Error(
                f"Line {number} of {where} is no example ({type(error).__name__}: {error}); each line needs a JSON object "
                'with "query" and "context", or "query" and "documents".'
            ) from error


def _document(record: dict[str, Any]) -> Document:
    text = record["text"] if "text" in record else " ".join(record["sentences"])
    return Document(title=record.get("title") or "", text=text)
