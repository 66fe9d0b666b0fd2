"""The shell's commands that learn: `learn`, `fit`, `runs`."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from .errors import At2Error, Cancelled
from .progress import Progress
from .run_places import find_runs, new_folder, runs_home
from .runs import Request, RunFolder, Settings

FOLDER = click.Path(file_okay=False, path_type=Path)


class Bar:
    """Progress with the time that is left, on a terminal; silent where nobody looks."""

    def __init__(self) -> None:
        self._stage = ""
        self._bar: Any = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if stage != self._stage or self._bar is None:
            self.close()
            self._stage = stage
            self._bar = tqdm(
                total=total, initial=done, desc=stage, disable=None, file=sys.stderr, dynamic_ncols=True
            )
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None


@contextlib.contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets: the first lets the work end in good order, the second ends it at once."""
    event = threading.Event()
    before = {}

    def ask(number: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        click.echo("\nStopping in good order; press Ctrl-C again to stop at once.", err=True)

    for name in ("SIGINT", "SIGTERM"):
        before[name] = signal.signal(getattr(signal, name), ask)
    try:
        yield event
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


column_options = click.option(
    "--column", "columns", multiple=True, metavar="ROLE=NAME",
    help="Which column is the query, context, documents, response, id, origin, answer or truth; repeatable.",
)  # fmt: skip


def fit_options(command: Any) -> Any:
    """Options of the fit that both `learn` and `fit` take."""
    for option in (
        click.option(
            "--seed", "fit_seed", type=click.IntRange(0), help="Of the validation split and the resamples."
        ),
        click.option(
            "--resamples", type=click.IntRange(0), help="Bootstrap resamples for theta's standard deviation."
        ),
        click.option("--learning-rate", type=click.FloatRange(0, min_open=True)),
        click.option(
            "--steps", type=click.IntRange(1), help="At most so many; validation examples stop earlier."
        ),
    ):
        command = option(command)
    return command


def _fit_changes(
    steps: int | None, learning_rate: float | None, resamples: int | None, seed: int | None
) -> dict[str, Any]:
    asked = {"steps": steps, "learning_rate": learning_rate, "resamples": resamples, "seed": seed}
    return {key: value for key, value in asked.items() if value is not None}


@click.command()
@click.option(
    "--model", help="Catalogue name, hub id, local folder or .gguf file.  [default: smollm2-135m-instruct]"
)
@click.option(
    "--data",
    help="A .jsonl, .json, .csv or .parquet file, saved explorations (a folder), or hub:owner/name@split.",
)
@click.option(
    "--out", type=FOLDER, help="Run folder; a stopped run goes on from it, with nothing else given."
)
@column_options
@click.option("--contains", default="", help="Only examples whose origin contains this.")
@click.option("--examples", type=click.IntRange(1), help="Stop after so many usable examples.")
@click.option(
    "--ablations", default=Settings.num_ablations, type=click.IntRange(4), help="Ablations per example."
)
@click.option(
    "--max-new-tokens",
    default=Settings.max_new_tokens,
    type=click.IntRange(1),
    help="Length of the responses.",
)
@click.option("--max-prompt-tokens", default=Settings.max_prompt_tokens, type=click.IntRange(1),
              help="Longer examples are skipped.")  # fmt: skip
@click.option("--granularity", default=Settings.granularity, type=click.Choice(["token", "word", "sentence"]),
              help="What is removed.")  # fmt: skip
@click.option("--direct", is_flag=True, help="Also judge heads by what they write towards the response.")
@click.option(
    "--collection-seed", default=Settings.seed, type=click.IntRange(0), help="Of the order and the ablations."
)
@fit_options
@click.option("--data-name", help="Name of the data, for the estimator's description.")
@click.option("--data-licence", help="Its licence, likewise.")
@click.option(
    "--device", default="auto", help="auto, cpu, cuda, mps, split (a model larger than one GPU), ..."
)
@click.option("--dtype", default="auto", help="auto, float32 or bfloat16.")
@click.option("--cluster", metavar="ADDRESS", help='Collect on a Ray cluster: its address, or "local".')
@click.option(
    "--workers", type=click.IntRange(1), help="Models loaded in the cluster; one for each node if left out."
)
@click.option("--estimate", "only_estimate", is_flag=True, help="Say what it would cost, and stop.")
def learn(model: str | None, data: str | None, out: Path | None, columns: tuple[str, ...], contains: str,
          examples: int | None, ablations: int, max_new_tokens: int, max_prompt_tokens: int, granularity: str,
          direct: bool, collection_seed: int, steps: int | None, learning_rate: float | None, resamples: int | None,
          fit_seed: int | None, data_name: str | None, data_licence: str | None, device: str, dtype: str,
          cluster: str | None, workers: int | None, only_estimate: bool) -> None:  # fmt: skip
    """Learn theta from random ablations; writes OUT/estimator.safetensors.

    It can be stopped at any moment (Ctrl-C, a crash, a power cut) and goes on with the same --out:

        python -m at2_core learn --model MODEL --data examples.jsonl --out runs/mine

        python -m at2_core learn --out runs/mine
    """
    if out is None:
        out = new_folder(None, Path(data or "run").stem)
    run = RunFolder(out)
    if data is None:
        request = run.request()
        if request is None:
            raise click.UsageError(
                f"There is no run in {out} to go on with; give --data (and --model) to begin one."
            )
        request = _with_changes(request, examples, cluster, workers)
    else:
        request = Request(
            model=model or "smollm2-135m-instruct",
            data=data if data.startswith("hub:") else str(Path(data).resolve()),
            columns=named_columns(columns),
            contains=contains,
            max_examples=examples,
            settings=Settings(
                num_ablations=ablations,
                granularity=granularity,
                max_new_tokens=max_new_tokens,
                max_prompt_tokens=max_prompt_tokens,
                seed=collection_seed,
                direct=direct,
            ),
            fit=_fit_changes(steps, learning_rate, resamples, fit_seed),
            about={"name": data_name or Path(data).name, "licence": data_licence or "not stated"},
            device=device,
            dtype=dtype,
            cluster=cluster,
            workers=workers,
        )
    if only_estimate:
        _show_estimate(request, out)
        return
    with stopping() as event:
        carry_out(run, request, event)


def _with_changes(
    request: Request, examples: int | None, cluster: str | None, workers: int | None
) -> Request:
    """A run that goes on may get more examples, or other hands; anything else would not be the same run."""
    context = click.get_current_context()
    given = {
        name
        for name in context.params
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    fixed = given - {"out", "examples", "cluster", "workers", "only_estimate"}
    if fixed:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(fixed))
        raise click.UsageError(
            f"{names} cannot change when a run goes on; leave it out, or give --data to begin another run."
        )
    return replace(
        request,
        max_examples=examples or request.max_examples,
        cluster=cluster or request.cluster,
        workers=workers or request.workers,
    )


def carry_out(run: RunFolder, request: Request, cancel: threading.Event) -> None:
    """Do what a run was asked for, from the beginning or from where it stopped."""
    from .fitting import FitSettings
    from .learning import learn as learn_theta
    from .models import load_model

    bar = Bar()
    with run.working(cancel):
        run.ask(request)
        run.tell(Progress(state="starting", message="Loading the model"))
        try:
            examples = read_chosen(request.data, request.columns, request.contains)
            lm = load_model(request.model, device=request.device, dtype=request.dtype)
            source = None
            if request.cluster:
                from .cluster import workers

                source = workers(request)
        except Exception as error:
            said = str(error) if isinstance(error, At2Error) else f"{type(error).__name__}: {error}"
            run.tell(Progress(state="failed", message=said))
            raise
        try:
            estimator = learn_theta(
                lm, examples, run, settings=request.settings, fit_settings=FitSettings(**request.fit), about=request.about,
                max_examples=request.max_examples, progress=bar, cancel=cancel, source=source,
            )  # fmt: skip
        except Cancelled:
            bar.close()
            click.echo(f"Go on with: python -m at2_core learn --out {run.folder}", err=True)
            raise
        finally:
            bar.close()
    _show_result(run.folder / "estimator.safetensors", estimator.metadata)


def read_chosen(data: str, columns: Mapping[str, str] | tuple[str, ...], contains: str) -> list[Any]:
    """The usable examples whose origin contains a text; what cannot be used is told. Raises At2Error where there are none."""
    from .data import read_data

    found = read_data(data, named_columns(columns) if isinstance(columns, tuple) else columns)
    if found.unusable:
        reasons = "; ".join(f"{count} times {reason}" for reason, count in found.reasons().items())
        click.echo(f"{len(found.unusable)} rows of {data} cannot be used: {reasons}.", err=True)
    chosen = [e for e in found.examples if contains in e.origin]
    if not chosen:
        raise At2Error(f"{data} has no usable example" + (f" from {contains!r}." if contains else "."))
    return chosen


def _show_estimate(request: Request, out: Path) -> None:
    from .collecting import estimate
    from .models import load_model

    lm = load_model(request.model, device=request.device, dtype=request.dtype)
    cost = estimate(
        lm,
        read_chosen(request.data, request.columns, request.contains),
        out,
        request.settings,
        request.max_examples,
    )
    click.echo(
        f"About {cost.examples:,} examples (about {cost.skipped:,} skipped), {cost.seconds / 60:,.0f} minutes on this machine, "
        f"{cost.disk_mb:,.0f} MB on disk ({cost.free_mb:,.0f} MB free), {cost.memory_mb:,.0f} MB of memory for the fit."
    )


def _show_result(path: Path, metadata: Any) -> None:
    validation = metadata["validation"]
    click.echo(
        f"{path}: correlation {validation['correlation']:.3f} on {validation['examples_validation']} validation examples, "
        f"average attention {validation['correlation_average_attention']:.3f}; "
        f"{'non-negative' if validation['nonnegative'] else 'signed'}, shrinkage {validation['shrinkage']}."
    )


def named_columns(pairs: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        role, equals, name = pair.partition("=")
        if not equals:  # "response=" asks for no response
            raise click.BadParameter(
                f"{pair!r} is not ROLE=NAME, for instance query=question", param_hint="--column"
            )
        found[role] = name
    return found


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", default="again", help="The fit goes to FOLDER/fits/NAME.")
@click.option("--recipe", default="chosen", type=click.Choice(["chosen", "reference"]),
              help="chosen: regularisation by validation; reference: the published recipe, as it is.")  # fmt: skip
@click.option("--examples", type=click.IntRange(2), help="Use only so many of those collected.")
@fit_options
def fit(folder: Path, name: str, recipe: str, examples: int | None, steps: int | None, learning_rate: float | None,
        resamples: int | None, fit_seed: int | None) -> None:  # fmt: skip
    """Fit theta again from what a run in FOLDER has collected; no model is loaded."""
    from .fitting import FitSettings
    from .learning import fit_run

    run = RunFolder(folder)
    request = run.request()
    settings = FitSettings(**_fit_changes(steps, learning_rate, resamples, fit_seed))
    bar = Bar()
    with stopping() as event, run.working(event):
        before = run.progress()
        try:
            estimator = fit_run(
                run,
                None,
                examples,
                settings,
                request.about if request else None,
                bar,
                event,
                recipe=recipe,
                name=name,
            )
        finally:
            bar.close()
            run.tell(before)
    path = folder / "fits" / name / "estimator.safetensors"
    _show_result(path, estimator.metadata)
    for row in estimator.metadata["validation"].get("learning_curve", ()):
        click.echo(
            f"  {row['examples']:>6,} examples: {row['correlation']:.3f} (standard deviation {row['deviation']:.3f})"
        )


@click.command()
@click.option("--root", type=FOLDER, help=f"Folder of runs.  [default: {runs_home()}]")
@click.option("--stop", "to_stop", type=FOLDER, help="Ask the run in this folder to pause.")
def runs(root: Path | None, to_stop: Path | None) -> None:
    """List runs with their state, or pause one."""
    if to_stop is not None:
        run = RunFolder(to_stop)
        if not run.is_worked_on():
            raise At2Error(f"Nobody is working in {to_stop}.")
        run.ask_to_stop()
        click.echo(
            f"{to_stop} pauses after the work at hand; go on with: python -m at2_core learn --out {to_stop}"
        )
        return
    found = find_runs(root)
    if not found:
        click.echo(
            f"No runs in {root or runs_home()}. Begin one with: python -m at2_core learn --data examples.jsonl"
        )
    for run in found:
        progress = run.progress()
        left = f", {progress.seconds_left / 60:,.0f} minutes left" if progress.seconds_left else ""
        amount = f"{progress.stage} {progress.done:,}/{progress.total:,}" if progress.total else ""
        click.echo(f"{progress.state:<12} {amount:<20} {run.folder}{left}")
        if progress.message and progress.state == "failed":
            click.echo(f"             {progress.message}")
