"""What a run will take of memory and time, looked at before it is begun, and what former runs took."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from at2_core.errors import EstimatorMismatch, NotEnoughMemory
from at2_core.footprint import footprint, free_memory, give_back_memory, longest_prompt
from at2_core.prompts import ContextTask, without_surrogates

if TYPE_CHECKING:
    from at2_core.generation import Generation
    from pages.ui.jobs import Run
    from pages.ui.model_engine import Engine

LEAST = 64  # tokens of a prompt that it is worth to cut to
MOST_CHARACTERS = (
    64  # of a token on average; a longer text is refused by the engine, which then counts it with care
)


def weigh(run: Run, engine: Engine, lm: Any) -> None:
    """Say no to what the memory is not enough for, before it takes everybody's; and how long reading the prompt will take.

    Raises NotEnoughMemory, and EstimatorMismatch where the ids of a response are those of another model.
    """
    settings = run.settings
    if settings.response_ids and engine.name != run.loaded_by:
        raise EstimatorMismatch(
            f"{lm.name} was loaded before this began; load {run.loaded_by} and ask again."
        )
    given = settings.response is not None or bool(settings.response_ids)
    prompt, response = tokens_of(lm, run.task), settings.max_new_tokens
    if settings.response is not None:
        response = count(lm, settings.response)
    elif settings.response_ids:
        response = len(settings.response_ids)
    if prompt is None or prompt + response > lm.max_length:
        return  # the engine says how much too long it is
    run.prompt_tokens = prompt
    if not run.task.history:  # a follow-up question finds most of its prompt read
        run.reading_takes = engine.pace.until_first(lm, prompt) or None
    needed, free = footprint(lm, prompt, response, given=given).bytes, free_memory(lm.device)
    if needed > free:
        engine.forget()
        give_back_memory()
        free = free_memory(lm.device)
    if needed > free:
        fitting = longest_prompt(lm, response, free, given=given, at_most=prompt)
        raise NotEnoughMemory(
            f"A prompt of about {prompt:,} tokens with {response:,} of response needs {gigabytes(needed)} of memory beside "
            f"the model, and {gigabytes(free)} is free; "
            + (f"cut the prompt to {fitting:,} tokens" if fitting >= LEAST else "load a smaller model")
            + ", or close other programs."
        )


def tokens_of(lm: Any, task: ContextTask) -> int | None:
    """About how many tokens the prompt has, without the template's; None where it is longer than any model takes."""
    texts = [task.prompt, task.context, task.query, task.system or ""]
    texts += [text for d in task.documents for text in (d.title, d.text)]
    texts += [turn.content for turn in task.history]
    text = "\n".join(text for text in texts if text)
    return None if len(text) > MOST_CHARACTERS * lm.max_length else count(lm, text)


def count(lm: Any, text: str) -> int:
    return len(lm.tokenizer(without_surrogates(text), add_special_tokens=False, verbose=False)["input_ids"])


def gigabytes(size: float) -> str:
    if size >= 99_500_000:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else "less than 1 MB"


def note_pace(run: Run, engine: Engine, lm: Any, generation: Generation) -> None:
    """What the run took, for the estimates of the next ones; not where the prompt's beginning had been read before."""
    if run.reading_since is None or not generation.response_ids:
        return
    tokens, now = len(generation.response_ids), time.monotonic()
    if run.generating_since is None:  # a response that was given is read with its prompt
        engine.pace.add(lm, generation.rendered.n + tokens, now - run.reading_since)
        return
    if getattr(engine.prefix, "reused", 0):
        return
    until_first, after = run.generating_since - run.reading_since, now - run.generating_since
    engine.pace.add(lm, generation.rendered.n, until_first, tokens - 1, after)
