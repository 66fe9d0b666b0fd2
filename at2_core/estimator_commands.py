"""The shell's commands for estimators: `python -m at2_core estimators --help`."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np

from .card import data_of, plain, quality
from .catalogue import (
    Entry,
    add_estimator,
    export_to_hub_folder,
    find_estimator,
    list_estimators,
    own_home,
    remove_estimator,
)
from .errors import EstimatorFileError
from .estimator import Estimator

own_dir = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help=f"Folder of your estimators.  [default: {own_home()}]",
)


@click.group()
def estimators() -> None:
    """List, look at, import, export and remove estimators (theta, one coefficient per head).

    An estimator belongs to one model. WHICH is a fingerprint, a name or a file, as `estimators list` shows them.

    \b
        python -m at2_core estimators list
        python -m at2_core estimators import score_estimator.pt --model org/model
        python -m at2_core estimators export f5c8fd9ffcef my-upload
    """


@estimators.command("list")
@own_dir
def list_(folder: Path | None) -> None:
    """One line each: fingerprint, kind, layers x heads, correlation on validation examples, model, name."""
    for entry in list_estimators(folder):
        if entry.estimator is None:
            click.echo(f"{'damaged':<13} {entry.kind:<9} {entry.path}: {plain(entry.problem, 300)}")
            continue
        shape = f"{entry.shape[0]}x{entry.shape[1]}"
        correlation = entry.figures.get("correlation")
        shown = "     -" if correlation is None else f"{correlation:6.3f}"
        click.echo(f"{entry.fingerprint:<13} {entry.kind:<9} {shape:<8} {shown}  {entry.model}  {entry.name}")


@estimators.command()
@click.argument("which")
@own_dir
def show(which: str, folder: Path | None) -> None:
    """Where an estimator comes from, how good it is, and its strongest heads."""
    entry = find_estimator(which, folder)
    estimator = _readable(entry)
    data, licence = data_of(estimator)
    weights = f" (weights {plain(estimator.model_fingerprint, 20)})" if estimator.model_fingerprint else ""
    rows = {
        "name": entry.name,
        "file": str(entry.path),
        "kind": entry.kind,
        "model": entry.model + weights,
        "theta": f"{entry.shape[0]} layers of {entry.shape[1]} heads, fingerprint {entry.fingerprint}",
        "data": data or "not told",
        "licence": licence or "not told",
        "quality": quality(estimator),
        "direct": "yes, coefficients of what heads write" if estimator.direct is not None else "none",
        "deviation": "yes, of each coefficient" if estimator.deviation is not None else "none",
        "strongest": ", ".join(_strongest(estimator.theta)),
    }
    validation = estimator.metadata.get("validation") or {}
    for key in ("learning_curve", "stability") if isinstance(validation, dict) else ():
        if validation.get(key):
            rows[key.partition("_")[0]] = plain(json.dumps(validation[key]), 2000)
    for key, value in rows.items():
        click.echo(f"{key + ':':<11} {value}")


@estimators.command("import")
@click.argument("source")
@click.option("--name", default="", help="What to call it; by default the name in the file, or the hub id.")
@click.option("--model", default="", help="For a score_estimator.pt: the model that it belongs to.")
@own_dir
def import_(source: str, name: str, model: str, folder: Path | None) -> None:
    """Keep an estimator: a .safetensors file, a score_estimator.pt of the published AT2 code, or a hub id (owner/name).

    A score_estimator.pt is a pickle, which can hold a program; it is read without running anything.
    """
    entry = add_estimator(source, name=name, model=model, own_dir=folder)
    click.echo(f"{entry.path}: {entry.name}, {entry.shape[0]} layers of {entry.shape[1]} heads.")


@estimators.command()
@click.argument("which")
@click.argument("target", type=click.Path(file_okay=False, path_type=Path))
@own_dir
def export(which: str, target: Path, folder: Path | None) -> None:
    """Write the estimator and a model card to the folder TARGET, ready for: hf upload owner/name TARGET"""
    export_to_hub_folder(_readable(find_estimator(which, folder)), target)
    click.echo(f"{target} holds estimator.safetensors and README.md.")


@estimators.command()
@click.argument("which")
@click.option("--yes", is_flag=True, help="Do not ask.")
@own_dir
def remove(which: str, yes: bool, folder: Path | None) -> None:
    """Delete one of your own or imported estimators."""
    entry = find_estimator(which, folder)
    if not yes:
        click.confirm(f"Delete {entry.path}?", abort=True)
    remove_estimator(entry, folder)
    click.echo(f"{entry.name} is removed.")


def _readable(entry: Entry) -> Estimator:
    if entry.estimator is None:
        raise EstimatorFileError(plain(entry.problem, 300))
    return entry.estimator


def _strongest(theta: np.ndarray) -> list[str]:
    order = np.argsort(-np.abs(theta).ravel(), kind="stable")[:5]
    return [f"layer {i // theta.shape[1]} head {i % theta.shape[1]} ({theta.ravel()[i]:+.3g})" for i in order]
