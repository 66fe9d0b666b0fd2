"""Read attention from response to prompt inside the model's own kernels.

`reading`       while it lasts, every attention layer leaves its queries and keys in a `Reader`
`contracting`   while it lasts, every layer's weights are summed at once, and nothing of it is kept
`Trace`         what was read: the queries of the response's rows and all keys, layer by layer
`weights`       softmax weights of one layer, computed from the trace in blocks of rows
`visit`         weights of every layer in turn, in blocks of rows, whichever kind of trace it is
`contract`      weights of all heads, summed with one coefficient per head

Attention weights are never asked of the model (`output_attentions=True` forces the slow kernel and holds heads x tokens x
tokens). Instead a function registered with transformers' `AttentionInterface` looks at `query` and `key` and hands on
to the stock kernel, so the logits are bit-identical and no architecture is known here by name. Keeping queries and keys
costs `layers x heads x width` a token; the weights follow from them at any time without another forward pass.

Models that do not take their attention from the interface leave an `EagerTrace` (module `eager`): it runs them again.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .eager import EagerReader, EagerTrace

PREFIX = "at2_"  # our function over kernel "sdpa" is registered as "at2_sdpa"
BLOCK_FLOATS = (
    4_000_000  # weights held at once, 16 MB: fits the processor's caches poorly above, wastes calls below
)


@dataclass
class LayerTrace:
    """What one attention layer did for the response: queries (heads, rows, width), keys, values (kv heads, tokens, width)."""

    queries: Tensor
    keys: Tensor
    scaling: float
    values: Tensor | None = None
    softcap: float | None = None
    sinks: Tensor | None = None  # (heads,) logits that take part in the softmax and are then dropped
    mask: Tensor | None = (
        None  # (1 or heads, rows, tokens), boolean (True: may see) or additive; None: causal only
    )
    window: int | None = None

    @property
    def num_heads(self) -> int:
        return self.queries.shape[0]


@dataclass
class Trace:
    """Queries of the rows that predict the response, and all keys; row t (from 0) sits at position `first_row + t`.

    numbers: of the layers that have heads, as the model counts them. stream: the end of the residual stream, (rows, width),
    where it was watched (`readout`).
    """

    layers: list[LayerTrace]
    first_row: int
    numbers: tuple[int, ...] = ()
    stream: Tensor | None = None

    @property
    def num_rows(self) -> int:
        return self.layers[0].queries.shape[1]

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def num_heads(self) -> int:
        return self.layers[0].num_heads

    @property
    def device(self) -> Any:
        """Where sums over layers are kept; a model over several GPUs has its layers elsewhere, too."""
        return self.layers[0].queries.device

    def crop(self, num_rows: int) -> Trace:
        """The same trace without the rows past `num_rows`."""
        for layer in self.layers:
            layer.queries = layer.queries[:, :num_rows]
            layer.mask = None if layer.mask is None else layer.mask[:, :num_rows]
        self.stream = None if self.stream is None else self.stream[:num_rows]
        return self


@dataclass
class Reader:
    """Collects a `Trace` of the rows from position `first_row` on, over one or more forward passes of one sequence."""

    first_row: int
    queries: dict[int, list[Tensor]] = field(default_factory=dict)
    masks: dict[int, list[Tensor | None]] = field(default_factory=dict)
    latest: dict[int, dict[str, Any]] = field(default_factory=dict)
    cut_masks: list[tuple[Tensor, Tensor | None]] = field(default_factory=list)  # layers share a pass's masks
    gave: list[tuple[Any, Tensor]] | None = None  # what each layer's heads gave, where somebody wants to know

    def see(
        self,
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        options: dict[str, Any],
    ) -> None:
        """query: (1, heads, rows, width); key, value: (1, kv heads, tokens, width), the cached ones included."""
        rows, tokens = query.shape[2], key.shape[2]
        start = max(self.first_row - (tokens - rows), 0)
        if start >= rows:
            return
        layer = module.layer_idx
        # A view would keep the queries of the whole prompt alive.
        self.queries.setdefault(layer, []).append(query[0, :, start:].clone())
        self.masks.setdefault(layer, []).append(
            None if mask is None else self._cut(mask, start, rows, tokens)
        )
        self.latest[layer] = {
            "keys": _own(key)[0],
            "values": _own(value)[0],
            **_how(module, query, options),
        }

    def _cut(self, mask: Any, start: int, rows: int, tokens: int) -> Tensor | None:
        for whole, part in self.cut_masks:
            if whole is mask:
                return part
        part = _rows_of(mask, start, rows, tokens)
        self.cut_masks = [*self.cut_masks[-1:], (mask, part)]  # two: windowed layers alternate with full ones
        return part

    def trace(self) -> Trace:
        """What was read so far."""
        self.cut_masks.clear()
        joined: dict[tuple[int, ...], Tensor | None] = {}
        layers = []
        for layer in sorted(self.latest):
            seen, parts = self.latest[layer], self.masks[layer]
            identity = tuple(id(part) for part in parts)
            if identity not in joined:
                counts = [q.shape[1] for q in self.queries[layer]]
                joined[identity] = _join_masks(parts, counts, seen["keys"].shape[1])
            mask = joined[identity]
            layers.append(LayerTrace(queries=torch.cat(self.queries[layer], dim=1), mask=mask, **seen))
        return Trace(layers, self.first_row, tuple(sorted(self.latest)))


@dataclass
class EarlyReader:
    """Sums each layer's weights at once, so that neither its queries nor its keys outlive it: one pass of a whole sequence.

    thetas: (estimators, layers, heads). numbers: of the layers that have heads. totals: float32 (estimators, rows, columns),
    what `contract` would give of a trace.
    """

    first_row: int
    thetas: Tensor
    numbers: tuple[int, ...]
    totals: Tensor
    gave: None = None

    def see(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, options: dict[str, Any]
    ) -> None:
        """As `Reader.see`."""
        theta = self.thetas[:, self.numbers.index(module.layer_idx)].to(query.device)
        if not theta.any():
            return
        rows, tokens = query.shape[2], key.shape[2]
        seen = None if mask is None else _rows_of(mask, self.first_row, rows, tokens)
        layer = LayerTrace(query[0, :, self.first_row :], key[0], mask=seen, **_how(module, query, options))
        for part in blocks(layer):
            summed = torch.einsum("eh,hrn->ern", theta, weights(layer, self.first_row, part))
            self.totals[:, part] += summed[:, :, : self.totals.shape[2]].to(self.totals.device)


_reader: ContextVar[Reader | EarlyReader | None] = ContextVar("at2_reader", default=None)
_installed: dict[
    int, tuple[int, str]
] = {}  # id(model) -> (how many readings are open, the kernel to give back)
_install_lock = threading.Lock()


def _how(module: Any, query: Tensor, options: dict[str, Any]) -> dict[str, Any]:
    """What else a layer's weights depend on."""
    scaling, sinks = options.get("scaling"), options.get("s_aux", getattr(module, "sinks", None))
    return {
        "scaling": query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        "softcap": options.get("softcap"),
        "sinks": None if sinks is None else sinks.detach(),
        "window": options.get("sliding_window"),
    }


@contextlib.contextmanager
def reading(model: Any, first_row: int) -> Iterator[Reader | EagerReader]:
    """Read the attention of the forward passes in this block, for rows from position `first_row` on (from 0).

        with reading(lm.model, first_row=n - 1) as reader:
            lm.model(ids)
        trace = reader.trace()

    A model that does not take its attention from transformers' attention interface is only watched for its ids.
    """
    if not reads_in_place(model):
        with EagerReader(model, first_row).watching() as watcher:
            yield watcher
        return
    reader = Reader(first_row)
    with _given_to(reader, model):
        yield reader


@contextlib.contextmanager
def contracting(
    model: Any, first_row: int, thetas: Tensor, numbers: tuple[int, ...], num_rows: int, num_columns: int
) -> Iterator[EarlyReader]:
    """`contract` for several thetas (estimators, layers, heads) while one forward pass over a whole sequence runs, by a model
    that takes its attention from transformers' attention interface. No trace is left."""
    totals = torch.zeros(len(thetas), num_rows, num_columns, dtype=torch.float32, device=thetas.device)
    reader = EarlyReader(first_row, thetas.float(), numbers, totals)
    with _given_to(reader, model):
        yield reader


@contextlib.contextmanager
def _given_to(reader: Reader | EarlyReader, model: Any) -> Iterator[None]:
    _install(model)
    token = _reader.set(reader)
    try:
        yield
    finally:
        _reader.reset(token)
        _uninstall(model)


def reads_in_place(model: Any) -> bool:
    """Whether the model takes its attention from transformers' attention interface."""
    return bool(model._can_set_attn_implementation())


def weights(layer: LayerTrace, first_row: int, rows: slice = slice(None)) -> Tensor:
    """Softmax weights of one layer: float32 (heads, rows, tokens), each row summing to one (to less with sinks)."""
    queries = layer.queries[:, rows].float()
    heads, count, width = queries.shape
    kv_heads, tokens, _ = layer.keys.shape
    grouped = queries.reshape(
        kv_heads, heads // kv_heads * count, width
    )  # query head h reads kv head h // group
    logits = torch.matmul(grouped, layer.keys.float().transpose(1, 2)).mul_(layer.scaling)
    logits = logits.reshape(heads, count, tokens)
    if layer.softcap is not None:
        logits = torch.tanh(logits.div_(layer.softcap)).mul_(layer.softcap)
    start = first_row + (rows.start or 0)
    position = torch.arange(start, start + count, device=logits.device)[:, None]
    column = torch.arange(tokens, device=logits.device)[None, :]
    hidden = column > position
    if layer.mask is not None:
        mask = layer.mask[:, rows]
        if mask.dtype == torch.bool:
            hidden = hidden | ~mask
        else:
            logits = logits + mask.float()
    elif layer.window is not None:
        hidden = hidden | (column <= position - layer.window)
    logits.masked_fill_(hidden, -torch.inf)
    if layer.sinks is None:
        return torch.softmax(logits, dim=-1)
    sinks = layer.sinks.float().reshape(heads, 1, 1).expand(heads, count, 1)
    return torch.softmax(torch.cat([logits, sinks], dim=-1), dim=-1)[..., :-1]


def blocks(layer: LayerTrace) -> Iterator[slice]:
    """Slices of rows such that one block's weights stay near `BLOCK_FLOATS` numbers."""
    heads, rows, _ = layer.queries.shape
    step = max(1, BLOCK_FLOATS // (heads * layer.keys.shape[1]))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


@torch.inference_mode()
def visit(
    trace: Trace | EagerTrace, use: Callable[[int, slice, Tensor], None], only: Collection[int] | None = None
) -> None:
    """Call use(layer, rows, weights float32 (heads, rows, tokens)) for every layer, or those in `only`, block by block.

    Layers are counted among those that have heads. A block is gone after its call, so no array of size heads x rows x tokens
    need ever exist.
    """
    if isinstance(trace, EagerTrace):
        trace.visit(use, only, BLOCK_FLOATS)
        return
    for number, layer in enumerate(trace.layers):
        if only is None or number in only:
            for rows in blocks(layer):
                use(number, rows, weights(layer, trace.first_row, rows))


@torch.inference_mode()
def contract(
    trace: Trace | EagerTrace, theta: Tensor, num_columns: int, written: Written | None = None
) -> Tensor:
    """sum over l, h of theta[l, h] * A[l, h, row, column]: float32 (rows, num_columns).

    theta: (layers, heads). This is the paper's score (arXiv 2504.13752, section 3) before positions are summed to sources;
    heads are summed inside the block of rows, so that no array of size heads x rows x tokens ever exists. written: what heads
    write is added, with coefficients of its own.
    """
    theta = theta.to(device=trace.device, dtype=torch.float32)
    total = torch.zeros(trace.num_rows, num_columns, dtype=torch.float32, device=trace.device)
    wanted = theta if written is None else torch.stack([theta, written.coefficients.to(theta)], dim=-1)

    def add(layer: int, rows: slice, block: Tensor) -> None:
        summed = torch.mv(block.reshape(len(block), -1).T, theta[layer].to(block.device))
        if written is not None:
            given = written.coefficients[layer].to(block)[:, None, None]
            summed += (written.block(trace, layer, rows, block) * given).sum(dim=0).reshape(-1)
        total[rows] += summed.reshape(block.shape[1:])[:, :num_columns].to(total.device)

    visit(trace, add, only=[layer for layer, coefficients in enumerate(wanted) if coefficients.any()])
    return total


@dataclass
class Written:
    """What heads write towards the response's tokens. coefficients: (layers, heads). queries: of a layer, (heads, rows, value
    width), see `readout`; the last layer's are kept while its blocks are visited."""

    coefficients: Tensor
    queries: Callable[[int], Tensor]
    latest: tuple[int, Tensor] | None = None

    def block(self, trace: Trace | EagerTrace, layer: int, rows: slice, weights: Tensor) -> Tensor:
        """float32 (heads, rows, tokens): the direct contribution of each head and token to log p of each row's token."""
        assert isinstance(trace, Trace)
        values = trace.layers[layer].values
        assert values is not None
        if self.latest is None or self.latest[0] != layer:
            self.latest = layer, self.queries(layer)
        heads, count, tokens = weights.shape
        grouped = self.latest[1][:, rows].reshape(len(values), heads // len(values) * count, -1)
        return weights * torch.matmul(grouped, values.float().transpose(1, 2)).reshape(heads, count, tokens)


def _install(model: Any) -> None:
    with _install_lock:
        count, kernel = _installed.get(id(model), (0, model.config._attn_implementation))
        if count == 0:
            _register(kernel)
            model.set_attn_implementation(PREFIX + kernel)
        _installed[id(model)] = (count + 1, kernel)


def _uninstall(model: Any) -> None:
    with _install_lock:
        count, kernel = _installed.pop(id(model))
        if count > 1:
            _installed[id(model)] = (count - 1, kernel)
        else:
            model.set_attn_implementation(kernel)


def _register(kernel: str) -> None:
    name = PREFIX + kernel
    if name in ALL_ATTENTION_FUNCTIONS.valid_keys():
        return

    def attend(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
    ) -> Any:
        reader = _reader.get()
        if reader is not None:
            reader.see(module, query, key, value, attention_mask, options)
        result = _stock(kernel, module)(module, query, key, value, attention_mask, **options)
        if reader is not None and reader.gave is not None:
            reader.gave.append((module, result[0]))
        return result

    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[kernel])


def _stock(kernel: str, module: Any) -> Callable[..., Any]:
    """The function that would have run; the eager one is each modelling file's own."""
    if kernel != "eager":
        return ALL_ATTENTION_FUNCTIONS[kernel]
    return sys.modules[type(module).__module__].eager_attention_forward


def _own(states: Tensor) -> Tensor:
    """A view would keep what it is cut from alive."""
    return states if states.untyped_storage().nbytes() <= 2 * states.nbytes else states.clone()


def _rows_of(mask: Any, start: int, rows: int, tokens: int) -> Tensor | None:
    """The mask's rows from `start` on, or None if they hide nothing beyond the future."""
    if not isinstance(mask, Tensor):  # flex attention's: a function of the positions
        device = mask.kv_num_blocks.device
        row, column = torch.arange(start, rows, device=device), torch.arange(tokens, device=device)
        zero = torch.zeros((), dtype=torch.long, device=device)
        shown = mask.mask_mod(zero, zero, row[:, None], column[None])
        return shown.expand(len(row), tokens)[None].clone()
    mask = mask[0, :, start:rows, :tokens]
    if mask.shape[1] == 1:  # a decoding step sees the past alone, so an empty mask needs no keeping
        empty = mask.all() if mask.dtype == torch.bool else (mask == 0).all()
        if bool(empty):
            return None
    return mask.clone()


def _join_masks(masks: list[Tensor | None], rows: list[int], tokens: int) -> Tensor | None:
    """Masks of successive passes, widened to the final number of tokens: (1 or heads, rows, tokens), or None."""
    present = [m for m in masks if m is not None]
    if not present:
        return None
    heads, like = max(m.shape[0] for m in present), present[0]
    seen = torch.ones if like.dtype == torch.bool else torch.zeros
    joined = seen(heads, sum(rows), tokens, dtype=like.dtype, device=like.device)
    at = 0
    for mask, count in zip(masks, rows, strict=True):
        if mask is not None:
            joined[:, at : at + count, : mask.shape[-1]] = mask
        at += count
    return joined  # columns past a pass's tokens are its future, which `weights` hides
