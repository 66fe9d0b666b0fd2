"""A training run is a folder: what was asked for, how far it is, all that was collected, and the fits.

    request.json        what to do: model, data, settings; enough to go on without asking again
    run.json            what it belongs to: the model's fingerprint and the settings of the collection
    progress.json       stage, numbers, time; rewritten after every example
    log.jsonl           what happened when
    responses/ examples/    one file an example, and the reason beside it where it was skipped
    fits/               theta and its report, one folder a fit
    lock, stop          held while a process works here; put here to make it stop

Every file is written whole or not at all, so a run goes on after any end. Nothing here needs torch.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import re
import stat
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import FileLock, Timeout

from .errors import At2Error, Cancelled, RunFolderMismatch
from .files import patiently, read_arrays, write_arrays

FORMAT = 1
LOCK_PATIENCE = 5.0  # seconds; somebody who only looks whether it is held holds it for a moment
STOP_POLL = 0.5  # seconds between two looks for the stop file
ACTIVE = ("starting", "running")


@dataclass(frozen=True)
class Settings:
    """How examples are collected; a run folder belongs to one of these."""

    num_ablations: int = 32
    keep_probability: float = 0.5
    granularity: str = "token"
    max_new_tokens: int = 64
    max_prompt_tokens: int = 1024  # longer examples are skipped, and counted
    seed: int = 0


@dataclass(frozen=True)
class Request:
    """All that a run needs to start, and to go on in another process: what a person chose.

    fit: fields of `FitSettings` that differ from its defaults. about: name and licence of the data.
    """

    model: str
    data: str
    columns: Mapping[str, str] = field(default_factory=dict)
    contains: str = ""
    max_examples: int | None = None
    settings: Settings = Settings()
    fit: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    dtype: str = "auto"
    cluster: str | None = None
    workers: int | None = None


@dataclass(frozen=True)
class Progress:
    """How far a run is. state: "new", "starting", "running", "paused", "done", "failed" or "interrupted".

    seconds_left: at the pace of the present stage; None while there is none. skipped: examples by reason. disk_mb: taken so
    far.
    """

    state: str = "new"
    stage: str = ""
    done: int = 0
    total: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    seconds_left: float | None = None
    per_minute: float | None = None
    disk_mb: float = 0.0
    message: str = ""
    updated: str = ""


class RunFolder:
    """One run's folder; making the object touches nothing on disk."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._held = False

    @property
    def name(self) -> str:
        return self.folder.name

    # ------------------------------------------------------------------------------- what it is

    def ask(self, request: Request) -> None:
        """Write down what is to be done. Raises RunFolderMismatch where other data or another model was asked for before."""
        before = self.request()
        for key in ("model", "data", "settings") if before else ():
            old, new = getattr(before, key), getattr(request, key)
            if old != new:
                raise self._mismatch(key, old, new)
        self.write("request.json", {"format": FORMAT, **asdict(request)})

    def request(self) -> Request | None:
        """What was asked for, or None. Raises RunFolderMismatch where the file is damaged."""
        found = self.read("request.json")
        if found is None:
            return None
        try:
            found.pop("format")
            return Request(**{**found, "settings": Settings(**found["settings"])})
        except (TypeError, KeyError, AttributeError):
            raise RunFolderMismatch(
                f"{self.folder / 'request.json'} is damaged; give the model and the data again, with another folder."
            ) from None

    def identify(self, model: str, fingerprint: str, dtype: str, settings: Settings) -> None:
        """Make the folder this model's, or check that it is. Raises RunFolderMismatch, naming what differs."""
        wanted = {"model": model, "fingerprint": fingerprint, "dtype": dtype, **asdict(settings)}
        found = self.read("run.json")
        if found is None and self.folder.joinpath("run.json").exists():
            raise RunFolderMismatch(
                f"{self.folder / 'run.json'} is damaged, so nobody knows which model the folder belongs to; choose another one."
            )
        for key in [] if found is None else [key for key in wanted if found.get(key) != wanted[key]]:
            raise self._mismatch(key, found.get(key) if found else None, wanted[key])
        if found is None:
            self.write("run.json", wanted)

    def _mismatch(self, key: str, old: Any, new: Any) -> RunFolderMismatch:
        if isinstance(old, Settings) and isinstance(new, Settings):
            key = next(k for k, v in asdict(new).items() if getattr(old, k) != v)
            old, new = getattr(old, key), getattr(new, key)
        return RunFolderMismatch(
            f"The run folder {self.folder} was made with {key} {old!r}, not {new!r}; choose another folder or the old setting."
        )

    # ------------------------------------------------------------------------------- who works here

    @contextlib.contextmanager
    def working(self, cancel: threading.Event) -> Iterator[None]:
        """Hold the folder for this process; `cancel` is set when somebody asks for a stop. Raises At2Error if it is held.

        Within itself, for the same object, it does nothing.
        """
        if self._held:
            yield
            return
        self._make(self.folder)
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
            last = asdict(self.progress())
            self.tell(
                Progress(
                    **{
                        **last,
                        "state": state,
                        "message": message,
                        "seconds_left": None,
                        "disk_mb": self.disk_mb(),
                    }
                )
            )
            self.log(state, message=message)

        try:
            yield
        except Cancelled as stopped:
            end("paused", str(stopped))
            raise
        except BaseException as error:
            with contextlib.suppress(At2Error):  # a full disk takes no message either
                end(
                    "failed",
                    str(error) if isinstance(error, At2Error) else f"{type(error).__name__}: {error}",
                )
            raise
        end("done", "")

    def log(self, event: str, **facts: Any) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with self._writing(), open(self.folder / "log.jsonl", "a", encoding="utf-8") as file:
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

    # ------------------------------------------------------------------------------- what was collected

    def response(self, key: str) -> list[int] | None:
        found = self.read(f"responses/{key}.json")
        return None if found is None else [int(i) for i in found["ids"]]

    def keep_response(self, key: str, ids: Sequence[int]) -> None:
        self.write(f"responses/{key}.json", {"ids": list(ids)})

    def skipped(self, key: str) -> str | None:
        path = self.folder / "examples" / f"{key}.skipped"
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def skip(self, key: str, reason: str) -> None:
        self._replace(self.folder / "examples" / f"{key}.skipped", reason.encode())

    def has(self, key: str) -> bool:
        return self.folder.joinpath("examples", f"{key}.npz").is_file()

    def arrays(self, key: str) -> dict[str, np.ndarray] | None:
        """What was collected of an example; None where nothing was, or where the file is damaged (it is made again)."""
        return read_arrays(self.folder / "examples" / f"{key}.npz")

    def keep(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        with self._writing():
            write_arrays(self.folder / "examples" / f"{key}.npz", arrays)

    def keys(self) -> list[str]:
        """Keys of all collected examples, sorted."""
        return sorted(p.stem for p in self.folder.glob("examples/*.npz") if ".part" not in p.name)

    def groups(self) -> set[str]:
        """Groups (contexts) of all collected examples."""
        found = set()
        for key in self.keys():
            with (
                contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile),
                np.load(self.folder / "examples" / f"{key}.npz", allow_pickle=False) as arrays,
            ):
                found.add(str(arrays["group"]))
        return found

    def reasons(self) -> dict[str, int]:
        """Skipped examples by reason."""
        found = (p.read_text(encoding="utf-8") for p in self.folder.glob("examples/*.skipped"))
        return dict(Counter(found).most_common())

    def disk_mb(self) -> float:
        return sum(s.st_size for p in self.folder.rglob("*") if (s := _file(p))) / 1e6

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
        self._replace(self.folder / name, json.dumps(content, indent=1).encode())

    def replace(self, name: str, text: str) -> None:
        """A text file of the folder, whole or not at all."""
        self._replace(self.folder / name, text.encode("utf-8", "replace"))

    def _replace(self, path: Path, content: bytes) -> None:
        """A reader, or the next start after a crash, sees the old file or the new one, never half."""
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        with self._writing(part):
            self._make(path.parent)
            with open(part, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            patiently(lambda: part.replace(path))

    def _make(self, folder: Path) -> None:
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def _writing(self, part: Path | None = None) -> Iterator[None]:
        """Turns what the disk refuses into a sentence; half a file is not left behind."""
        try:
            yield
        except OSError as error:
            if part is not None:
                with contextlib.suppress(OSError):
                    part.unlink(missing_ok=True)
            what = (
                "The disk is full"
                if error.errno in (errno.ENOSPC, errno.EDQUOT)
                else f"Writing failed ({error.strerror})"
            )
            raise At2Error(
                f"{what}: {self.folder} cannot be written. Free some space, or mend the folder, and start again; nothing that "
                "was collected before is lost."
            ) from error


class Pace:
    """Time of a stage, told to the run folder: how fast, how much is left."""

    def __init__(
        self, run: RunFolder, stage: str, done: int, total: int, skipped: Mapping[str, int], began: float
    ) -> None:
        self.run, self.stage, self.total = run, stage, total
        self.at_start, self.began, self.stage_began = done, began, time.monotonic()
        self.report(done, skipped)

    def report(self, done: int, skipped: Mapping[str, int], fresh: int | None = None) -> None:
        """fresh: how many were done by this process, where that differs from what is there."""
        now = time.monotonic()
        worked = done - self.at_start if fresh is None else fresh
        rate = worked / (now - self.stage_began) if worked and now > self.stage_began else None
        self.run.tell(
            Progress(
                state="running",
                stage=self.stage,
                done=done,
                total=self.total,
                skipped=dict(skipped),
                seconds=now - self.began,
                seconds_left=(self.total - done) / rate if rate else None,
                per_minute=60 * rate if rate else None,
            )
        )


def runs_home() -> Path:
    """Where runs go that nobody gave a folder."""
    return Path(platformdirs.user_data_dir("at2-explorer")) / "runs"


def find_runs(
    root: str | Path | None = None, marks: Sequence[str] = ("request.json", "run.json")
) -> list[RunFolder]:
    """The runs under a folder (default: `runs_home()`), the one that was touched last first. marks: files that show one."""
    home = runs_home() if root is None else Path(root)
    found = {p.parent for name in marks for p in [*home.glob(name), *home.glob(f"*/{name}")]}
    return [RunFolder(p) for p in sorted(found, key=lambda p: (-_touched(p), p.name))]


def new_folder(root: str | Path | None, title: str) -> Path:
    """A folder under `root` that does not exist yet, named after the title and the day."""
    home = runs_home() if root is None else Path(root)
    plain = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:48] or "run"
    stem = f"{plain}-{datetime.date.today().isoformat()}"
    taken: Callable[[str], bool] = lambda name: (home / name).exists()  # noqa: E731
    name = (
        stem
        if not taken(stem)
        else next(n for n in (f"{stem}-{k}" for k in range(2, 10_000)) if not taken(n))
    )
    return home / name


def _touched(folder: Path) -> float:
    try:
        return max((s.st_mtime for p in folder.iterdir() if (s := _file(p))), default=0.0)
    except OSError:  # removed since it was found
        return 0.0


def _file(path: Path) -> os.stat_result | None:
    """None for a folder, and for what another process has replaced or removed since it was listed."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None
