"""The shell's command that judges: `python -m at2_core evaluate --help`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from .commands import Bar, column_options, read_chosen, stopping
from .errors import At2Error


@click.command()
@click.option(
    "--model", default="smollm2-135m-instruct", help="Catalogue name, hub id, local folder or .gguf file."
)
@click.option(
    "--data", required=True, help="A .jsonl, .json, .csv or .parquet file, or hub:owner/name@split."
)
@column_options
@click.option("--estimator", help="Fingerprint, name or file; the model's bundled one if left out.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder for ablations and tables; a stopped evaluation goes on from it.")  # fmt: skip
@click.option("--examples", default=100, type=click.IntRange(1))
@click.option("--contains", default="", help="Only examples whose origin contains this.")
@click.option("--ablations", default=32, type=click.IntRange(4), help="Of each example, for the LDS.")
@click.option("--max-new-tokens", default=64, type=click.IntRange(1))
@click.option("--seed", default=1, type=click.IntRange(0), help="Of the ablations.")
@click.option("--device", default="auto")
@click.option("--dtype", default="auto")
def evaluate(model: str, data: str, columns: tuple[str, ...], estimator: str | None, out: Path, examples: int,
             contains: str, ablations: int, max_new_tokens: int, seed: int, device: str, dtype: str) -> None:  # fmt: skip
    """Judge theta against average attention and random: LDS and top-k drop, with bootstrap intervals."""
    from .catalogue import find_estimator
    from .estimator import Estimator, load_estimator, uniform_estimator
    from .evaluation import evaluate as run
    from .evaluation import summarize
    from .models import load_model

    chosen = read_chosen(data, columns, contains)[:examples]
    lm = load_model(model, device=device, dtype=dtype)
    if estimator is None:
        est = load_estimator(lm.name)
    else:
        entry = find_estimator(estimator)
        if entry.estimator is None:
            raise At2Error(entry.problem)
        est = entry.estimator
    methods: dict[str, Estimator | None] = {"at2": est, "average": uniform_estimator(lm), "random": None}
    bar = Bar()
    with stopping() as event:
        try:
            frame = run(
                lm,
                chosen,
                methods,
                out_dir=out,
                num_ablations=ablations,
                max_new_tokens=max_new_tokens,
                seed=seed,
                progress=bar,
                cancel=event,
            )
        finally:
            bar.close()
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / "rows.csv", index=False)
    skipped = frame[frame["method"].isna()]
    if len(skipped):
        reasons = "; ".join(f"{n} times: {reason}" for reason, n in Counter(skipped["skipped"]).most_common())
        click.echo(f"{len(skipped)} of {len(chosen)} examples cannot be judged: {reasons}", err=True)
    if len(skipped) == len(frame):
        raise At2Error("No example could be judged; there is nothing to compare.")
    table = summarize(frame, reference="average")
    table.to_csv(out / "summary.csv", index=False)
    click.echo("\n" + table.round(3).to_string(index=False))
