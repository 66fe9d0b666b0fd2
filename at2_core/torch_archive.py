"""What torch.save wrote, as values and arrays, without running anything that the file says.

torch.save writes a zip archive with a pickle in it, and a pickle is a program. It is not given to an unpickler here, not
even a restricted one: `_read_values` is a small machine of its own. It knows the two dozen instructions that torch.save
uses, calls nothing, and takes five names for what they stand for; any other name or instruction refuses the file.

    read_archive(path)      -> (what was saved, bytes of each storage)
    array(tensor, arrays)   -> float32, flat
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

MAX_BYTES = 16_000_000  # of the whole file; a million coefficients are 4 MB
MAX_PICKLE = 256_000  # bytes of the description; a real one has half a kilobyte
MAX_ENTRIES = 64
DTYPES = {"FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "<u2"}
DICT, TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
NAMES = {DICT, TENSOR, *(f"torch {storage}" for storage in DTYPES)}


class Refused(Exception):
    """The reason, as the end of a sentence."""


@dataclass(frozen=True)
class Tensor:
    """storage: key, kind and number of elements. The numbers themselves are read when `array` is asked."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Storage:
    key: str
    kind: str
    count: int


@dataclass(frozen=True)
class _Name:
    """One of NAMES: never the thing itself."""

    name: str


def _check(path: Path) -> None:
    """Refuse what cannot be such a file at all, before anything of it is parsed."""
    if not path.is_file():
        refuse("there is no such file")
    if path.stat().st_size > MAX_BYTES:
        refuse(f"it has more than {MAX_BYTES // 1_000_000} MB, and an estimator has a few kilobytes")
    with path.open("rb") as file:
        start = file.read(4)
    if start != b"PK\x03\x04":
        refuse(
            "it is no archive as torch.save writes it; the older format, a bare pickle, is not read at all"
        )


def read_archive(path: Path) -> tuple[Mapping[str, Any], dict[str, bytes]]:
    """(what was saved, bytes of each storage by its key).

    What was saved is made of dictionaries, lists, tuples, texts, numbers and `Tensor`. Raises Refused with a reason; for a
    damaged file also what zipfile and pickletools raise.
    """
    _check(path)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_ENTRIES:
            refuse(f"it holds {len(entries)} files, and an estimator a handful")
        if len({e.filename for e in entries}) != len(entries):
            refuse("it holds two files of one name")
        for entry in entries:
            # torch.save never compresses, so nothing in here may be larger than the file itself.
            if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                refuse("it is compressed, which torch.save never does")
            if entry.flag_bits & 1:
                refuse("it is encrypted")
        if sum(e.file_size for e in entries) > MAX_BYTES:
            refuse("its parts are larger than the file itself")
        roots = [e.filename.removesuffix("data.pkl") for e in entries if e.filename.endswith("/data.pkl")]
        if len(roots) != 1 or roots[0].count("/") != 1:
            refuse("it has no data.pkl, or more than one")
        found = {e.filename.removeprefix(roots[0]): e for e in entries if e.filename.startswith(roots[0])}
        if found["data.pkl"].file_size > MAX_PICKLE:
            refuse(f"its description has more than {MAX_PICKLE // 1000} kB, and a real one half of one")
        if "byteorder" in found and _bytes(archive, found["byteorder"]) != b"little":
            refuse("it was written on a big-endian machine")
        saved = a(dict, _read_values(_bytes(archive, found["data.pkl"])))
        arrays = {
            k.removeprefix("data/"): _bytes(archive, e) for k, e in found.items() if k.startswith("data/")
        }
    return saved, arrays


def _bytes(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """An entry's bytes: as many as it declares, with the checksum it declares."""
    with archive.open(entry) as file:
        content = file.read(entry.file_size + 1)
    if len(content) != entry.file_size:
        refuse("a part of it is shorter than it says")
    return content


def _read_values(program: bytes) -> Any:
    """What the pickle builds, made of dictionaries, lists, tuples, texts, numbers and `Tensor`. Nothing is called."""
    stack: list[Any] = []
    below: list[list[Any]] = []  # stacks under the open marks
    memo: dict[int, Any] = {}
    value: Any
    for code, value, _ in pickletools.genops(program):
        match code.name:
            case "PROTO":
                if value != 2:
                    refuse(f"its description is written in pickle protocol {value}, not 2")
            case "MARK":
                below.append(stack)
                stack = []
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(code.name == "NEWTRUE")
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE":
                stack.append(value)
            case "GLOBAL":
                if value not in NAMES:
                    refuse(f"it asks for {value[:80]!r}, which an estimator has no use for")
                stack.append(_Name(value))
            case "BINPUT" | "LONG_BINPUT":
                memo[value] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[value])
            case "TUPLE":
                stack, items = below.pop(), stack
                stack.append(tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(code.name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "APPEND" | "APPENDS":
                stack, items = (below.pop(), stack) if code.name == "APPENDS" else (stack, [stack.pop()])
                a(list, stack[-1]).extend(items)
            case "SETITEM" | "SETITEMS":
                if code.name == "SETITEM":
                    items = [stack.pop(), stack.pop()][::-1]
                else:
                    stack, items = below.pop(), stack
                for key, item in zip(items[::2], items[1::2], strict=True):
                    a(dict, stack[-1])[a(str, key)] = item
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "REDUCE":
                arguments = stack.pop()
                stack.append(_made(stack.pop(), arguments))
            case "BUILD":  # the version numbers that a state_dict carries beside its tensors
                stack.pop()
                a(dict, stack[-1])
            case "STOP":
                return stack.pop()
            case _:
                refuse(f"its description has the instruction {code.name}, which torch.save does not write")
    raise ValueError("the description has no end")


def _made(what: Any, arguments: Any) -> Any:
    """What stands for `what(*arguments)`."""
    if what == _Name(DICT) and arguments == ():
        return {}
    if what == _Name(TENSOR) and isinstance(arguments, tuple) and len(arguments) in (6, 7):
        storage, offset, size, stride = arguments[:4]
        integers = (offset, *a(tuple, size), *a(tuple, stride))
        if all(type(i) is int and i >= 0 for i in integers):
            return Tensor(a(Storage, storage), offset, size, stride)
    raise Refused("it builds something that is neither a dictionary nor a tensor")


def _storage(persistent: Any) -> Storage:
    match persistent:
        case ("storage", _Name(name), str(key), str(), int(count)) if name.startswith("torch "):
            return Storage(key, name.removeprefix("torch "), count)
    raise Refused("it refers to something that is no tensor")


def array(tensor: Tensor, arrays: Mapping[str, bytes]) -> np.ndarray:
    """float32, flat, all finite."""
    count, content = int(np.prod(tensor.size, dtype=object)), arrays[tensor.storage.key]
    dtype = np.dtype(DTYPES[tensor.storage.kind])
    contiguous = len(tensor.stride) == len(tensor.size) and tensor.stride[-1:] == (1,)
    if not contiguous or len(content) != tensor.storage.count * dtype.itemsize:
        refuse("its tensor and the bytes of it do not fit together")
    if not 0 < count <= tensor.storage.count - tensor.offset:
        refuse("its tensor is larger than the bytes of it")
    raw = np.frombuffer(content, dtype)[tensor.offset : tensor.offset + count]
    if tensor.storage.kind == "BFloat16Storage":  # the upper half of a float32
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    values = raw.astype(np.float32)
    if not np.isfinite(values).all():
        refuse("theta holds numbers that are not finite")
    return values


def a(kind: type, value: Any) -> Any:
    """The value, if it is of this kind; ValueError otherwise."""
    if not isinstance(value, kind):
        raise ValueError(f"{type(value).__name__} where {kind.__name__} belongs")
    return value


def refuse(reason: str) -> NoReturn:
    raise Refused(reason)
