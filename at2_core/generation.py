"""Make a response, or take a given one, token by token; the ids are the truth and the text is derived from them.

`generate`   stream a response from the model, stoppable at every token
`replay`     the same result for a response that somebody else wrote; `replay_scored` without a trace, scored on the way
`retrace`    a finished generation's attention again, from its ids
`KeptPrefix` what the last run read, for one that begins alike (from `kept_prefix`)
"""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from .attention import Reader, Trace, contract, contracting, reading
from .cache import new_cache
from .eager import EagerReader, EagerTrace
from .errors import At2Error, Cancelled, PromptTooLong, ResponseDoesNotFit
from .kept_prefix import KeptPrefix, is_stretched
from .models import LanguageModel
from .prompts import ContextTask, Part, Prompt, encode_text, render, without_surrogates
from .readout import Stream, watching_stream
from .sources import split_sentences

COLD = 1e-4  # temperatures below sample nothing but the likeliest token, and would overflow
LONGEST_TOKEN = 64  # characters; texts that would fit only with longer tokens on average are looked at twice
LOGIT_ROWS = 64  # rows of the vocabulary turned to float32 at once
PREFILL = 1024  # tokens read at once where there are more than twice as many, so that reading can be stopped


@dataclass(frozen=True)
class Generation:
    """A response `y_1..y_T` and the prompt that led to it.

    response_offsets: character span of each token in `text`; tokens that share a character share its span.
    logprobs: float32 (T,), log-probability of each token given all before it, in nats.
    stop_reason: "end" (the model ended), "length", "cancelled" or "given".
    trace: what attention read on the way; None after loading from disk (see `retrace`).
    """

    task: ContextTask
    rendered: Prompt
    text: str
    response_ids: list[int]
    response_offsets: list[tuple[int, int]]
    logprobs: np.ndarray
    stop_reason: str
    trace: Trace | EagerTrace | None = field(default=None, repr=False, compare=False)

    @property
    def prompt(self) -> str:
        return self.rendered.text

    @property
    def prompt_ids(self) -> list[int]:
        return list(self.rendered.ids)

    @property
    def prompt_offsets(self) -> list[tuple[int, int]]:
        return list(self.rendered.offsets)

    @property
    def parts(self) -> tuple[Part, ...]:
        return self.rendered.parts

    @property
    def num_tokens(self) -> int:
        """T, the number of response tokens."""
        return len(self.response_ids)


@torch.inference_mode()
def generate(
    lm: LanguageModel,
    task: ContextTask,
    *,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    on_token: Callable[[str], None] | None = None,
    on_prompt: Callable[[int, int], None] | None = None,
    cancel: threading.Event | None = None,
    prefix: KeptPrefix | None = None,
) -> Generation:
    """The model's response to the task: greedy at temperature 0, else sampled with the seed.

    on_token gets the text so far after every token, on_prompt how many tokens of a long prompt are read, and of how many.
    Setting `cancel` ends the generation with what there is. prefix: what the last run read, of which the common beginning is
    not read again (the same logits within rounding); this run is in it afterwards. Raises EmptyInput, PromptTooLong if
    prompt and `max_new_tokens` exceed the model's window, At2Error for settings that cannot be.
    """
    pick = _picker(max_new_tokens, temperature, top_p, seed)
    prompt = _rendered(lm, task, max_new_tokens)
    ends = end_ids(lm)
    detokenizer = Detokenizer(lm.tokenizer)
    ids: list[int] = []
    logits_rows: list[float] = []
    stop_reason = "length"
    cache, reused = (new_cache(lm.model), 0) if prefix is None else prefix.take(lm.model, prompt.ids)
    feed = torch.tensor([prompt.ids[reused:]], device=lm.device)
    first_row = len(prompt.ids) - 1
    with reading(lm.model, first_row) as reader, watching_stream(lm.model, first_row, reused) as stream:
        if reused and isinstance(reader, EagerReader):  # it sees only the ids that are fed
            reader.ids.append(torch.tensor([prompt.ids[:reused]], device=lm.device))
        if feed.shape[1] > 2 * PREFILL and not lm.stateful:  # a state is built in one go
            feed = _read_most(lm, feed, cache, on_prompt, cancel, reused)
        for _ in range(max_new_tokens):
            if cancel is not None and cancel.is_set():
                stop_reason = "cancelled"
                break
            logits = (
                lm.model(feed, past_key_values=cache, use_cache=True, **last_logits(lm, 1, feed.shape[1]))
                .logits[0, -1]
                .float()
            )
            token = pick(logits)
            if token in ends:
                stop_reason = "end"
                break
            ids.append(token)
            logits_rows.append(float(torch.log_softmax(logits, dim=-1)[token]))
            detokenizer.add(token)
            if on_token is not None:
                on_token(detokenizer.text)
            feed = torch.tensor([[token]], device=lm.device)
        trace = _trace(reader, stream).crop(len(ids)) if ids else None
    if prefix is not None:
        prefix.keep(lm.model, [*prompt.ids, *ids], cache)
    text, offsets = detokenizer.finish()
    return Generation(task, prompt, text, ids, offsets, np.array(logits_rows, np.float32), stop_reason, trace)


def replay(
    lm: LanguageModel,
    task: ContextTask,
    response: str,
    *,
    on_prompt: Callable[[int, int], None] | None = None,
    cancel: threading.Event | None = None,
) -> Generation:
    """The generation that a given response would have been: one forward pass.

    on_prompt gets how many tokens of a long prompt with its response are read, and of how many; setting `cancel` ends that.
    With either, a long text is read in pieces. Raises EmptyInput, ResponseDoesNotFit (an empty response, or too long behind
    its prompt), PromptTooLong, Cancelled.
    """
    prompt, response, ids, offsets = _given(lm, task, response)
    trace, logit_probs = _read_given(lm, prompt.ids, ids, on_prompt, cancel)
    logprobs = torch.nn.functional.logsigmoid(logit_probs).cpu().numpy()
    return Generation(task, prompt, response, list(ids), list(offsets), logprobs, "given", trace)


@torch.inference_mode()
def replay_scored(
    lm: LanguageModel, task: ContextTask, response: str, thetas: Tensor
) -> tuple[Generation, Tensor]:
    """As `replay`, and for every theta (estimators, layers, heads) the scores float32 (estimators, T, n + T - 1), summed while
    the model works: of its queries and keys nothing is kept, and the generation has no trace. Raises what `replay` raises.
    """
    prompt, response, ids, offsets = _given(lm, task, response)
    n, columns = len(prompt.ids), len(prompt.ids) + len(ids) - 1
    if lm.in_place:
        with contracting(lm.model, n - 1, thetas.to(lm.device), lm.layer_numbers, len(ids), columns) as early:
            whole = torch.tensor([[*prompt.ids, *ids[:-1]]], device=lm.device)
            logits = lm.model(whole, use_cache=False, **last_logits(lm, len(ids), columns)).logits[
                0, -len(ids) :
            ]
        scores = early.totals
        logit_probs = token_logit_probs(logits, torch.tensor(list(ids), device=logits.device))
    else:
        trace, logit_probs = read_pass(lm, prompt.ids, ids)
        scores = torch.stack([contract(trace, theta, columns) for theta in thetas])
    logprobs = torch.nn.functional.logsigmoid(logit_probs).cpu().numpy()
    return Generation(task, prompt, response, list(ids), list(offsets), logprobs, "given", None), scores


def _given(
    lm: LanguageModel, task: ContextTask, response: str
) -> tuple[Prompt, str, Sequence[int], Sequence[tuple[int, int]]]:
    """Prompt, response, ids and offsets of a response that somebody else wrote, if they fit."""
    if not response.strip():
        raise ResponseDoesNotFit("The response is empty; paste the text that should be attributed.")
    prompt = _rendered(lm, task, 1)
    response = without_surrogates(response)
    ids, offsets = encode_text(lm.tokenizer, response)
    excess = len(prompt.ids) + len(ids) - lm.max_length
    if excess > 0:
        raise ResponseDoesNotFit(
            f"The response has {len(ids):,} tokens and its prompt {len(prompt.ids):,}: {excess:,} more than the "
            f"{lm.max_length:,} that {lm.name} takes; cut {excess:,} tokens (about "
            f"{_characters(excess, len(response), len(ids)):,} characters of the response) from either."
        )
    return prompt, response, ids, offsets


def generation_from_ids(
    lm: LanguageModel,
    task: ContextTask,
    response_ids: Sequence[int],
    stop_reason: str = "given",
    *,
    on_prompt: Callable[[int, int], None] | None = None,
    cancel: threading.Event | None = None,
) -> Generation:
    """The generation of a response given by its ids: read as `replay` does, and exactly these tokens again."""
    prompt = render(lm.tokenizer, task)
    detokenizer = Detokenizer(lm.tokenizer)
    for token in response_ids:
        detokenizer.add(token)
    text, offsets = detokenizer.finish()
    trace, logprobs = None, np.zeros(0, np.float32)
    if response_ids:
        trace, logit_probs = _read_given(lm, prompt.ids, response_ids, on_prompt, cancel)
        logprobs = torch.nn.functional.logsigmoid(logit_probs).cpu().numpy()
    return Generation(task, prompt, text, list(response_ids), offsets, logprobs, stop_reason, trace)


def retrace(lm: LanguageModel, gen: Generation) -> Generation:
    """The same generation with its trace, from one forward pass if it has none."""
    if gen.trace is not None or not gen.response_ids:
        return gen
    return replace(gen, trace=read_pass(lm, gen.rendered.ids, gen.response_ids)[0])


@torch.inference_mode()
def read_pass(
    lm: LanguageModel, prompt_ids: Sequence[int], response_ids: Sequence[int]
) -> tuple[Trace | EagerTrace, Tensor]:
    """Trace and token logit-probabilities float32 (T,) of a response, from one forward pass over n + T - 1 tokens."""
    n, count = len(prompt_ids), len(response_ids)
    ids = torch.tensor([[*prompt_ids, *response_ids[:-1]]], device=lm.device)
    with reading(lm.model, n - 1) as reader, watching_stream(lm.model, n - 1) as stream:
        logits = lm.model(ids, use_cache=False, **last_logits(lm, count, ids.shape[1])).logits[0, -count:]
        trace = _trace(reader, stream)
    return trace, token_logit_probs(logits, torch.tensor(list(response_ids), device=logits.device))


def _trace(reader: Reader | EagerReader, stream: Stream) -> Trace | EagerTrace:
    trace = reader.trace()
    return trace if isinstance(trace, EagerTrace) else replace(trace, stream=stream.rows())


def token_logit_probs(logits: Tensor, ids: Tensor) -> Tensor:
    """log(p / (1 - p)) of each token: float32 (rows,) from logits (rows, vocabulary).

    As the logit minus the logsumexp of all others it stays exact where p rounds to one, and log p is its logsigmoid.
    """
    out = []
    for start in range(0, len(ids), LOGIT_ROWS):
        rows = logits[start : start + LOGIT_ROWS].float().clone()
        own = ids[start : start + LOGIT_ROWS, None]
        chosen = rows.gather(1, own)
        rows.scatter_(1, own, -torch.inf)
        out.append((chosen - torch.logsumexp(rows, dim=-1, keepdim=True))[:, 0])
    return torch.cat(out)


def response_targets(gen: Generation) -> list[slice]:
    """Rows of each sentence of the response; a token belongs to the sentence it starts in."""
    starts = np.array([start for start, _ in gen.response_offsets])
    targets = []
    for start, end in split_sentences(gen.text):
        rows = np.flatnonzero((starts >= start) & (starts < end))
        if len(rows) and gen.text[start:end].strip():
            targets.append(slice(int(rows[0]), int(rows[-1]) + 1))
    return targets


class Detokenizer:
    """Text of a growing list of ids, with each token's span; bytes of an unfinished character wait for the rest."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self.offsets: list[tuple[int, int]] = []
        self.text = ""
        self._shown = 0  # ids whose text is out
        self._context = (
            0  # ids from here on are decoded together, so that spaces between words come out right
        )

    def add(self, token: int) -> None:
        self.ids.append(token)
        fresh = self._fresh()
        if fresh and not fresh.endswith("\ufffd"):
            self._emit(fresh)

    def finish(self) -> tuple[str, list[tuple[int, int]]]:
        if self._shown < len(self.ids):
            self._emit(self._fresh())
        return self.text, self.offsets

    def _fresh(self) -> str:
        before = self._decode(self.ids[self._context : self._shown])
        return self._decode(self.ids[self._context :])[len(before) :]

    def _emit(self, fresh: str) -> None:
        span = (len(self.text), len(self.text) + len(fresh))
        self.offsets += [span] * (len(self.ids) - self._shown)
        self.text += fresh
        self._context, self._shown = self._shown, len(self.ids)

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _rendered(lm: LanguageModel, task: ContextTask, response_tokens: int) -> Prompt:
    """The task's prompt; raises PromptTooLong where it leaves no room for so many tokens of response."""
    if response_tokens >= lm.max_length:
        raise PromptTooLong(
            f"{response_tokens:,} tokens are asked for the response, but {lm.name} takes {lm.max_length:,} of prompt and "
            "response together; ask for a shorter response."
        )
    texts = [task.context, task.prompt, *(d.text for d in task.documents), *(t.content for t in task.history)]
    size = max((len(text) for text in texts if isinstance(text, str)), default=0)
    if size > LONGEST_TOKEN * lm.max_length:  # counted plainly first: with care, so long a text takes minutes
        text = without_surrogates("\n".join(texts))
        count = len(lm.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        _check_room(lm, task, count, response_tokens, len(text))
    prompt = render(lm.tokenizer, task)
    _check_room(lm, task, len(prompt.ids), response_tokens, len(prompt.text))
    return prompt


def _check_room(
    lm: LanguageModel, task: ContextTask, prompt_tokens: int, response_tokens: int, characters: int
) -> None:
    excess = prompt_tokens + response_tokens - lm.max_length
    if excess > 0:
        cut = "prompt" if task.prompt else "context or the earlier turns" if task.history else "context"
        raise PromptTooLong(
            f"The prompt has {prompt_tokens:,} tokens and {response_tokens:,} are kept for the response: {excess:,} more "
            f"than the {lm.max_length:,} that {lm.name} takes; cut about "
            f"{_characters(excess, characters, prompt_tokens):,} characters from the {cut}"
            + (" or ask for a shorter response." if response_tokens > 1 else ".")
        )


def _characters(tokens: int, characters: int, of_tokens: int) -> int:
    """About how many characters so many tokens are, in a text of so many characters and tokens."""
    return min(characters, -(-tokens * characters // max(1, of_tokens)))


def _read_most(
    lm: LanguageModel,
    ids: Tensor,
    cache: DynamicCache,
    on_prompt: Callable[[int, int], None] | None,
    cancel: threading.Event | None,
    before: int = 0,
) -> Tensor:
    """Read a long prompt into the cache piece by piece, all but its last piece, which is returned. before: tokens of the prompt
    that are in the cache already."""
    total = ids.shape[1]
    for start in range(0, total, PREFILL):
        piece = ids[:, start : start + PREFILL]
        if start + PREFILL >= total or (cancel is not None and cancel.is_set()):
            break
        lm.model(piece, past_key_values=cache, use_cache=True, **last_logits(lm, 1, piece.shape[1]))
        if on_prompt is not None:
            on_prompt(before + start + PREFILL, before + total)
    return ids[:, start:]


@torch.inference_mode()
def _read_given(
    lm: LanguageModel,
    prompt_ids: Sequence[int],
    response_ids: Sequence[int],
    on_prompt: Callable[[int, int], None] | None,
    cancel: threading.Event | None,
) -> tuple[Trace | EagerTrace, Tensor]:
    """What `read_pass` gives, within rounding. A long text is read piece by piece through a cache where somebody watches or may
    stop it; the masks that this needs make it a quarter slower on a CPU. Raises Cancelled."""

    def stop_if_asked() -> None:
        if cancel is not None and cancel.is_set():
            raise Cancelled("Stopped while the response was read.")

    n, total = len(prompt_ids), len(prompt_ids) + len(response_ids) - 1
    stop_if_asked()
    watched = on_prompt is not None or cancel is not None
    at_once = lm.stateful or is_stretched(
        lm.model
    )  # a state is built in one go; keys of a part are not those of the whole
    if not watched or total <= 2 * PREFILL or at_once:
        read = read_pass(lm, prompt_ids, response_ids)
        stop_if_asked()
        return read
    ids = torch.tensor([[*prompt_ids, *response_ids]], device=lm.device)
    cache, parts = new_cache(lm.model), []
    with reading(lm.model, n - 1) as reader, watching_stream(lm.model, n - 1) as stream:
        for start in range(0, total, PREFILL):
            end = min(start + PREFILL, total)
            rows = max(0, end - max(start, n - 1))  # that predict a token of the response
            piece = ids[:, start:end]
            logits = lm.model(
                piece, past_key_values=cache, use_cache=True, **last_logits(lm, max(1, rows), end - start)
            ).logits[0]
            if rows:
                predicted = ids[0, end + 1 - rows : end + 1].to(logits.device)
                parts.append(token_logit_probs(logits[-rows:], predicted))
            del logits  # before the next piece makes its own
            if on_prompt is not None:
                on_prompt(end, total)
            stop_if_asked()
        trace = _trace(reader, stream)
    return trace, torch.cat(parts)


def _picker(max_new_tokens: int, temperature: float, top_p: float, seed: int) -> Callable[[Tensor], int]:
    """What chooses a token from logits float32 (vocabulary,). Raises At2Error for settings that cannot be."""
    if max_new_tokens < 0:
        raise At2Error(f"max_new_tokens is {max_new_tokens}; there is no response of fewer than no tokens.")
    if not (math.isfinite(temperature) and temperature >= 0) or not 0 < top_p <= 1:
        raise At2Error(
            f"Sampling needs a temperature of 0 or more and a top_p above 0 and up to 1, not {temperature} and {top_p}."
        )
    if not -(1 << 63) <= seed < 1 << 63:
        raise At2Error(f"The seed {seed} has more than 64 bits; choose a smaller one.")
    if temperature < COLD:
        return lambda logits: int(logits.argmax())
    generator = torch.Generator().manual_seed(seed)

    def sample(logits: Tensor) -> int:
        probabilities, order = torch.softmax(logits.cpu() / temperature, dim=-1).sort(descending=True)
        probabilities[probabilities.cumsum(0) - probabilities >= top_p] = (
            0  # the first that crosses top_p stays
        )
        return int(order[torch.multinomial(probabilities, 1, generator=generator)])

    return sample


def end_ids(lm: LanguageModel) -> set[int]:
    def ids(value: Any) -> Iterator[int]:
        yield from (value if isinstance(value, (list, tuple)) else [] if value is None else [value])

    return {*ids(lm.model.generation_config.eos_token_id), *ids(lm.tokenizer.eos_token_id)}


def last_logits(lm: LanguageModel, rows: int, length: int) -> dict[str, Any]:
    """Options that limit the vocabulary product, a fifth of a small model's work, to the last rows of `length`.

    Rows are given by index: a batch sliced by a number is not contiguous, and its product would copy the vocabulary once for
    every sequence.
    """
    if "logits_to_keep" not in forward_parameters(lm):
        return {}
    return {"logits_to_keep": torch.arange(length - rows, length, device=lm.device)}


def forward_parameters(lm: LanguageModel) -> set[str]:
    """Names that the model's forward takes."""
    return set(inspect.signature(lm.model.forward).parameters)
