"""What attribution costs, as ratios measured side by side in one run: `python tests/benchmarks/bench_engine.py`.

Each pair is timed alternately, several times, and the median of the ratios is reported with its range: a busy machine
slows both sides. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

import at2_core as at2
from at2_core import generation
from at2_core.prompts import render

SENTENCE = (
    "Number {i}: the keeper of the lighthouse wrote that {i} ships had passed the cape before the storm. "
)


def long_task(lm: at2.LanguageModel, tokens: int) -> at2.ContextTask:
    """A task whose prompt has about so many tokens."""
    per_sentence = len(lm.tokenizer(SENTENCE.format(i=57))["input_ids"])
    text = "".join(SENTENCE.format(i=i) for i in range(10, 10 + tokens // per_sentence))
    return at2.ContextTask(context=text, query="Tell in detail what the keeper of the lighthouse wrote.")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratio(
    name: str, ours: Callable[[], object], plain: Callable[[], object], repeats: int
) -> tuple[str, str]:
    ours(), plain()  # first calls pay for allocation and kernel selection
    pairs = [(seconds(ours), seconds(plain)) for _ in range(repeats)]
    ratios = sorted(a / b for a, b in pairs)
    times = f"{statistics.median(a for a, _ in pairs):.2f} s ÷ {statistics.median(b for _, b in pairs):.2f} s"
    return name, f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}); {times}"


def generating(lm: at2.LanguageModel, repeats: int) -> tuple[str, str]:
    task, est, count = long_task(lm, 1500), at2.uniform_estimator(lm), 128
    generation.end_ids = lambda lm: set()  # both sides make as many tokens, whatever the model wants
    ids = torch.tensor([at2.replay(lm, task, "x").prompt_ids], device=lm.device)

    def ours() -> None:
        at2.token_scores(lm, at2.generate(lm, task, max_new_tokens=count), est)

    @torch.inference_mode()
    def plain() -> None:
        lm.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            min_new_tokens=count,
            max_new_tokens=count,
        )

    return ratio(
        f"generate {count} tokens and attribute each ÷ `model.generate`, prompt of {ids.shape[1]:,}",
        ours,
        plain,
        repeats,
    )


def replaying(lm: at2.LanguageModel, repeats: int, tokens: int = 1500) -> tuple[str, str]:
    task, est = long_task(lm, tokens), at2.uniform_estimator(lm)
    gen = at2.replay(lm, task, "Eleven ships had passed the cape before the storm, wrote the keeper. " * 8)
    ids = torch.tensor([gen.prompt_ids + gen.response_ids[:-1]], device=lm.device)
    keep = torch.arange(ids.shape[1] - gen.num_tokens, ids.shape[1], device=lm.device)

    @torch.inference_mode()
    def plain() -> None:
        lm.model(ids, use_cache=False, logits_to_keep=keep)

    def ours() -> None:
        at2.token_scores(lm, at2.replay(lm, task, gen.text), est)

    return ratio(
        f"attribute a given response ÷ one forward pass, {ids.shape[1]:,} tokens ({gen.num_tokens} of response)",
        ours,
        plain,
        repeats,
    )


def collecting(lm: at2.LanguageModel, slow: at2.LanguageModel, repeats: int) -> list[tuple[str, str]]:
    task = long_task(lm, 300)
    gen = at2.generate(lm, task, max_new_tokens=48)
    sources = at2.cut(gen.rendered, "token")
    keep = at2.random_keep(32, len(sources), np.random.default_rng(0))
    kept = [np.ones(len(gen.prompt_ids), bool) for _ in keep]
    for mask, row in zip(kept, keep, strict=True):
        for source, stays in zip(sources, row, strict=True):
            mask[source.token_start : source.token_end] = stays
    ids = torch.tensor([gen.prompt_ids + gen.response_ids])
    masks = torch.from_numpy(np.stack(kept)).long()
    masks = torch.cat([masks, torch.ones(len(masks), gen.num_tokens, dtype=torch.long)], dim=1)

    def masked(model: torch.nn.Module) -> Callable[[], object]:
        @torch.inference_mode()
        def run() -> None:
            for start in range(0, len(masks), 8):
                mask = masks[start : start + 8]
                logits = model(ids.expand(len(mask), -1), attention_mask=mask, use_cache=False).logits
                torch.log_softmax(logits[:, -gen.num_tokens - 1 : -1].float(), dim=-1)

        return run

    def ours() -> None:
        at2.ablate(lm, gen, sources, keep)

    size = f"32 ablations of {len(gen.prompt_ids)} + {gen.num_tokens} tokens"
    rows = [
        ratio(
            f"masked full-length batches in {_name(slow)} ÷ ours in {_name(lm)}, {size}",
            masked(slow.model),
            ours,
            repeats,
        )
    ]
    if lm.dtype != slow.dtype:
        rows.append(
            ratio(
                f"masked full-length batches ÷ ours, both in {_name(lm)}, {size}",
                masked(lm.model),
                ours,
                repeats,
            )
        )
    return rows


def remembering(tokens: int) -> tuple[str, str]:
    """Peak resident memory above the loaded model, each measured in a process of its own."""
    peaks = {}
    for what in ("forward", "attribute"):
        command = [sys.executable, __file__, "--peak", what, "--tokens", str(tokens)]
        peaks[what] = float(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
        )
    return (
        f"peak extra memory of an attribution over {tokens:,} tokens ÷ that of the forward pass",
        f"{peaks['attribute'] / peaks['forward']:.2f}; {peaks['attribute']:.0f} MB ÷ {peaks['forward']:.0f} MB",
    )


def peak(what: str, tokens: int) -> None:
    lm = at2.load_model(device="cpu")
    task, est = long_task(lm, tokens - 150), at2.uniform_estimator(lm)
    response = "Eleven ships had passed the cape before the storm, wrote the keeper. " * 8
    at2.token_scores(lm, at2.replay(lm, long_task(lm, 100), response), est)
    prompt = render(lm.tokenizer, task)
    before = resident(reset=True)
    if what == "attribute":
        at2.token_scores(lm, at2.replay(lm, task, response), est)
    else:
        with torch.inference_mode():
            lm.model(torch.tensor([[*prompt.ids, *lm.tokenizer(response)["input_ids"]]]), logits_to_keep=1)
    print(resident() - before)


def resident(reset: bool = False) -> float:
    """Megabytes: the peak since the last reset, which Linux alone can do; with reset the present."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmRSS" if reset else "VmHWM"].split()[0]) / 1024


def _name(lm: at2.LanguageModel) -> str:
    return str(lm.dtype).removeprefix("torch.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, default=8000)
    options = parser.parse_args()
    if options.peak:
        return peak(options.peak, options.tokens)
    lm = at2.load_model(device="cpu")
    slow = lm if lm.dtype == torch.float32 else at2.load_model(device="cpu", dtype="float32")
    setting = f"{lm.name}, {_name(lm)}, {torch.get_num_threads()} threads, {options.repeats} repeats"
    print(f"| {setting} | median (range) |\n| --- | --- |")
    for row in (
        generating(lm, options.repeats),
        replaying(lm, options.repeats),
        *collecting(lm, slow, options.repeats),
    ):
        print(f"| {row[0]} | {row[1]} |", flush=True)
    print("| {} | {} |".format(*remembering(options.tokens)))
    return None


if __name__ == "__main__":
    main()
