"""Examples to learn from and to judge by: tasks, with what is known about them, out of files, folders and data sets.

`read_data`       any of the formats, with a mapping of columns; rows that cannot be used are kept with the reason
`read_examples`   the JSON-lines format of our own, in which every line has to be right
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .errors import At2Error, DataError
from .formats import HUB, file_rows, hub_rows
from .prompts import ContextTask, Document, without_surrogates

# What a column is taken for when nobody says: names in use, the likeliest first. A response is never guessed: the human
# answers of most data sets are not what the model would say, and theta is about what the model says.
KNOWN = {
    "query": ("query", "question", "instruction", "prompt"),
    "context": ("context", "article", "passage", "text", "document", "input"),
    "documents": ("documents", "passages", "paragraphs"),
    "id": ("id", "_id", "uid", "key"),
    "origin": ("source", "origin", "category"),
    "answer": ("answer",),
    "truth": ("supporting_facts",),
}

Fact = tuple[int, int, int]  # document, and characters [start, end) of its text


@dataclass(frozen=True)
class Example:
    """A task; `response` is given or, if None, made by the model.

    truth: the parts of the documents that support `answer`, where the data set knows them.
    """

    id: str
    task: ContextTask
    response: str | None = None
    origin: str = ""  # the record's "source": which data set and which part of it
    answer: str | None = None
    truth: tuple[Fact, ...] = ()

    @property
    def seed(self) -> int:
        """A number that depends on what the example says alone, so that order and resuming change nothing."""
        return int(self.key[:8], 16)

    @property
    def key(self) -> str:
        """16 hexadecimal digits that name this example's files; they too depend on what it says alone."""
        said = json.dumps([self.id, _said(self.task), self.response], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @property
    def group(self) -> str:
        """16 hexadecimal digits of the context: examples that share one belong together."""
        said = json.dumps([self.task.context, [_said(d) for d in self.task.documents]])
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def _said(thing: ContextTask | Document) -> dict[str, Any]:
    """What it says, without where it was printed: files that were named before documents had pages keep their names."""
    return asdict(thing, dict_factory=lambda fields: {key: value for key, value in fields if key != "pages"})


@dataclass(frozen=True)
class Columns:
    """Which column holds what; None where there is none. A query and one of context and documents are needed."""

    query: str | None = "query"
    context: str | None = "context"
    documents: str | None = "documents"
    response: str | None = None
    id: str | None = "id"
    origin: str | None = "source"
    answer: str | None = "answer"
    truth: str | None = "supporting_facts"


@dataclass(frozen=True)
class Unusable:
    """A row that is no example, and why. row: counted from 1."""

    row: int
    reason: str


@dataclass(frozen=True)
class Examples:
    """What was read: usable examples in their order, the rows that were not, the columns that were taken, and all there are."""

    examples: list[Example]
    unusable: list[Unusable] = field(default_factory=list)
    columns: Columns = Columns()
    names: tuple[str, ...] = ()

    def reasons(self) -> dict[str, int]:
        """How many rows each reason cost, the most frequent first."""
        return dict(Counter(u.reason for u in self.unusable).most_common())


def read_data(source: str | Path, columns: Mapping[str, str] | None = None) -> Examples:
    """The examples of a `.jsonl`, `.json`, `.csv` or `.parquet` file, of saved explorations (a `.safetensors` file or a
    folder of them), or of a data set on the hub ("hub:owner/name" or "hub:owner/name@split", with `datasets` installed).

    columns: role ("query", "context", "documents", "response", "id", "origin", "answer", "truth") to column name, or to "" for
    no column; for roles not named, well-known names are looked for. Only a mapped column, or "response" beside "query", gives
    the response. truth: pairs of document and sentence number, where documents come as sentences.
    Raises DataError where the whole source cannot be read, has no rows, or lacks a needed column.
    """
    path = Path(source)
    if str(source).startswith(HUB):
        rows = hub_rows(str(source).removeprefix(HUB))
    elif path.is_dir() or path.suffix == ".safetensors":
        return _explorations(path)
    else:
        rows = file_rows(path)
    first = next((record for _, record in rows if isinstance(record, Mapping)), None)
    if first is None:
        raise DataError(f"{source} has no row that is a record with columns.")
    names = list(dict.fromkeys(str(k) for _, r in rows[:100] if isinstance(r, Mapping) for k in r))
    roles = _columns(names, columns or {}, str(source))
    examples, unusable = [], []
    for number, record in rows:
        try:
            examples.append(_example(record, number, roles))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            unusable.append(Unusable(number, _reason(error)))
    return Examples(examples, unusable, roles, tuple(names))


def read_examples(path: str | Path) -> list[Example]:
    """The examples of a JSON-lines file: "query" with "context" or "documents"; optional "id" and "response".

    A document is {"title", "text"} or {"title", "sentences"}. Raises DataError, naming the line, for one that cannot be used.
    """
    with open(path, encoding="utf-8") as lines:
        return list(parse_examples(lines, Path(path).name))


def parse_examples(lines: Iterable[str], where: str) -> Iterator[Example]:
    """The examples of JSON lines; `where` is named in errors."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield _example(json.loads(line), number, Columns(response="response"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(
                f"Line {number} of {where} is no example ({_reason(error)}); each line needs a JSON object with "
                '"query" and "context", or "query" and "documents".'
            ) from error


def _example(record: Any, number: int, columns: Columns) -> Example:
    if not isinstance(record, Mapping):
        raise ValueError("not a record with columns")
    documents = _listed(_value(record, columns.documents))
    query, context = _value(record, columns.query), _value(record, columns.context)
    if not isinstance(query, str) or not query.strip():
        raise ValueError("no query")
    if not documents and (not isinstance(context, str) or not context.strip()):
        raise ValueError("no context and no documents")
    response = _value(record, columns.response)
    if response is not None and not isinstance(response, str):
        raise ValueError("the response is not a text")
    identity = _value(record, columns.id)
    return Example(
        id=without_surrogates(str(number if identity is None else identity)),
        task=ContextTask(
            context="" if documents else without_surrogates(str(context)),
            query=without_surrogates(query),
            documents=tuple(_document(d) for d in documents),
        ),
        response=response or None,
        origin=str(_value(record, columns.origin) or ""),
        answer=_answer(_value(record, columns.answer)),
        truth=_truth(documents, _value(record, columns.truth)),
    )


def _answer(value: Any) -> str | None:
    """A text, or a number as one."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return without_surrogates(value) if isinstance(value, str) and value.strip() else None


def _truth(documents: list[Any], facts: Any) -> tuple[Fact, ...]:
    """Where the true sentences are, from pairs (document, sentence); nothing where they are not given so."""
    found = []
    with contextlib.suppress(ValueError):
        facts = _listed(facts)
    for pair in facts if isinstance(facts, list) else ():
        match _listed(pair) if hasattr(pair, "tolist") else pair:
            case [int(document), int(number)] if (
                0 <= document < len(documents)
                and number >= 0
                and not (isinstance(document, bool) or isinstance(number, bool))
            ):
                record = documents[document]
            case _:
                continue
        sentences = (
            record.get("sentences") if isinstance(record, Mapping) and record.get("text") is None else None
        )
        if sentences is not None and number < len(sentences):
            start = len(" ".join([*sentences[:number], ""]))
            found.append((document, start, start + len(sentences[number])))
    return tuple(found)


def _value(record: Mapping[str, Any], column: str | None) -> Any:
    """What the column holds; None for what tables write where there is nothing."""
    value = None if column is None else record.get(column)
    return None if isinstance(value, float) and value != value else value


def _listed(value: Any) -> list[Any]:
    """A list of documents: as it is, from an array, or from a cell of a table that holds one as JSON."""
    if (
        value is None
        or value == ""
        or (not isinstance(value, str) and hasattr(value, "__len__") and len(value) == 0)
    ):
        return []
    if isinstance(value, str):
        value = json.loads(value)
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise ValueError("the documents are not a list")
    return list(value)


def _document(record: Any) -> Document:
    if isinstance(record, str):
        return Document(title="", text=without_surrogates(record))
    if not isinstance(record, Mapping):
        raise ValueError("a document is neither a text nor a record with a text")
    text = record.get("text")
    if text is None:
        text = " ".join(record["sentences"])
    if not isinstance(text, str):
        raise ValueError("a document's text is not a text")
    return Document(title=without_surrogates(str(record.get("title") or "")), text=without_surrogates(text))


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return "not valid JSON"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, KeyError):
        return f"no {error.args[0]!r}"
    return str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"


def _columns(names: list[str], asked: Mapping[str, str], source: str) -> Columns:
    roles = {f.name for f in fields(Columns)}
    for role, name in asked.items():
        if role not in roles:
            raise DataError(f"{role!r} is no role of a column; the roles are {', '.join(sorted(roles))}.")
        if name and name not in names:
            raise DataError(f"{source} has no column {name!r}; it has {', '.join(names)}.")
    chosen: dict[str, str | None] = {
        role: next((name for name in known if name in names and name not in asked.values()), None)
        for role, known in KNOWN.items()
    }
    chosen["response"] = "response" if chosen["query"] == "query" and "response" in names else None
    if "context" in asked and "documents" not in asked:
        chosen["documents"] = None
    chosen |= {role: name or None for role, name in asked.items()}
    if chosen["query"] is None or (chosen["context"] is None and chosen["documents"] is None):
        missing = "a query" if chosen["query"] is None else "a context or documents"
        raise DataError(
            f"{source} has no column that is known to hold {missing}; say which of {', '.join(names)} does."
        )
    return Columns(**chosen)


def _explorations(path: Path) -> Examples:
    """Saved explorations as examples: what was asked and what was answered."""
    from .exploration import load

    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"The folder {str(path)!r} has no saved explorations (.safetensors files).")
    examples, unusable = [], []
    for number, file in enumerate(files, 1):
        try:
            saved = load(file)
            examples.append(Example(saved.id, saved.task, saved.text, origin=file.name))
        except At2Error as error:
            unusable.append(Unusable(number, str(error)))
    return Examples(examples, unusable)
