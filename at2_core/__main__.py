"""The engine from the shell: `python -m at2_core --help`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .errors import At2Error


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Learn which attention heads say what a model used, and judge how true they are."""


@main.command()
@click.option(
    "--model", default="smollm2-135m-instruct", help="Catalogue name, hub id, local folder or .gguf file."
)
@click.option("--data", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help='JSON lines with "query" and "context" (or "documents").')  # fmt: skip
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Run folder; a stopped run goes on from it.")  # fmt: skip
@click.option("--examples", type=click.IntRange(1), help="Stop after so many usable examples.")
@click.option("--ablations", default=32, type=click.IntRange(4), help="Ablations per example.")
@click.option("--max-new-tokens", default=64, type=click.IntRange(1), help="Length of the responses.")
@click.option(
    "--max-prompt-tokens", default=1024, type=click.IntRange(1), help="Longer examples are skipped."
)
@click.option("--data-name", help="Name of the data, for the estimator's description.")
@click.option("--data-licence", help="Its licence, likewise.")
@click.option("--device", default="auto", help="auto, cpu, cuda, ...")
@click.option("--dtype", default="auto", help="auto, float32 or bfloat16.")
@click.option("--seed", default=0)
def learn(model: str, data: Path, out: Path, examples: int | None, ablations: int, max_new_tokens: int,
          max_prompt_tokens: int, data_name: str | None, data_licence: str | None, device: str, dtype: str,
          seed: int) -> None:  # fmt: skip
    """Learn theta from random ablations; writes OUT/estimator.safetensors."""
    from .data import read_examples
    from .learning import Settings
    from .learning import learn as run
    from .models import load_model

    settings = Settings(
        num_ablations=ablations, max_new_tokens=max_new_tokens, max_prompt_tokens=max_prompt_tokens, seed=seed
    )
    about = {"name": data_name or data.name, "licence": data_licence or "not stated"}
    lm = load_model(model, device=device, dtype=dtype)
    estimator = run(
        lm, read_examples(data), out, settings=settings, about=about, max_examples=examples, progress=_Bar()
    )
    validation = estimator.metadata["validation"]
    click.echo(
        f"\n{out / 'estimator.safetensors'}: correlation {validation['correlation']:.3f} on "
        f"{validation['examples_validation']} validation examples, average attention "
        f"{validation['correlation_average_attention']:.3f}."
    )


@main.command()
@click.option(
    "--model", default="smollm2-135m-instruct", help="Catalogue name, hub id, local folder or .gguf file."
)
@click.option("--data", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--estimator", help="Name or file; the model's bundled one if left out.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder for ablations and tables; a stopped evaluation goes on from it.")  # fmt: skip
@click.option("--examples", default=100, type=click.IntRange(1))
@click.option("--contains", default="", help='Only examples whose "source" contains this.')
@click.option("--ablations", default=32, type=click.IntRange(4))
@click.option("--max-new-tokens", default=64, type=click.IntRange(1))
@click.option("--device", default="auto")
@click.option("--dtype", default="auto")
def evaluate(model: str, data: Path, estimator: str | None, out: Path, examples: int, contains: str, ablations: int,
             max_new_tokens: int, device: str, dtype: str) -> None:  # fmt: skip
    """Judge theta against average attention and random: LDS and top-k drop, with bootstrap intervals."""
    from .data import read_examples
    from .estimator import load_estimator, uniform_estimator
    from .evaluation import evaluate as run
    from .evaluation import summarize
    from .models import load_model

    lm = load_model(model, device=device, dtype=dtype)
    methods = {"at2": load_estimator(estimator or lm.name), "average": uniform_estimator(lm), "random": None}
    chosen = [e for e in read_examples(data) if contains in e.origin][:examples]
    frame = run(
        lm,
        chosen,
        methods,
        out_dir=out,
        num_ablations=ablations,
        max_new_tokens=max_new_tokens,
        progress=_Bar(),
    )
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / "rows.csv", index=False)
    table = summarize(frame, reference="average")
    table.to_csv(out / "summary.csv", index=False)
    click.echo("\n" + table.round(3).to_string(index=False))


class _Bar:
    """Progress on one line of the terminal; silent where nobody looks."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r{stage} {done}/{total}   ", err=True, nl=False)


def run() -> int:
    """Exit status: 0, 1 for what the user can mend, 130 for Ctrl-C."""
    try:
        main(standalone_mode=False)
    except At2Error as error:
        click.echo(str(error), err=True)
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("\nStopped; the same command goes on from here.", err=True)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(run())
