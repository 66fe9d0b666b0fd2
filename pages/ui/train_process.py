"""A run's process: apart from the server, so that page changes, reloads and a restart of the server leave it alone.

The process holds a lock on `process.lock` in the run's folder for as long as it lives, from before it has imported
anything; the file says its number. So whoever looks knows whether it is there, also after a crash or a restart.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from at2_core.errors import At2Error
from at2_core.progress import ACTIVE, Progress
from at2_core.runs import RunFolder

try:
    import fcntl
except ImportError:  # Windows, where a lock cannot be handed on to another process
    fcntl = None

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = "output.txt"  # what the process says, of its latest start
LOCK = "process.lock"
PATIENCE = 0.5  # seconds; somebody who only looks whether it is held holds it for a moment
LEAVING = 20.0  # seconds that a process may take to end after it has said that it stopped
UNSEEN = 60.0  # seconds that a process of another server may take to begin, where there is no lock to look at
DIED = "The process ended before it could say why; its last lines are below."

_children: dict[str, subprocess.Popen] = {}  # of this server; asked now and then, so that none stays a zombie
_guard = threading.Lock()


def start(run: RunFolder, command: str = "learn") -> bool:
    """Begin the run, or go on with it, in a process of its own; False where one works there already.

    command: of `python -m at2_core`, that which the folder was made for.
    Raises At2Error where no process can be started or the folder cannot be written.
    """
    try:
        with _guard, _claimed(run) as lock:
            if lock is None or run.is_worked_on():
                return False
            with open(run.folder / OUTPUT, "wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "at2_core", command, "--out", str(run.folder.resolve())],
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    **_apart(lock),
                )
            _children[str(run.folder)] = process
            _note(run, {"pid": process.pid})
    except OSError as error:
        raise At2Error(f"The run cannot be started in {run.folder} ({error.strerror or error}).") from error
    return True


def alive(run: RunFolder) -> bool:
    """Whether the process that a page started is there, working or still loading."""
    child = _children.get(str(run.folder))
    if child is not None and child.poll() is None:
        return True
    path = run.folder / LOCK
    if fcntl is None:
        return child is None and time.time() - _changed(path) < UNSEEN and not _told(run)
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def busy(run: RunFolder) -> bool:
    """Whether anybody works there, a page's process or one from a shell."""
    return alive(run) or run.is_worked_on()


def pause(run: RunFolder) -> None:
    """Ask the process to stop in good order; it goes on with `start`."""
    if run.is_worked_on():
        run.ask_to_stop()
    elif alive(run) and not stopping(run):  # it still loads: only a signal reaches it
        number = _noted(run).get("pid")
        _note(run, {"pid": number, "stopping": True})
        child = _children.get(str(run.folder))
        with contextlib.suppress(OSError):
            if child is not None:
                child.terminate()
            elif isinstance(number, int) and fcntl is not None:
                os.kill(number, signal.SIGTERM)


def stopping(run: RunFolder) -> bool:
    return run.stop_asked() or (alive(run) and bool(_noted(run).get("stopping")))


def seen(run: RunFolder) -> Progress:
    """The run's progress, also while its process says nothing yet, and when it ended before it said anything."""
    progress = run.progress()
    if progress.state in ACTIVE or not run.folder.joinpath(LOCK).exists() or _told(run):
        return progress
    if alive(run):
        return replace(progress, state="starting", seconds_left=None, per_minute=None, message="")
    if _noted(run).get("stopping"):
        return replace(progress, state="paused" if progress.state == "new" else progress.state)
    # It may have spoken and gone between the two looks.
    return run.progress() if _told(run) else replace(progress, state="failed", message=DIED)


def last_lines(run: RunFolder, count: int = 20) -> str:
    """The end of what the process said."""
    try:
        with open(run.folder / OUTPUT, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 64_000))
            said = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in said.splitlines()]
    return "\n".join([line for line in lines if line][-count:])


# ------------------------------------------------------------------------------------------------- inside


@contextlib.contextmanager
def _claimed(run: RunFolder) -> Iterator[int | None]:
    """The lock, held, to be handed on to a process; None where a process holds it."""
    if fcntl is None:
        yield None if alive(run) else -1
        return
    handle = os.open(run.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                leaving = _told(run) and not run.is_worked_on()
                if time.monotonic() > until + (LEAVING if leaving else 0):
                    yield None
                    return
                time.sleep(0.02)
        yield handle
    finally:
        os.close(handle)  # the process has it too, and keeps the lock


def _apart(lock: int) -> dict[str, Any]:
    """What keeps the process out of what happens to the server."""
    if fcntl is None:
        return {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True, "pass_fds": (lock,)}


def _note(run: RunFolder, content: dict[str, Any]) -> None:
    """In place: another file of that name would be another lock."""
    run.folder.joinpath(LOCK).write_text(json.dumps(content), encoding="utf-8")


def _noted(run: RunFolder) -> dict[str, Any]:
    return run.read(LOCK) or {}


def _told(run: RunFolder) -> bool:
    """Whether the process has said how far it is since it was started."""
    return _changed(run.folder / "progress.json") >= _changed(run.folder / LOCK)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
