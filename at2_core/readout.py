"""What heads write towards the response: how much a head's reading of a source raises the log-probability of the next token.

`find_readout`      where a model's heads write to, and where that is read out; None where heads do not simply add up
`watching_stream`   while it lasts, the end of the residual stream is kept for the rows that predict the response
`written_queries`   each layer's queries of what was written, to be multiplied with its values

A head writes sum_i A[i] v_i W_O to the residual stream, a sum over the tokens i that it looks at. To first order, with all that
follows left as it is, this changes log p(y_t) by its product with g_t, the gradient of log p(y_t) at the end of the stream: the
head's direct contribution. It splits over tokens, and needs no forward pass beyond the one that is read.

No architecture is known by name. A model is tried on a few tokens: the module that takes what the heads give is the output
projection if it is linear; what it gives has to be found in the stream, added, up to a factor; and the stream has to end where
the vocabulary is read out. Where one of these fails (a norm behind the heads, a gate), there is no readout.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from .attention import Reader, Trace, reading, reads_in_place
from .errors import At2Error

TOKENS = 12
EXACT, ROUNDED = 1e-3, 0.03  # share of a sum that may be something else: in float32, and in 16 bits
ROWS = 64  # of the vocabulary turned to float32 at once


@dataclass(frozen=True, eq=False)
class Readout:
    """norm: the module that reads the end of the stream; head: the vocabulary's, whose output times `scale` are the logits.
    outs: what takes each layer's heads into the stream, by the layer's number, with the factor that it is added with."""

    norm: Any = field(repr=False)
    head: Any = field(repr=False)
    scale: float
    outs: dict[int, tuple[Any, float]] = field(repr=False)


@dataclass
class Stream:
    """The end of the residual stream, of the rows seen so far: a list of (rows, width)."""

    first_row: int
    parts: list[Tensor] = field(default_factory=list)
    seen: int = 0

    def see(self, states: Tensor, length: int) -> None:
        """states: (1, rows, width), the last ones of a pass over `length` tokens."""
        begin = self.seen + length - states.shape[1]  # a model may read out its last rows alone
        start = max(self.first_row - begin, 0)
        if start < states.shape[1]:
            self.parts.append(states[0, start:].detach().clone())
        self.seen += length

    def rows(self) -> Tensor | None:
        return torch.cat(self.parts) if self.parts else None


_readouts: WeakKeyDictionary[Any, Readout | None] = WeakKeyDictionary()


def find_readout(model: Any) -> Readout | None:
    """Where the model's heads write to; None where their contributions do not simply add up. Tried once a model."""
    if model not in _readouts:
        try:
            _readouts[model] = _find(model) if reads_in_place(model) else None
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError):
            _readouts[model] = None  # whatever an unknown architecture raises; it is read without
    return _readouts[model]


def no_readout(name: str) -> At2Error:
    """What to say where a model has none."""
    return At2Error(
        f"What the heads of {name} write cannot be told apart from what follows them; only their attention can be scored."
    )


@contextlib.contextmanager
def watching_stream(model: Any, first_row: int, before: int = 0) -> Iterator[Stream]:
    """Keep the end of the stream for rows from position `first_row` on, over one or more passes of one sequence. before: tokens
    that an earlier run has read."""
    stream, readout = Stream(first_row, seen=before), find_readout(model)
    if readout is None:
        yield stream
        return
    length = [0]

    def count(module: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        length[0] = (args[0] if args else options["input_ids"]).shape[1]

    def keep(module: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        stream.see(args[0] if args else next(iter(options.values())), length[0])

    hooks = [
        model.register_forward_pre_hook(count, with_kwargs=True),
        readout.norm.register_forward_pre_hook(keep, with_kwargs=True),
    ]
    try:
        yield stream
    finally:
        for hook in hooks:
            hook.remove()


def written_queries(readout: Readout, trace: Trace, response_ids: Sequence[int]) -> Callable[[int], Tensor]:
    """A function of the layer (counted among those that have heads): float32 (heads, rows, value width).

    Their product with the value v_i of token i is what a head writes towards log p(y_t) for each unit of attention to i.
    Raises ValueError where the trace lacks the stream or its values.
    """
    if trace.stream is None or any(layer.values is None for layer in trace.layers):
        raise ValueError("the trace was read without its values")
    with torch.inference_mode(False):
        gradients = _gradients(readout, trace.stream.clone(), torch.tensor(list(response_ids)))

    def of(layer: int) -> Tensor:
        number, seen = trace.numbers[layer], trace.layers[layer]
        out, factor = readout.outs[number]
        assert seen.values is not None
        width = seen.num_heads * seen.values.shape[-1]
        with torch.inference_mode(False):
            like = gradients.new_zeros(len(gradients), width).to(seen.values.device)
            back = _pulled_back(out, like, factor * gradients.to(like.device))
        return back.reshape(len(back), seen.num_heads, -1).transpose(0, 1)  # (heads, rows, width)

    return of


def _gradients(readout: Readout, states: Tensor, ids: Tensor) -> Tensor:
    """float32 (rows, width): of log p(y_t) by the end of the stream, (rows, width)."""
    weight, parts = readout.head.weight, []
    for start in range(0, len(states), ROWS):
        rows, own = states[start : start + ROWS], ids[start : start + ROWS, None].to(states.device)
        with torch.no_grad():
            logits = readout.head(readout.norm(rows)).float() * readout.scale
            log_p = torch.log_softmax(logits, dim=-1)
            # 1 - p of the token itself as -expm1(log p): it would lose its digits where p is near one.
            by_logit = log_p.exp().neg_().scatter_(1, own, -torch.expm1(log_p.gather(1, own)))
            by_read = (by_logit.to(weight.dtype) @ weight).float() * readout.scale
        parts.append(_pulled_back(readout.norm, rows.float(), by_read))
    return torch.cat(parts)


def _pulled_back(module: Any, at: Tensor, gradient: Tensor) -> Tensor:
    """float32: the gradient with respect to the module's input at `at`, given that of its output."""
    exact = {name: value.float() for name, value in module.named_parameters() if value.is_floating_point()}
    with torch.enable_grad():
        begin = at.detach().clone().requires_grad_(True)
        end = torch.func.functional_call(module, exact, (begin,))
        (back,) = torch.autograd.grad(end, begin, gradient.to(end.dtype))
    return back.float()


# -------------------------------------------------------------------------------------------------- finding


@dataclass
class _Call:
    """One call of a module on the probe: its first tensor in, its (first) tensor out."""

    name: str
    module: Any
    given: Tensor
    made: Tensor


@torch.inference_mode()
def _find(model: Any) -> Readout | None:
    head = model.get_output_embeddings()
    if head is None or getattr(head, "weight", None) is None or head.weight.ndim != 2:
        return None
    calls, wrote, logits = _watched(model)
    limit = EXACT if model.dtype == torch.float32 else ROUNDED
    read = next((call for call in calls if call.module is head), None)
    if read is None:
        return None
    norms = [c for c in calls if _same(c.made, read.given) and not _same(c.given, read.given)]
    scale = float((logits.double() * read.made).sum() / read.made.double().square().sum())
    bent = float((logits.double() - scale * read.made).norm() / logits.double().norm())
    if not norms or bent > limit / 50:  # logits that a tangent bends are no multiple
        return None
    scale = 1.0 if abs(scale - 1) < limit else scale
    norm, outs, containers = norms[0], {}, set()
    for module, given in wrote:
        name = next(n for n, m in model.named_modules() if m is module)
        layer_name = name.rpartition(".")[0]
        out = next((c for c in calls if c.name.startswith(f"{name}.") and _same(c.given, given)), None)
        layer = next((c for c in calls if c.name == layer_name), None)
        if out is None or layer is None or not _is_linear(out, limit) or not _turns_back(out, limit):
            return None
        factor = _factor(calls, layer, name, out.made, limit)
        if factor is None:
            return None
        outs[module.layer_idx] = (out.module, factor)
        containers.add(layer_name.rpartition(".")[0])
    ends = [c.made for c in calls if c.name.rpartition(".")[0] in containers]
    if not outs or not any(_same(norm.given, end) for end in ends):
        return None
    return Readout(norm.module, head, scale, outs)


def _watched(model: Any) -> tuple[list[_Call], list[tuple[Any, Tensor]], Tensor]:
    """Every module's call on a few tokens, the inner ones first; what each layer's heads gave, by its module; the logits."""
    names = {module: name for name, module in model.named_modules()}
    calls: list[_Call] = []

    def note(module: Any, args: tuple[Any, ...], options: dict[str, Any], output: Any) -> None:
        given = next((a for a in (*args, *options.values()) if _is_state(a)), None)
        made = output[0] if isinstance(output, tuple) and output else output
        if given is not None and _is_state(made):
            calls.append(_Call(names[module], module, given, made))

    embedding = model.get_input_embeddings()
    ids = torch.arange(7, 7 + TOKENS, device=embedding.weight.device)[None] * 37 % embedding.num_embeddings
    hooks = [module.register_forward_hook(note, with_kwargs=True) for module in names]
    try:
        with reading(model, 0) as reader:
            assert isinstance(reader, Reader)
            reader.gave = []
            logits = model(ids, use_cache=False).logits
            wrote = reader.gave
    finally:
        for hook in hooks:
            hook.remove()
    return calls, wrote, logits


def _is_state(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 2


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether they hold the same numbers in the same order, whatever their shape."""
    if one.numel() != other.numel() or one.device != other.device:
        return False
    return one.data_ptr() == other.data_ptr() or torch.equal(one.reshape(-1), other.reshape(-1))


def _is_linear(call: _Call, limit: float) -> bool:
    """Whether the module's change for a sum is the sum of its changes."""
    one = call.given
    other = one.flip(-1)
    none, both = call.module(torch.zeros_like(one)), call.module(one + other)
    parts = call.module(one) + call.module(other) - none
    return float((both - parts).float().norm()) <= 3 * limit * float(both.float().norm())


def _turns_back(call: _Call, limit: float) -> bool:
    """Whether gradients pass the module as they should; through weights of few bits they do not everywhere."""
    with torch.inference_mode(False):
        given = call.given.clone().float()
        made = (call.made - call.module(torch.zeros_like(call.given))).clone().float()
        back = _pulled_back(call.module, given, made)
    length = float(made.square().sum())
    return abs(float((back * given).sum()) - length) <= 3 * limit * max(length, 1e-12)


def _factor(calls: Sequence[_Call], layer: _Call, heads: str, wrote: Tensor, limit: float) -> float | None:
    """How many times what the heads wrote is in the stream behind them, and behind their layer; None where it is not."""
    inside = [c for c in calls if c.name.startswith(f"{layer.name}.") and not c.name.startswith(heads)]
    children = [c for c in inside if "." not in c.name[len(layer.name) + 1 :]]
    for after in (c.given for c in inside if c.given.shape == layer.given.shape):
        factor = _times(after, layer.given, wrote, limit)
        if factor is not None:  # one after the other: the rest of the layer adds to what is there now
            rest = [c.made for c in children if c.made.shape == after.shape]
            return factor if any(_times(layer.made, after, r, limit) is not None for r in rest) else None
    for other in (c.made for c in children if c.made.shape == layer.made.shape):  # side by side
        if _times(layer.made, layer.given + other, wrote, limit) is not None:
            return 1.0
    return None


def _times(total: Tensor, base: Tensor, part: Tensor, limit: float) -> float | None:
    """c where total = base + c part, c > 0, as closely as the numbers' kind allows; None where there is none."""
    added, part = (total.double() - base.double()).reshape(-1), part.double().reshape(-1)
    if added.numel() != part.numel() or not bool(part.any()):
        return None
    factor = float(added @ part / (part @ part))
    # A sum is rounded to the digits of its total, which may be far larger than what was added.
    slack = limit * (float(added.norm()) + (0.1 if limit == ROUNDED else 1e-3) * float(total.double().norm()))
    if factor <= 0 or float((added - factor * part).norm()) > slack:
        return None
    return 1.0 if abs(factor - 1) < limit else factor
