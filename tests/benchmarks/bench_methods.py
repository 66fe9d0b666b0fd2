"""What each method costs beside AT2 and beside one forward pass, in one run: `python tests/benchmarks/bench_methods.py`.

One prompt, one response, sentences as sources, the whole response as target. The generation is there already, as it is in
the app. Cheap methods are timed several times in turns and their medians given, costly ones once. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

import at2_core as at2
from at2_core.baselines import METHODS, by_estimator, find_method
from tests.benchmarks.bench_engine import long_task, seconds

CHEAP = 4  # forward passes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=600, help="of the prompt, about")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--methods", default=",".join(METHODS))
    options = parser.parse_args()
    lm = at2.load_model(device="cpu")
    gen = at2.generate(lm, long_task(lm, options.tokens), max_new_tokens=48)
    sources, target = at2.cut(gen.rendered, "sentence"), [slice(0, gen.num_tokens)]
    ids = torch.tensor([gen.prompt_ids + gen.response_ids[:-1]], device=lm.device)

    @torch.inference_mode()
    def forward() -> None:
        lm.model(ids, use_cache=False, logits_to_keep=gen.num_tokens)

    methods = {name: find_method(name, lm=lm) for name in options.methods.split(",")}
    direct = at2.load_estimator(f"{lm.name}--direct")
    methods["at2_direct"] = by_estimator(direct, "at2", "AT2 with direct contributions")
    passes = {name: m(lm, gen, sources, targets=target).passes for name, m in methods.items()}
    times: dict[str, list[float]] = {name: [] for name in ("forward", *methods)}
    forward()
    for repeat in range(options.repeats):
        times["forward"].append(seconds(forward))
        for name, method in methods.items():
            if repeat == 0 or passes[name] <= CHEAP:
                times[name].append(seconds(lambda m=method: m(lm, gen, sources, targets=target)))
    one, ours = statistics.median(times["forward"]), statistics.median(times["at2"])
    print(f"prompt of {len(gen.prompt_ids)} tokens in {len(sources)} sources, response of {gen.num_tokens}, "
          f"{str(lm.dtype).removeprefix('torch.')}, {torch.get_num_threads()} threads")  # fmt: skip
    print(
        "| method | forward passes | seconds | ÷ one forward pass | ÷ AT2 |\n| --- | --- | --- | --- | --- |"
    )
    print(f"| one forward pass | 1 | {one:.2f} | 1 | {one / ours:.0f} |")
    for name, method in methods.items():
        took = statistics.median(times[name])
        print(f"| {method.name} | {passes[name]:.0f} | {took:.3f} | {took / one:.3f} | {took / ours:.1f} |")


if __name__ == "__main__":
    main()
