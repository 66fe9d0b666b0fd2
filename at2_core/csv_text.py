"""A table of comma-separated values as text in which each row makes sense by itself.

`read_csv(content)` has a paragraph "column: value; column: value" for each row; DocumentNotRead says what is wrong, in
words that stand behind the file's name.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence

import regex

from .errors import DocumentNotRead
from .plain_text import decoded
from .text_blocks import tidy

_NUMBER = regex.compile(r"[-+\p{N}.,:/\s%\p{Sc}]*")


def read_csv(content: bytes) -> str:
    text = decoded(content)
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # the whole process's: never lowered
    try:
        table = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
        rows = [cells for cells in ([tidy(cell) for cell in row] for row in table) if any(cells)]
    except csv.Error as error:
        raise DocumentNotRead(f"is a damaged table ({error})") from error
    if not rows:
        raise DocumentNotRead("has no rows")
    names = rows[0]
    if len(rows) > 1 and all(name and not _NUMBER.fullmatch(name) for name in names):
        del rows[0]
    else:  # the first row holds values already
        names = [f"Column {n}" for n in range(1, len(rows[0]) + 1)]
    return "\n\n".join(_record(names, cells) for cells in rows)


def _record(names: Sequence[str], cells: Sequence[str]) -> str:
    if len(names) == len(cells) == 1:
        return cells[0]
    more = (f"Column {n}" for n in itertools.count(len(names) + 1))
    pairs = zip(itertools.chain(names, more), cells, strict=False)
    return "; ".join(f"{name}: {value}" for name, value in pairs if value)


def _delimiter(text: str) -> str:
    """What parts the cells: that which cuts the first rows into equally many, more than one."""

    def fit(mark: str) -> tuple[float, int]:
        rows = itertools.islice(csv.reader(io.StringIO(text[:200_000], newline=""), delimiter=mark), 50)
        widths = [len(row) for row in rows if any(row)]
        common = max(set(widths), key=widths.count, default=1)
        return (widths.count(common) / len(widths), common) if common > 1 else (0.0, 1)

    return max(",;\t|", key=fit)
