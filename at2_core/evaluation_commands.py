"""The shell's command that judges: `python -m at2_core evaluate --help`."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from .commands import Bar, column_options, named_columns, read_chosen, stopping
from .errors import At2Error
from .evaluation_runs import METHODS, EvaluationRequest, ask, asked, fits
from .formats import HUB
from .progress import Pace
from .runs import RunFolder

if TYPE_CHECKING:
    import pandas as pd

    from .baselines import Method
    from .data import Example
    from .models import LanguageModel


@click.command()
@click.option(
    "--model", help="Catalogue name, hub id, local folder or .gguf file.  [default: smollm2-135m-instruct]"
)
@click.option("--data", help="A .jsonl, .json, .csv or .parquet file, or hub:owner/name@split.")
@column_options
@click.option(
    "--methods",
    default=",".join(METHODS),
    show_default=True,
    help="Names with commas between; also best_head, top_heads_K, last_layer, input_x_gradient, context_cite_COUNT, "
    "at2_ablations_COUNT.",
)
@click.option(
    "--estimator",
    "estimators",
    multiple=True,
    help="For at2: fingerprint, name or file, repeatable; the model's bundled one if left out.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for ablations and tables; a stopped evaluation goes on from it, with nothing else given.",
)
@click.option("--examples", default=100, type=click.IntRange(1), help="The first so many.", show_default=True)
@click.option("--contains", default="", help="Only examples whose origin contains this.")
@click.option(
    "--min-sources", default=2, type=click.IntRange(2), help="Only examples with at least so many sources."
)
@click.option(
    "--max-prompt-tokens", type=click.IntRange(1), help="Only examples with prompts no longer than this."
)
@click.option(
    "--not-learned-in",
    multiple=True,
    metavar="RUN",
    help="Leave out what this training run learned from, and all that shares a context with it.",
)
@click.option(
    "--granularity",
    default="sentence",
    type=click.Choice(["token", "word", "sentence", "paragraph", "document"]),
)
@click.option(
    "--ablations",
    default=32,
    help="Of each example, for the LDS; 0 judges by known truth alone.",
    show_default=True,
    type=click.IntRange(0),
)
@click.option(
    "--top-k",
    default="1,3,5",
    show_default=True,
    metavar="K,K",
    help="How many of the highest-scored sources are removed; empty: none, which leaves the LDS.",
)
@click.option("--max-new-tokens", default=64, type=click.IntRange(1), show_default=True)
@click.option("--seed", default=1, type=click.IntRange(0), help="Of the ablations.")
@click.option(
    "--reference", default="average", show_default=True, help="The method that differences are taken to."
)
@click.option("--device", default="auto")
@click.option("--dtype", default="auto")
def evaluate(
    out: Path,
    model: str | None,
    data: str | None,
    columns: tuple[str, ...],
    methods: str,
    top_k: str,
    **chosen: Any,
) -> None:
    """Judge ways of attributing: LDS, top-k drop, known truth, with bootstrap intervals, cost, a table and a plot.

    It can be stopped at any moment and goes on with the same --out; ablations are shared between methods and calls.

        python -m at2_core evaluate --data squad.jsonl --methods at2,average,context_cite_64 --out judged/squad
    """
    run = RunFolder(out)
    before = asked(run)
    if data is not None:
        request = EvaluationRequest(
            model=model or "smollm2-135m-instruct",
            data=data if data.startswith(HUB) else str(Path(data).resolve()),
            columns=named_columns(columns),
            methods=tuple(m.strip() for m in methods.split(",") if m.strip()),
            top_k=_numbers(top_k),
            **chosen,
        )
        _check(request)
    elif before is None:
        raise click.UsageError(f"{out} holds no evaluation yet; say what to judge on with --data.")
    elif given := _given() - {"out"}:
        raise click.UsageError(
            f"--{min(given).replace('_', '-')} needs --data; with --out alone the evaluation goes on as it is."
        )
    else:
        request = before
    found = read_chosen(request.data, request.columns, request.contains)
    bar = Bar()
    with stopping() as event, run.working(event):
        ask(run, request)
        try:
            with run.told():
                frame, judged = carry_out(run, request, found, bar, event)
        finally:
            bar.close()
        skipped = frame[frame["method"].isna()]
        if len(skipped):
            reasons = "; ".join(
                f"{n} times: {reason}" for reason, n in Counter(skipped["skipped"]).most_common()
            )
            click.echo(f"{len(skipped)} of {len(judged)} examples cannot be judged: {reasons}", err=True)
        if len(skipped) == len(frame):
            raise At2Error("No example could be judged; there is nothing to compare.")
        write_tables(frame, run, request)
    click.echo("\n" + run.folder.joinpath("summary.md").read_text(encoding="utf-8"))


def carry_out(
    run: RunFolder,
    request: EvaluationRequest,
    examples: list[Example],
    progress: Callable[[str, int, int], None],
    cancel: threading.Event,
) -> tuple[pd.DataFrame, list[Example]]:
    """Judge what was asked for, telling the folder how far it is; the rows, and those of the examples that they are about."""
    from .evaluation import evaluate as judge
    from .models import load_model

    found = _not_learned(examples, request.not_learned_in)
    lm = load_model(request.model, device=request.device, dtype=request.dtype)
    chosen = list(islice((e for e in found if fits(lm.tokenizer, e, request)), request.examples))
    if not chosen:
        raise At2Error("No example is left to judge; choose other data, or ask less of its examples.")
    pace = Pace(run.tell, "evaluate", 0, len(chosen), {}, time.monotonic())
    done = fresh = 0
    last = time.monotonic()

    def tell(stage: str, at: int, total: int) -> None:
        nonlocal done, fresh, last
        now = time.monotonic()
        fresh += now - last > 0.2  # what was there already takes no time, and says nothing about what is left
        last, done = now, at
        pace.report(at, {}, fresh)
        progress(stage, at, total)

    frame = judge(
        lm,
        chosen,
        chosen_methods(lm, request.methods, request.estimators),
        out_dir=run.folder,
        granularity=request.granularity,
        num_ablations=request.ablations,
        ks=request.top_k,
        max_new_tokens=request.max_new_tokens,
        seed=request.seed,
        progress=tell,
        cancel=cancel,
    )
    return frame, chosen


def chosen_methods(lm: LanguageModel, names: Sequence[str], estimators: Sequence[str]) -> dict[str, Method]:
    """Methods by the names that the tables show. Of several estimators each is a method of its own."""
    from .baselines import by_estimator, find_method
    from .catalogue import find_estimator

    found = []
    for name in estimators:
        entry = find_estimator(name)
        if entry.estimator is None:
            raise At2Error(entry.problem)
        found.append(entry.estimator)
    chosen = {}
    for name in names:
        if name == "at2" and len(found) > 1:
            titles = [est.name for est in found]
            for est in found:
                title = est.name if titles.count(est.name) == 1 else f"{est.name} {est.fingerprint}"
                chosen[f"at2 {title}"] = by_estimator(est, "at2", title)
        else:
            given = found[:1]
            if name.startswith("at2_ablations_"):  # refines the best scores that there are
                given = [est for est in found if est.direct is not None] or given
            chosen[name] = find_method(name, given[0] if given else None, lm)
    if not chosen:
        raise At2Error("No method was named; give one or more, for instance --methods at2,average.")
    return chosen


def write_tables(frame: pd.DataFrame, run: RunFolder, request: EvaluationRequest) -> None:
    """rows.csv, summary.csv, summary.md and, where ablations were run, quality.png, in the folder."""
    from .measures import summarize
    from .report import markdown, plot

    reference = request.reference if request.reference in set(frame["method"]) else None
    summary = summarize(frame, reference)
    try:
        run.replace("rows.csv", frame.to_csv(index=False))
        run.replace("summary.csv", summary.to_csv(index=False))
        run.replace("summary.md", markdown(summary, reference))
        if "lds" in set(summary["measure"]):
            plot(summary, run.folder / "quality.png", Path(request.data).stem)
    except OSError as error:
        raise At2Error(f"{run.folder} cannot be written ({error.strerror}); free some space.") from error


def _given() -> set[str]:
    """Names of the options that were typed."""
    context = click.get_current_context()
    return {
        name for name in context.params if context.get_parameter_source(name) == ParameterSource.COMMANDLINE
    }


def _check(request: EvaluationRequest) -> None:
    """What can be known to be wrong before anything is written. Raises At2Error, or click's own."""
    from .baselines import check_method

    if not request.methods:
        raise At2Error("No method was named; give one or more, for instance --methods at2,average.")
    for name in request.methods:
        check_method(name)
    names = {*request.methods, *(f"at2 {name}" for name in request.estimators)}
    if _given() & {"reference"} and request.reference not in names and len(request.estimators) < 2:
        raise click.BadParameter(f"{request.reference!r} is none of the methods.", param_hint="--reference")
    if request.ablations == 1:
        raise click.BadParameter(
            "one ablation has no correlation; take 0, or 4 and more.", param_hint="--ablations"
        )


def _numbers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        found = (0,)
    if any(k < 1 for k in found):
        raise click.BadParameter(
            f"{text!r} is no list of numbers from 1 on, as in 1,3,5", param_hint="--top-k"
        )
    return found


def _not_learned(examples: list[Example], runs: Sequence[str | Path]) -> list[Example]:
    learned: set[str] = set()
    for folder in runs:
        groups, keys = RunFolder(folder).groups(), set(RunFolder(folder).keys())
        groups |= {example.group for example in examples if example.key in keys}
        if not groups:
            raise At2Error(f"{folder} holds no collected examples; give the folder of a training run.")
        learned |= groups
    return [example for example in examples if example.group not in learned]
