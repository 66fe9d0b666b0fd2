"""Memory and time against prompt length: plain forward pass, attribution, and all weights by `output_attentions=True`.

    python tests/benchmarks/bench_length.py --plot length.png

Every figure comes from a process of its own: the peak of its resident memory above the loaded model, and the median time of its
passes. The response has 500 tokens, which belong to the model's window: its 8,192 tokens leave 7,680 for the prompt. A process
that needs more than `--limit` GB is stopped by the operating system and its row says so.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

import at2_core as at2
from at2_core.generation import generation_from_ids, last_logits
from tests.benchmarks.bench_engine import long_task, resident, seconds

LENGTHS = (500, 1000, 2000, 4000, 7680)
RESPONSE = 500
TEMPLATE = 170  # tokens of a prompt beside its context, and what the last sentence may be too long by
KINDS = {
    "forward": "plain forward pass",
    "lean": "attribution of every token, keeping nothing",
    "attribution": "attribution of every token, and a trace for all that is asked later",
    "eager": "output_attentions=True",
}


def one(kind: str, tokens: int, repeats: int) -> None:
    """Print what one kind of pass over so many prompt tokens takes: peak MB above the loaded model, seconds."""
    lm = at2.load_model(device="cpu")
    estimator = at2.uniform_estimator(lm)
    task = long_task(lm, tokens - TEMPLATE)
    ids = lm.tokenizer(task.context)["input_ids"][: tokens + RESPONSE]
    response = ids[:RESPONSE]
    whole = torch.tensor([(ids * 2)[: tokens + RESPONSE - 1]])
    said = lm.tokenizer.decode(response)
    if kind == "eager":
        lm.model.set_attn_implementation("eager")

    def work() -> None:
        with torch.inference_mode():
            if kind == "attribution":
                at2.attribute(lm, generation_from_ids(lm, task, response), estimator)
            elif kind == "lean":
                at2.attribute_given(lm, task, said, estimator)
            elif kind == "forward":
                lm.model(whole, use_cache=False, **last_logits(lm, RESPONSE, whole.shape[1]))
            else:
                lm.model(
                    whole,
                    use_cache=False,
                    output_attentions=True,
                    **last_logits(lm, RESPONSE, whole.shape[1]),
                )

    # what any first pass allocates
    at2.attribute(lm, generation_from_ids(lm, long_task(lm, 100), response), estimator)
    before = resident(reset=True)
    times = [seconds(work) for _ in range(repeats)]
    print(json.dumps({"mb": resident() - before, "seconds": statistics.median(times)}))


def measured(kind: str, tokens: int, repeats: int, limit: float) -> dict[str, float] | None:
    def bound() -> None:
        most = int(limit * 1e9)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    command = [sys.executable, __file__, "--one", kind, "--tokens", str(tokens), "--repeats", str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=bound)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def plot(rows: list[tuple[int, str, dict[str, float] | None]], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for kind, label in KINDS.items():
        points = [(tokens, found) for tokens, of, found in rows if of == kind and found is not None]
        for axis, what, unit in zip(axes, ("mb", "seconds"), (1000, 1), strict=True):
            axis.plot(
                [p[0] for p in points], [p[1][what] / unit for p in points], marker="o", ms=4, label=label
            )
    for axis, label in zip(axes, ("peak memory above the model, GB", "seconds"), strict=True):
        axis.set(xlabel=f"prompt tokens (and {RESPONSE} of the response)", ylabel=label, yscale="log")
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2, frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=14.0, help="GB of address space of one process")
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS)
    parser.add_argument("--plot", help="a .png to write")
    parser.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return one(options.one, options.tokens, options.repeats)
    rows = []
    print("| prompt tokens | " + " | ".join(KINDS.values()) + " | keeping nothing ÷ forward, memory | time |")
    print("|" + " --- |" * (len(KINDS) + 3))
    for tokens in options.lengths:
        found = {kind: measured(kind, tokens, options.repeats, options.limit) for kind in KINDS}
        rows += [(tokens, kind, of) for kind, of in found.items()]
        cells = [
            f"{of['mb']:,.0f} MB, {of['seconds']:.1f} s" if of else f"over {options.limit:.0f} GB"
            for of in found.values()
        ]
        plain, ours = found["forward"], found["lean"]
        ratios = [f"{ours[w] / plain[w]:.2f}" for w in ("mb", "seconds")] if plain and ours else ["", ""]
        print(f"| {tokens:,} | " + " | ".join([*cells, *ratios]) + " |", flush=True)
    if options.plot:
        plot(rows, options.plot)
    return None


if __name__ == "__main__":
    main()
