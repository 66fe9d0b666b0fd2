"""What the Heads page asks of the model, each answer kept for a while, and how it names spans and sources.

The generation carries a trace of queries and keys, so none of this runs the model again; torch is imported in the
functions, after the engine has loaded it.
"""

from __future__ import annotations

import numpy as np
import streamlit as st

from at2_core.card import plain
from at2_core.estimator import Estimator, without_heads
from at2_core.exploration import Exploration
from at2_core.sources import Source, page_of
from pages.ui import session
from pages.ui.head_address import SOURCES
from pages.ui.head_state import Head
from pages.ui.token_heatmap import document_name, sentence_kinds, whole_name

Span = tuple[int, int]  # first and last response token


@st.cache_resource(max_entries=24, show_spinner=False)
def attention(example: str, head: Head, _exploration: Exploration, _lm) -> np.ndarray:
    """float32 (T, n): one head's attention from the response to the prompt."""
    from at2_core import head_attention

    return head_attention(_lm, session.generation_of(_exploration), *head)


@st.cache_resource(max_entries=16, show_spinner=False)
def source_attention(
    example: str, runs: tuple[Span, ...], _exploration: Exploration, _lm, direct: bool = False
) -> np.ndarray:
    """float32 (layers, heads, S): every head's attention to each source, mean over the tokens of these runs; direct: what it
    wrote.

    Raises At2Error where that cannot be told.
    """
    from at2_core.attribution import source_features

    sources = _exploration.sources[SOURCES]
    generation = session.generation_of(_exploration)
    targets = [slice(first, last + 1) for first, last in runs]
    found = source_features(_lm, generation, sources, targets, direct=direct).cpu().numpy()
    lengths = np.array([last + 1 - first for first, last in runs], np.float32)
    return np.einsum("lhrs,r->lhs", found, lengths / max(1, lengths.sum()))


@st.cache_resource(max_entries=16, show_spinner=False)
def scores_without(
    example: str,
    theta_id: str,
    muted: tuple[Head, ...],
    _exploration: Exploration,
    _lm,
    _estimator: Estimator,
) -> np.ndarray:
    """float32 (T, n): token scores with the muted heads' coefficients set to zero."""
    from at2_core import token_scores

    return token_scores(_lm, session.generation_of(_exploration), without_heads(_estimator, list(muted)))


def contribution(
    exploration: Exploration, lm, estimator: Estimator, span: Span | None, source: int | None
) -> np.ndarray:
    """(layers, heads): coefficient times attention to the source, or to all of them; mean over the span's tokens. Where the
    estimator has coefficients of what heads write, that counts too."""
    features = source_attention(exploration.id, _runs(exploration, span), exploration, lm)
    found = estimator.theta * _to(features, source)
    if estimator.direct is not None:
        found = found + estimator.direct * written(exploration, lm, span, source)
    return found


def written(exploration: Exploration, lm, span: Span | None, source: int | None) -> np.ndarray:
    """(layers, heads), in nats a token: what each head wrote towards the span's tokens, out of the source or all of them."""
    runs = _runs(exploration, span)
    return _to(source_attention(exploration.id, runs, exploration, lm, direct=True), source)


def _runs(exploration: Exploration, span: Span | None) -> tuple[Span, ...]:
    return exploration.target if span is None else (span,)


def _to(features: np.ndarray, source: int | None) -> np.ndarray:
    return features.sum(axis=2) if source is None else features[:, :, source]


def sentence_spans(exploration: Exploration) -> list[Span]:
    """Response tokens of each sentence, without those that are a thought's marker; a token belongs to the sentence of its last
    character, for a space that begins a word is tokenized with it."""
    spans: list[Span] = []
    for (start, end), kind in zip(exploration.sentences, sentence_kinds(exploration), strict=True):
        if kind == "m":
            continue
        tokens = [t for t, (a, b) in enumerate(exploration.response_offsets) if start <= max(a, b - 1) < end]
        if tokens and (not spans or tokens[0] > spans[-1][1]):
            spans.append((tokens[0], tokens[-1]))
    return spans


def span_text(exploration: Exploration, span: Span) -> str:
    return exploration.text[
        exploration.response_offsets[span[0]][0] : exploration.response_offsets[span[1]][1]
    ]


def span_name(exploration: Exploration, span: Span | None, length: int = 60) -> str:
    if span is None:
        return whole_name(exploration)
    sentences = sentence_spans(exploration)
    if span in sentences:
        kind = f"sentence {sentences.index(span) + 1}"
    else:
        kind = f"token {span[0]}" if span[0] == span[1] else f"tokens {span[0]} to {span[1]}"
    return f"{kind}: “{short(span_text(exploration, span), length)}”"


def source_name(exploration: Exploration, source: int | None, length: int = 40) -> str:
    if source is None:
        return "all sources together"
    found = exploration.sources[SOURCES][source]
    name = document_name(exploration.task, found.document, 24)
    name = name or f"Sentence {source + 1}"  # as the ranked list says it; [2] is something else there
    return f"{name}{on_page(exploration, found)}: “{short(found.text, length)}”"


def on_page(exploration: Exploration, source: Source) -> str:
    """What names the page of a source behind its name, as in ", p. 2"; "" where there are no pages."""
    page = page_of(source, exploration)
    return f", p. {page}" if page is not None else ""


def short(text: str, length: int = 60) -> str:
    """One line of at most `length` characters, none of which turns the direction of the others."""
    return plain(text, length)
