"""What the header of a .gguf file says, read without its tensors and without its vocabulary.

A header is a list of keys with typed values, then a list of tensors. The file may be anybody's: every length is checked
against what is left of it, and a file that promises too much is not read on.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from .errors import ModelNotAvailable

MAGIC = b"GGUF"
MOST_ENTRIES = 4_000_000  # of an array; vocabularies have some hundred thousand
MOST_TENSORS = 100_000
MOST_TEXT = 1_000_000  # bytes; a chat template has some thousand
STRING, ARRAY = 8, 9
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True)
class GgufHeader:
    """values: numbers and texts by key; of arrays of numbers the first, of others nothing. parameters: of all tensors."""

    values: Mapping[str, Any]
    parameters: int

    def of_architecture(self, key: str) -> Any:
        """The value whose key has the architecture's name in front."""
        return self.values.get(f"{self.values.get('general.architecture', '')}.{key}")


def read_gguf_header(path: Path) -> GgufHeader:
    """The header of the file. Raises ModelNotAvailable where it is none, or damaged."""
    try:
        with path.open("rb") as file:
            return _read(file, path.stat().st_size)
    except (OSError, struct.error, ValueError, OverflowError, MemoryError) as error:
        raise ModelNotAvailable(f"{path.name!r} is no .gguf file, or it is damaged.") from error


def _read(file: BinaryIO, size: int) -> GgufHeader:
    if file.read(4) != MAGIC or _number(file, "I") not in (2, 3):
        raise ValueError("no GGUF")
    tensors, keys = _number(file, "Q"), _number(file, "Q")
    if tensors > MOST_TENSORS or keys > MOST_TENSORS:
        raise ValueError("too many")
    values = {}
    for _ in range(keys):
        key = _text(file, size)
        values[key] = _value(file, size, _number(file, "I"))
    parameters = 0
    for _ in range(tensors):
        _text(file, size)
        dimensions = _number(file, "I")
        if dimensions > 8:
            raise ValueError("too many dimensions")
        parameters += prod(_number(file, "Q") for _ in range(dimensions))
        file.seek(12, 1)  # its type and place
    return GgufHeader(values, parameters)


def _value(file: BinaryIO, size: int, kind: int) -> Any:
    if kind == STRING:
        return _text(file, size)
    if kind in NUMBERS:
        return _number(file, NUMBERS[kind])
    if kind != ARRAY:
        raise ValueError("unknown type")
    of, count = _number(file, "I"), _number(file, "Q")
    if count > MOST_ENTRIES:
        raise ValueError("too long")
    if of in NUMBERS:
        width = struct.calcsize("<" + NUMBERS[of])
        first = _number(file, NUMBERS[of]) if count else None
        _skip(file, size, max(0, count - 1) * width)
        return first
    if of != STRING:
        raise ValueError("an array of arrays")
    for _ in range(count):
        _skip(file, size, _number(file, "Q"))
    return None


def _text(file: BinaryIO, size: int) -> str:
    length = _number(file, "Q")
    if length > MOST_TEXT:
        _skip(file, size, length)
        return ""
    found = file.read(length)
    if len(found) < length:
        raise ValueError("cut short")
    return found.decode("utf-8", "replace")


def _skip(file: BinaryIO, size: int, length: int) -> None:
    if file.tell() + length > size:
        raise ValueError("cut short")
    file.seek(length, 1)


def _number(file: BinaryIO, form: str) -> Any:
    width = struct.calcsize("<" + form)
    return struct.unpack("<" + form, file.read(width))[0]
