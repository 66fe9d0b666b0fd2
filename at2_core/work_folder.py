"""A folder that one process at a time works in: whoever looks sees who works there and how far it is, also after a crash.

    progress.json       stage, numbers, time; rewritten after every example
    log.jsonl           what happened when
    lock, stop          held while a process works here; put here to make it stop

Every file is written whole or not at all. Nothing here needs torch.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import At2Error, Cancelled
from .files import patiently, write_whole
from .progress import ACTIVE, Progress

LOCK_PATIENCE = 5.0  # seconds; somebody who only looks whether it is held holds it for a moment
STOP_POLL = 0.5  # seconds between two looks for the stop file


class WorkFolder:
    """Making the object touches nothing on disk."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._held = False

    @property
    def name(self) -> str:
        return self.folder.name

    # ------------------------------------------------------------------------------- who works here

    @contextlib.contextmanager
    def working(self, cancel: threading.Event) -> Iterator[None]:
        """Hold the folder for this process; `cancel` is set when somebody asks for a stop. Raises At2Error if it is held.

        Within itself, for the same object, it does nothing.
        """
        if self._held:
            yield
            return
        with self.writing():
            self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=LOCK_PATIENCE)
        except Timeout:
            raise At2Error(
                f"Another process is working in {self.folder}; wait for it, or stop it with: python -m at2_core runs "
                f"--stop {self.folder}"
            ) from None
        except OSError as error:
            raise At2Error(
                f"{self.folder} cannot be worked in ({error.strerror}); mend the folder."
            ) from error
        over = threading.Event()

        def watch() -> None:
            while not over.wait(STOP_POLL):
                if self.stop_asked():
                    cancel.set()
                    return

        try:
            self._held = True
            self.folder.joinpath("stop").unlink(missing_ok=True)
            threading.Thread(target=watch, daemon=True).start()
            yield
        finally:
            self._held = False
            over.set()
            self.folder.joinpath("stop").unlink(missing_ok=True)
            lock.release()

    def is_worked_on(self) -> bool:
        if not self.folder.joinpath("lock").exists():
            return False
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:  # a folder that can be read only
            return False
        lock.release()
        return False

    def ask_to_stop(self) -> None:
        """The process that works here pauses after what it is doing; it goes on when it is started again."""
        if self.is_worked_on():
            self.folder.joinpath("stop").touch()

    def stop_asked(self) -> bool:
        return self.folder.joinpath("stop").exists()

    # ------------------------------------------------------------------------------- how far it is

    def progress(self) -> Progress:
        """As written last; "interrupted" where the process that wrote it is gone without a word."""
        found = self.read("progress.json")
        if found is None:
            return Progress(state="starting" if self.is_worked_on() else "new")
        known = {key: found[key] for key in Progress.__dataclass_fields__ if key in found}
        progress = Progress(**known)
        if progress.state in ACTIVE and not self.is_worked_on():
            return replace(progress, state="interrupted", seconds_left=None)
        return progress

    def tell(self, progress: Progress) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.write("progress.json", asdict(replace(progress, updated=now)))

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Whatever ends the work in this block, the folder says so."""

        def end(state: str, message: str) -> None:
            facts: dict[str, Any] = {"seconds_left": None, "disk_mb": self.disk_mb()}
            self.tell(replace(self.progress(), state=state, message=message, **facts))
            self.log(state, message=message)

        try:
            yield
        except Cancelled as stopped:
            end("paused", str(stopped))
            raise
        except BaseException as error:
            said = str(error) if isinstance(error, At2Error) else f"{type(error).__name__}: {error}"
            with contextlib.suppress(At2Error):  # a full disk takes no message either
                end("failed", said)
            raise
        end("done", "")

    def log(self, event: str, **facts: Any) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with self.writing(), open(self.folder / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"at": now, "event": event, **facts}) + "\n")

    def events(self, last: int = 200) -> list[dict[str, Any]]:
        """The log's last lines; a line that a crash cut short is left out."""
        path = self.folder / "log.jsonl"
        if not path.is_file():
            return []
        found = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[-last:]:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [event for event in found if isinstance(event, dict)]

    # ------------------------------------------------------------------------------- files

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the folder; None where it is missing or is no JSON object. Raises At2Error where it cannot be read."""
        try:
            found = json.loads(patiently(lambda: self.folder.joinpath(name).read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
            return None
        except OSError as error:
            raise At2Error(
                f"{self.folder / name} cannot be read ({error.strerror}); mend the folder."
            ) from error
        return found if isinstance(found, dict) else None

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        self.replace(name, json.dumps(content, indent=1))

    def replace(self, name: str, text: str) -> None:
        """A text file of the folder, whole or not at all."""
        with self.writing():
            write_whole(self.folder / name, text.encode("utf-8", "replace"))

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turns what the disk refuses into a sentence."""
        try:
            yield
        except OSError as error:
            what = (
                "The disk is full"
                if error.errno in (errno.ENOSPC, errno.EDQUOT)
                else f"Writing failed ({error.strerror})"
            )
            raise At2Error(
                f"{what}: {self.folder} cannot be written. Free some space, or mend the folder, and start again; nothing that "
                "was collected before is lost."
            ) from error

    def disk_mb(self) -> float:
        return sum(s.st_size for p in self.folder.rglob("*") if (s := _file(p))) / 1e6

    def touched(self) -> float:
        """When a file of the folder was last written, in seconds of the clock; 0 where there is none."""
        try:
            return max((s.st_mtime for p in self.folder.iterdir() if (s := _file(p))), default=0.0)
        except OSError:  # removed since it was found
            return 0.0


def _file(path: Path) -> os.stat_result | None:
    """None for a folder, and for what another process has replaced or removed since it was listed."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None
