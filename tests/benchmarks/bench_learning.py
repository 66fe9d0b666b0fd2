"""What collecting costs, and where the time goes: `python tests/benchmarks/bench_learning.py --data examples.jsonl`.

Collects the same examples twice in one process, in turns: our way, and 32 masked full-length batches of 8 as a plain loop.
`--memory N` instead runs N examples through a tiny random model and prints the resident memory every hundred.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

import at2_core as at2
from at2_core import collecting
from at2_core.ablation import outcome
from at2_core.data import Example, read_data
from at2_core.runs import Settings

SETTINGS = Settings(max_new_tokens=40, max_prompt_tokens=1024)  # as the bundled estimators were learned


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@torch.inference_mode()
def masked(lm: at2.LanguageModel, example: Example, response_ids: list[int]) -> object:
    """The plain way: full length, the vocabulary for every row, hidden tokens masked."""
    gen = collecting.generation_from_ids(lm, example.task, response_ids)
    sources = at2.cut(gen.rendered, "token")
    keep = at2.random_keep(SETTINGS.num_ablations, len(sources), np.random.default_rng([0, example.seed]))
    n, count = len(gen.prompt_ids), gen.num_tokens
    mask = torch.ones(len(keep), n + count, dtype=torch.long)
    for row, kept in zip(mask, keep, strict=True):
        for source, stays in zip(sources, kept, strict=True):
            row[source.token_start : source.token_end] = int(stays)
    ids = torch.tensor([gen.prompt_ids + gen.response_ids])
    out = []
    for start in range(0, len(keep), 8):
        part = mask[start : start + 8]
        logits = (
            lm.model(ids.expand(len(part), -1), attention_mask=part, use_cache=False)
            .logits[:, n - 1 : -1]
            .float()
        )
        chosen = torch.log_softmax(logits, -1).gather(2, ids[:, n:].expand(len(part), -1)[..., None])[..., 0]
        out.append(chosen)
    log_probs = torch.cat(out).double()
    features = at2.head_features(lm, gen, "token")
    return outcome((log_probs - torch.log1p(-log_probs.exp())).numpy()), features


def speed(data: Path, count: int, repeats: int) -> None:
    ours = at2.load_model(device="cpu")
    plain = {"float32": at2.load_model(device="cpu", dtype="float32")}
    if ours.dtype != torch.float32:
        plain["bfloat16"] = ours
    chosen: list[tuple[Example, list[int]]] = []
    for example in collecting.shuffled(read_data(data).examples, 0):
        ids = collecting.respond(ours, example, SETTINGS)
        if not isinstance(ids, str):
            chosen.append((example, ids))
        if len(chosen) == count:
            break
    tokens = statistics.mean(len(at2.replay(ours, e.task, "x").prompt_ids) + len(ids) for e, ids in chosen)
    print(
        f"{count} examples of {tokens:.0f} tokens on average, {torch.get_num_threads()} threads, {repeats} repeats"
    )
    print("| | examples a minute | times as fast |\n| --- | --- | --- |")
    times: dict[str, list[float]] = {"ours": [], **{name: [] for name in plain}}
    for _ in range(repeats):
        times["ours"].append(
            seconds(lambda: [collecting.measure(ours, e, ids, SETTINGS) for e, ids in chosen])
        )
        for name, lm in plain.items():
            times[name].append(seconds(lambda lm=lm: [masked(lm, e, ids) for e, ids in chosen]))
    for name in ("ours", *plain):
        ratios = [slow / fast for slow, fast in zip(times[name], times["ours"], strict=True)]
        label = (
            f"ours ({str(ours.dtype).removeprefix('torch.')})"
            if name == "ours"
            else f"masked full-length batches, {name}"
        )
        rate = 60 * count / statistics.median(times[name])
        print(
            f"| {label} | {rate:.1f} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |",
            flush=True,
        )
    profile = cProfile.Profile()
    profile.enable()
    for example, _ in chosen:
        ids = collecting.respond(ours, example, SETTINGS)
        assert not isinstance(ids, str)
        collecting.measure(ours, example, ids, SETTINGS)
    profile.disable()
    print("\nWhere the time goes (seconds, called functions included):")
    shown = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    whole = sum(entry[2] for entry in shown.values())
    for name in ("generate", "read_pass", "ablate", "source_features", "render", "cut"):
        spent = max(
            (entry[3] for key, entry in shown.items() if key[2] == name and "at2_core" in key[0]), default=0.0
        )
        print(f"  {name:<16} {spent:7.2f}  {spent / whole:5.1%}")


def memory(count: int) -> None:
    import os

    from transformers import LlamaConfig, LlamaForCausalLM

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    real = at2.load_model(device="cpu", dtype="float32")
    config = LlamaConfig(
        vocab_size=real.model.config.vocab_size,
        hidden_size=72,
        intermediate_size=64,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=1024,
    )
    torch.manual_seed(0)
    tiny = LlamaForCausalLM(config).eval()
    tiny.generation_config.eos_token_id = real.model.generation_config.eos_token_id
    lm = at2.LanguageModel("tiny", tiny, real.tokenizer, 30, 9, 1024, tiny.device, tiny.dtype, "tiny")
    text = "The keeper of lighthouse number {i} wrote that {i} ships had passed the cape. Nobody else counted them."
    examples = [Example(str(i), at2.ContextTask(text.format(i=i) * 3, "Who counted?")) for i in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(max_new_tokens=16, num_ablations=16)

        def tell(stage: str, done: int, total: int) -> None:
            if stage == "collect" and (done % 100 == 0 or done == 1):
                print(f"{done:>6} examples: {resident():,.0f} MB", flush=True)

        at2.learn(lm, examples, folder, settings=settings, progress=tell)
        print(f"{'fitted':>6}: {resident():,.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="examples in any format that `learn` reads")
    parser.add_argument("--examples", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", type=int, help="so many examples through a tiny model")
    options = parser.parse_args()
    if options.memory:
        memory(options.memory)
    elif options.data is None:
        parser.error("--data FILE or --memory N")
    else:
        speed(options.data, options.examples, options.repeats)


if __name__ == "__main__":
    main()
