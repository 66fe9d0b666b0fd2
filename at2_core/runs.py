"""A training run is a folder: what was asked for, how far it is, all that was collected, and the fits.

    request.json        what to do: model, data, settings; enough to go on without asking again
    run.json            what it belongs to: the model's fingerprint and the settings of the collection
    responses/ examples/    one file an example, and the reason beside it where it was skipped
    fits/               theta and its report, one folder a fit
    progress.json, log.jsonl, lock, stop    see `work_folder`

Every file is written whole or not at all, so a run goes on after any end. Nothing here needs torch.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .errors import RunFolderMismatch
from .files import read_arrays, write_arrays
from .work_folder import WorkFolder

FORMAT = 1


@dataclass(frozen=True)
class Settings:
    """How examples are collected; a run folder belongs to one of these."""

    num_ablations: int = 32
    keep_probability: float = 0.5
    granularity: str = "token"
    max_new_tokens: int = 64
    max_prompt_tokens: int = 1024  # longer examples are skipped, and counted
    seed: int = 0
    direct: bool = False  # also what heads write towards the response, with coefficients of its own


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


class RunFolder(WorkFolder):
    """One run's folder; making the object touches nothing on disk."""

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
        before = {
            **asdict(Settings()),
            **(found or {}),
        }  # a folder of an earlier version lacks what came since
        for key in [] if found is None else [key for key in wanted if before.get(key) != wanted[key]]:
            raise self._mismatch(key, before.get(key), wanted[key])
        if found is None:
            self.write("run.json", wanted)

    def _mismatch(self, key: str, old: Any, new: Any) -> RunFolderMismatch:
        if isinstance(old, Settings) and isinstance(new, Settings):
            key = next(k for k, v in asdict(new).items() if getattr(old, k) != v)
            old, new = getattr(old, key), getattr(new, key)
        return RunFolderMismatch(
            f"The run folder {self.folder} was made with {key} {old!r}, not {new!r}; choose another folder or the old setting."
        )

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
        self.replace(f"examples/{key}.skipped", reason)

    def has(self, key: str) -> bool:
        return self.folder.joinpath("examples", f"{key}.npz").is_file()

    def arrays(self, key: str) -> dict[str, np.ndarray] | None:
        """What was collected of an example; None where nothing was, or where the file is damaged (it is made again)."""
        return read_arrays(self.folder / "examples" / f"{key}.npz")

    def keep(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        with self.writing():
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
