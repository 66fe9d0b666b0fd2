"""What a run will take of memory and time, looked at before it is begun, and what former runs took.

`foretold`    in a sentence, while the text is still being written
`weigh`       said no to, where the memory is not enough
`note_pace`   what a run took, for the next ones
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from at2_core.errors import EstimatorMismatch, NotEnoughMemory
from at2_core.footprint import footprint, free_memory, give_back_memory, longest_prompt
from at2_core.prompts import ContextTask, without_surrogates
from pages.ui.model_engine import shown

if TYPE_CHECKING:
    from at2_core.generation import Generation
    from pages.ui.jobs import Run, Settings
    from pages.ui.model_engine import Engine

LEAST = 64  # tokens of a prompt that it is worth to cut to
LONG = 2000  # tokens from which on a run is told beforehand what it takes
TOKEN = 4  # bytes of text in UTF-8 that are about a token
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
            f"{lm.name} was loaded before this began; load {shown(run.loaded_by)} and ask again."
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
        run.reading_takes = engine.pace.until_first(lm, prompt + given * response) or None
    takes = footprint(lm, prompt, response, given=given, pace=engine.pace)
    needed, free = takes.bytes, free_memory(lm.device)
    if needed > free:
        engine.forget()
        give_back_memory()
        free = free_memory(lm.device)
    if needed > free:
        fitting = longest_prompt(lm, response, free, given=given, at_most=prompt)
        raise NotEnoughMemory(
            f"A prompt of about {prompt:,} tokens with {response:,} of response "
            + (f"takes about {duration(takes.seconds)} and " if takes.seconds else "")
            + f"needs {gigabytes(needed)} of memory beside the model, and {gigabytes(free)} is free; "
            + (f"cut the prompt to {fitting:,} tokens" if fitting >= LEAST else "load a smaller model")
            + ", or close other programs."
        )


def foretold(engine: Engine, task: ContextTask, settings: Settings) -> str:
    """What a long run will take, as a sentence; "" for a short one, and while no model is there.

    Tokens are guessed from the length of the text: a tokenizer would hold up whoever types, and the job that uses it.
    """
    lm, given = engine.lm, settings.response is not None
    if lm is None:
        return ""
    prompt = _guessed(_text(task))
    response = _guessed(settings.response or "") if given else settings.max_new_tokens
    if prompt + given * response < LONG:
        return ""
    about = f"About {round(prompt, -2):,} tokens of prompt"
    if given:
        about += f" and {round(response, -1):,} of response"
    about += ", guessed from the length of the text"
    if prompt + response > lm.max_length:
        return f"{about}; {lm.name} takes {lm.max_length:,} of prompt and response together."
    takes, free = footprint(lm, prompt, response, given=given, pace=engine.pace), free_memory(lm.device)
    if takes.seconds:
        time_taken = f"{'' if given else 'at most '}about {duration(takes.seconds)}"
    else:
        time_taken = "a time that the first run will tell"
    return (
        f"{about}: {gigabytes(takes.bytes)} of memory, of {gigabytes(free)} that is free, and {time_taken}."
    )


def _guessed(text: str) -> int:
    return -(-len(text.encode(errors="replace")) // TOKEN)


def tokens_of(lm: Any, task: ContextTask) -> int | None:
    """About how many tokens the prompt has, without the template's; None where it is longer than any model takes."""
    text = _text(task)
    return None if len(text) > MOST_CHARACTERS * lm.max_length else count(lm, text)


def _text(task: ContextTask) -> str:
    """All that the task says."""
    texts = [task.prompt, task.context, task.query, task.system or ""]
    texts += [text for d in task.documents for text in (d.title, d.text)]
    texts += [turn.content for turn in task.history]
    return "\n".join(text for text in texts if text)


def count(lm: Any, text: str) -> int:
    return len(lm.tokenizer(without_surrogates(text), add_special_tokens=False, verbose=False)["input_ids"])


def gigabytes(size: float) -> str:
    if size >= 99_500_000:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else "less than 1 MB"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, seconds):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


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
