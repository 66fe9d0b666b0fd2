"""An evaluation is a folder too: what was asked for, how far it is, ablations, and rows that can be read while it works.

`EvaluationRequest`          what to judge, on what
`fits`                       whether an example is one of those
`ask`, `asked`               write it into a folder, read it again
`read_rows`                  the rows so far
`evaluations_home`, `find_evaluations`   where evaluations are

Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import platformdirs

from .data import Example
from .errors import At2Error, RunFolderMismatch
from .prompts import render
from .run_places import find_runs
from .runs import FORMAT, RunFolder
from .sources import cut

# Without those that take longer than the ablations that judge them.
METHODS = (
    "at2",
    "at2_ablations_8",
    "average",
    "top_heads",
    "last_layer",
    "rollout",
    "gradient",
    "bm25",
    "random",
)
SHOWN = "shown.json"  # which examples and methods were asked for last
MEASURED = ("model", "data", "columns", "contains", "granularity", "max_new_tokens", "ablations", "seed")


@dataclass(frozen=True)
class EvaluationRequest:
    """What a person chose.

    methods: names; estimators: further ones beside the model's own, by fingerprint, name or file. examples: the first so many
    that have min_sources and at most max_prompt_tokens. not_learned_in: run folders whose examples, and all that share a
    context with them, are left out. ablations: of each example, for the LDS; 0 judges by known truth alone. reference: the
    method that the others' differences are taken to.
    """

    model: str
    data: str
    columns: Mapping[str, str] = field(default_factory=dict)
    contains: str = ""
    examples: int = 100
    min_sources: int = 2
    max_prompt_tokens: int | None = None
    methods: tuple[str, ...] = METHODS
    estimators: tuple[str, ...] = ()
    not_learned_in: tuple[str, ...] = ()
    granularity: str = "sentence"
    ablations: int = 32
    top_k: tuple[int, ...] = (1, 3, 5)
    max_new_tokens: int = 64
    seed: int = 1
    reference: str = "average"
    device: str = "auto"
    dtype: str = "auto"


def fits(tokenizer: Any, example: Example, request: EvaluationRequest) -> bool:
    """Whether the example has enough sources, and a prompt short enough, for what was asked."""
    if request.min_sources <= 2 and request.max_prompt_tokens is None:
        return True
    try:
        prompt = render(tokenizer, example.task)
        short = request.max_prompt_tokens is None or prompt.n <= request.max_prompt_tokens
        return short and len(cut(prompt, request.granularity)) >= request.min_sources
    except At2Error:  # what has no prompt has no sources either
        return False


def ask(run: RunFolder, request: EvaluationRequest) -> None:
    """Write down what is to be judged. Raises RunFolderMismatch where the folder holds rows of other data or settings, or is a
    training run's."""
    if any(run.folder.joinpath(name).exists() for name in ("request.json", "run.json")):
        raise RunFolderMismatch(
            f"{run.folder} holds a training run; choose another folder for the evaluation."
        )
    before = asked(run)
    for key in MEASURED if before and any(run.folder.glob("rows/*.json")) else ():
        old, new = getattr(before, key), getattr(request, key)
        if old != new:
            raise RunFolderMismatch(
                f"The folder {run.folder} was made with {key} {old!r}, not {new!r}; choose another folder or the old setting."
            )
    run.write("evaluation.json", {"format": FORMAT, **asdict(request)})


def asked(run: RunFolder) -> EvaluationRequest | None:
    """What was asked for, or None. Raises RunFolderMismatch where the file is damaged."""
    found = run.read("evaluation.json")
    if found is None:
        return None
    try:
        found.pop("format")
        lists: dict[str, Any] = {
            key: tuple(found[key])
            for key in ("methods", "estimators", "not_learned_in", "top_k")
            if key in found
        }
        return EvaluationRequest(**{**found, **lists})
    except (TypeError, KeyError):
        raise RunFolderMismatch(
            f"{run.folder / 'evaluation.json'} is damaged; give the model and the data again, with another folder."
        ) from None


def read_rows(out_dir: str | Path) -> pd.DataFrame:
    """The rows that were asked for last, as far as they are there, in the examples' order; also while a process works on."""
    home = RunFolder(out_dir)
    shown = home.read(SHOWN) or {}
    rows: list[dict[str, Any]] = []
    for name in shown.get("sheets", []):
        sheet = home.read(name)
        if sheet is None:
            continue
        for method in shown["methods"]:
            row = sheet["rows"].get(sheet["shown"].get(method))
            if row is not None:
                about = {key: sheet[key] for key in ("example", "key", "group")}
                rows.append({**about, "method": None if "skipped" in row else method, **row})
    return pd.DataFrame(rows, columns=None if rows else ["example", "method"])


def evaluations_home() -> Path:
    """Where evaluations go that nobody gave a folder."""
    return Path(platformdirs.user_data_dir("at2-explorer")) / "evaluations"


def find_evaluations(root: str | Path | None = None) -> list[RunFolder]:
    """The evaluations under a folder (default: `evaluations_home()`), the one that was touched last first."""
    return find_runs(evaluations_home() if root is None else root, ("evaluation.json",))
