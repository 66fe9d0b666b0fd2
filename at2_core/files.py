"""Files that are written whole or not at all: arrays, and the patience that Windows asks for. Nothing here needs torch."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .errors import StorageError

PATIENCE_TIMES = 40  # of 50 ms


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of an `.npz` file; None where there is none. A damaged one is removed, so that it is made again.

    Raises StorageError where the disk does not give the file: that says nothing about what is in it.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        return None
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile):
        path.unlink(missing_ok=True)
        return None
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read ({error.strerror}); mend the disk, or start again later."
        ) from error


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """An `.npz` file, whole or not at all. Raises OSError."""
    part = path.with_name(f"{path.stem}.{os.getpid()}-{threading.get_ident()}.part.npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(part, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        patiently(lambda: part.replace(path))
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """A reader, or the next start after a crash, sees the old file or the new one, never half. Raises OSError."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        patiently(lambda: part.replace(path))
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def patiently(action: Callable[[], Any]) -> Any:
    """On Windows a file that another process has open for a moment can be neither replaced nor read."""
    for _ in range(PATIENCE_TIMES):
        try:
            return action()
        except PermissionError:
            if os.name != "nt":
                raise
            time.sleep(0.05)
    return action()
