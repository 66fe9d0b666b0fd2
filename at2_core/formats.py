"""Rows of records out of files and data sets, as they stand there: `file_rows`, `hub_rows`."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import DataError

NO_SCRIPTS = 4  # versions of datasets before ran a data set's own code
MOST_ROWS = 200_000  # of a data set on the hub; more than anybody learns from, and than memory likes
HUB = "hub:"  # what the name of a data set on the hub begins with
Rows = list[tuple[int, Any]]


def file_rows(path: Path) -> Rows:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path.name} is none of {', '.join(READERS)}; a data set of the hub is written {HUB}owner/name."
        )
    try:
        return reader(path)
    except FileNotFoundError:
        raise DataError(f"There is no file {str(path)!r}.") from None
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise DataError(
            f"{path.name} cannot be read as {path.suffix} ({type(error).__name__}: {error})."
        ) from error


def _json_lines(path: Path) -> Rows:
    with open(path, encoding="utf-8-sig", errors="replace") as lines:
        return [(number, _parsed(line)) for number, line in enumerate(lines, 1) if line.strip()]


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None  # counted as a row that is no record


def _json(path: Path) -> Rows:
    """A list of records, or a record whose one list of records is meant, as data sets wrap them."""
    whole = json.loads(path.read_text(encoding="utf-8-sig"))
    if isinstance(whole, dict):
        lists = [value for value in whole.values() if isinstance(value, list)]
        whole = lists[0] if len(lists) == 1 else [whole]
    if not isinstance(whole, list):
        raise ValueError("it holds neither a list nor a record")
    return list(enumerate(whole, 1))


def _csv(path: Path) -> Rows:
    import pandas as pd

    table = pd.read_csv(
        path, dtype=str, keep_default_na=False, encoding="utf-8-sig", encoding_errors="replace"
    )
    return list(enumerate(table.to_dict("records"), 1))


def _parquet(path: Path) -> Rows:
    import pyarrow.parquet as parquet

    return list(enumerate(parquet.read_table(path).to_pylist(), 1))


READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}


def hub_rows(name: str) -> Rows:
    try:
        from datasets import __version__, load_dataset

        if int(__version__.partition(".")[0]) < NO_SCRIPTS:
            raise ImportError
    except ImportError:
        raise DataError(
            f"Reading {name} from the hub needs the package datasets, version {NO_SCRIPTS} or later: "
            f'python -m pip install "datasets>={NO_SCRIPTS}"'
        ) from None
    name, _, part = name.partition("@")
    try:
        table = load_dataset(name, split=part or "train")
    except Exception as error:  # the library raises whatever its readers and its connection raise
        raise DataError(
            f"The data set {name!r} can be neither found nor downloaded ({type(error).__name__}); check the name, the split "
            f"({part or 'train'}) and the connection."
        ) from error
    return list(enumerate(itertools.islice(table, MOST_ROWS), 1))
