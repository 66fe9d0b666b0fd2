"""Where runs are on this machine: the folder of them all, those that are there, and a name for a new one."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import platformdirs

from .runs import RunFolder


def runs_home() -> Path:
    """Where runs go that nobody gave a folder."""
    return Path(platformdirs.user_data_dir("at2-explorer")) / "runs"


def find_runs(
    root: str | Path | None = None, marks: Sequence[str] = ("request.json", "run.json")
) -> list[RunFolder]:
    """The runs under a folder (default: `runs_home()`), the one that was touched last first. marks: files that show one."""
    home = runs_home() if root is None else Path(root)
    found = {p.parent for name in marks for p in [*home.glob(name), *home.glob(f"*/{name}")]}
    return sorted(map(RunFolder, found), key=lambda run: (-run.touched(), run.name))


def new_folder(root: str | Path | None, title: str) -> Path:
    """A folder under `root` that does not exist yet, named after the title and the day."""
    home = runs_home() if root is None else Path(root)
    plain = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:48] or "run"
    stem = f"{plain}-{datetime.date.today().isoformat()}"
    names = chain([stem], (f"{stem}-{k}" for k in range(2, 10_000)))
    return next(home / name for name in names if not (home / name).exists())
