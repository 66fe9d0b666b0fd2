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
from pages.ui import session
from pages.ui.head_address import SOURCES
from pages.ui.head_state import Head

Span = tuple[int, int]  # first and last response token


@st.cache_resource(max_entries=24, show_spinner=False)
def attention(example: str, head: Head, _exploration: Exploration, _lm) -> np.ndarray:
    """float32 (T, n): one head's attention from the response to the prompt."""
    from at2_core import head_attention

    return head_attention(_lm, session.generation_of(_exploration), *head)


@st.cache_resource(max_entries=16, show_spinner=False)
def source_attention(example: str, span: Span | None, _exploration: Exploration, _lm) -> np.ndarray:
    """float32 (layers, heads, S): every head's attention to each source, mean over the span's tokens."""
    from at2_core.attribution import source_features

    first, last = span or (0, len(_exploration.response_ids) - 1)
    sources = _exploration.sources[SOURCES]
    generation = session.generation_of(_exploration)
    return source_features(_lm, generation, sources, [slice(first, last + 1)])[:, :, 0].cpu().numpy()


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
    exploration: Exploration, lm, theta: np.ndarray, span: Span | None, source: int | None
) -> np.ndarray:
    """(layers, heads): coefficient times attention to the source, or to all of them; mean over the span's tokens."""
    features = source_attention(exploration.id, span, exploration, lm)
    return theta * (features.sum(axis=2) if source is None else features[:, :, source])


def sentence_spans(exploration: Exploration) -> list[Span]:
    """Response tokens of each sentence; a token belongs to the sentence of its last character, for a space that
    begins a word is tokenized with it."""
    spans = []
    for start, end in exploration.sentences:
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
        return "the whole response"
    sentences = sentence_spans(exploration)
    if span in sentences:
        kind = f"sentence {sentences.index(span) + 1}"
    else:
        kind = f"token {span[0]}" if span[0] == span[1] else f"tokens {span[0]} to {span[1]}"
    return f"{kind}: “{short(span_text(exploration, span), length)}”"


def source_name(exploration: Exploration, source: int | None, length: int = 40) -> str:
    if source is None:
        return "all sources together"
    found, documents = exploration.sources[SOURCES][source], exploration.task.documents
    name = f"Sentence {source + 1}"  # as the ranked list on Explore says it; [2] is something else there
    if len(documents) > 1:
        title = short(documents[found.document].title, 24)
        name = f"Doc {found.document + 1}" + (f" · {title}" if title else "")
    return f"{name}: “{short(found.text, length)}”"


def short(text: str, length: int = 60) -> str:
    """One line of at most `length` characters, none of which turns the direction of the others."""
    return plain(text, length)
