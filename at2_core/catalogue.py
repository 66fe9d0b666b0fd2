"""All estimators at hand: those that come with the app, the user's own, and imported ones.

`list_estimators`       one entry a file, damaged ones with the reason
`find_estimator`        an entry by name, fingerprint or file
`add_estimator`         keep one: an Estimator, a .safetensors file, a score_estimator.pt, or a hub id
`remove_estimator`      take one of the user's away again
`export_to_hub_folder`  the file and a model card, ready to be uploaded

The user's folder holds his own estimators, and a folder `imported` beside them. Nothing here needs torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs

from . import reference
from .card import FILE, HUB_ID, figures, plain
from .card import export_to_hub_folder as export_to_hub_folder
from .errors import At2Error, EstimatorFileError
from .estimator import BUNDLED, Estimator, load_estimator, save_estimator
from .hub import fetch_hub_estimator
from .torch_archive import MAX_BYTES

KINDS = ("bundled", "own", "imported")


@dataclass(frozen=True)
class Entry:
    """One file. kind: "bundled", "own" or "imported". problem: why it cannot be read; then there is no estimator."""

    kind: str
    path: Path
    estimator: Estimator | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """One line of plain text, whoever wrote it."""
        return (plain(self.estimator.name, 120) if self.estimator else "") or plain(self.path.name, 120)

    @property
    def model(self) -> str:
        return plain(self.estimator.model, 120) if self.estimator else ""

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, heads)."""
        return (self.estimator.theta.shape[0], self.estimator.theta.shape[1]) if self.estimator else (0, 0)

    @property
    def fingerprint(self) -> str:
        return self.estimator.fingerprint if self.estimator else ""

    @property
    def figures(self) -> Mapping[str, float]:
        """The validation figures that the file carries, by name."""
        return figures(self.estimator) if self.estimator else {}


def own_home() -> Path:
    """The user's folder of estimators; it need not exist."""
    return Path(platformdirs.user_data_dir("at2-explorer")) / "estimators"


def list_estimators(own_dir: str | Path | None = None) -> list[Entry]:
    """Bundled, own and imported ones, each sorted by file name. A damaged file is an entry with its reason."""
    home = _home(own_dir)
    folders = zip(KINDS, (BUNDLED, home, home / "imported"), strict=True)
    return [_entry(kind, path) for kind, folder in folders for path in sorted(folder.glob("*.safetensors"))]


def find_estimator(which: str | Path, own_dir: str | Path | None = None) -> Entry:
    """The entry with this fingerprint, name, file name or path. Raises EstimatorFileError.

    A file elsewhere is an entry of kind "imported" that belongs to nobody's folder.
    """
    entries, asked = list_estimators(own_dir), str(which)
    for entry in entries:
        if asked in (entry.fingerprint, entry.name, entry.path.stem, entry.path.name, str(entry.path)):
            return entry
    if Path(which).is_file():
        return _entry("imported", Path(which))
    known = ", ".join(f"{e.fingerprint} ({e.name})" for e in entries if e.estimator) or "none"
    raise EstimatorFileError(f"There is no estimator {plain(asked, 80)!r}; there are: {known}.")


def read_estimator(source: str | Path, *, name: str = "", model: str = "") -> Estimator:
    """The estimator in a .safetensors file, in a score_estimator.pt of the published AT2 code, or in either on the hub.

    name, model: for a score_estimator.pt, which tells neither. Raises EstimatorFileError.
    """
    path = Path(source).expanduser()
    if path.is_file():
        if path.suffix == ".safetensors":
            return load_estimator(path)
        return reference.import_reference(path, name=name, model=model)
    asked = str(source)
    if not HUB_ID.fullmatch(asked) or path.suffix in (".safetensors", ".pt"):
        raise EstimatorFileError(f"{plain(asked, 80)!r} is neither a file nor a hub id (owner/name).")
    fetched = fetch_hub_estimator(asked, (FILE, reference.FILE), MAX_BYTES)
    if fetched.suffix == ".safetensors":
        return load_estimator(fetched)
    return reference.import_reference(fetched, name=name or asked, model=model)


def add_estimator(
    source: str | Path | Estimator,
    *,
    name: str = "",
    model: str = "",
    own_dir: str | Path | None = None,
) -> Entry:
    """Keep an estimator: an Estimator as one's own, what `read_estimator` reads as imported. The same one is kept once.

    Of what is imported, one that is there already is returned, unless it is to have another name.

    name: instead of the one that it has. Raises EstimatorFileError; At2Error where the folder cannot be written.
    """
    if isinstance(source, Estimator):
        kind, estimator = "own", source
    else:
        kind, estimator = "imported", read_estimator(source, name=name, model=model)
    if name and name != estimator.name:
        estimator = replace(estimator, name=name)
    elif kind == "imported":
        for entry in list_estimators(own_dir):
            if (entry.fingerprint, entry.model) == (estimator.fingerprint, estimator.model):
                return entry
    home = _home(own_dir)
    folder = home if kind == "own" else home / "imported"
    path = folder / f"{slug(estimator.name)}-{estimator.fingerprint}.safetensors"
    save_estimator(estimator, path)
    return _entry(kind, path)


def remove_estimator(which: Entry | str | Path, own_dir: str | Path | None = None) -> Entry:
    """Delete one of the user's estimators, and return what it was. Raises EstimatorFileError for any other file."""
    entry = which if isinstance(which, Entry) else find_estimator(which, own_dir)
    home = _home(own_dir)
    if entry.path.resolve().parent not in (home.resolve(), (home / "imported").resolve()):
        raise EstimatorFileError(
            f"{entry.name} is not among your own estimators in {home}, so it is not removed here."
        )
    try:
        entry.path.unlink(missing_ok=True)
    except OSError as error:
        raise At2Error(f"{entry.path} could not be removed ({error.strerror or error}).") from error
    return entry


def slug(text: str) -> str:
    """Part of a file name: lower case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:48] or "estimator"


def _home(own_dir: str | Path | None) -> Path:
    return own_home() if own_dir is None else Path(own_dir)


def _entry(kind: str, path: Path) -> Entry:
    try:
        return Entry(kind, path, load_estimator(path))
    except (At2Error, OSError) as error:
        return Entry(kind, path, problem=str(error))
