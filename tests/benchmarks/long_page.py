"""A page with nothing but the two texts, of a size given in the address (`?prompt=8000&response=200`), to time hovering."""

from __future__ import annotations

import numpy as np
import streamlit as st

from at2_core.exploration import Exploration
from at2_core.prompts import ContextTask, Part, Prompt
from at2_core.sources import GRANULARITIES, Source, cut
from pages.ui.token_heatmap import ViewState, token_heatmap

st.set_page_config(layout="wide")


@st.cache_resource
def exploration(prompt_tokens: int, response_tokens: int) -> Exploration:
    """Words of random length, one token each, with scores of which one in twenty is large, as real ones are."""
    rng = np.random.default_rng(0)
    text, offsets = _words(rng, prompt_tokens)
    response, response_offsets = _words(rng, response_tokens)
    prompt = Prompt(
        text, tuple(range(prompt_tokens)), offsets, (Part("context", 0, len(text), 0, prompt_tokens, 0),)
    )
    scores = rng.random((response_tokens, prompt_tokens), dtype=np.float32) ** 20
    sources: dict[str, tuple[Source, ...]] = {g: tuple(cut(prompt, g)) for g in GRANULARITIES}
    return Exploration(
        title="", note="", model="none", estimator="none", estimator_fingerprint="", task=ContextTask(context=text, query="?"),
        prompt=prompt, text=response, response_ids=tuple(range(response_tokens)), response_offsets=response_offsets,
        logprobs=np.zeros(response_tokens, np.float32), stop_reason="end", sources=sources,
        sentences=tuple((s.start, s.end) for s in cut(Prompt(response, tuple(range(response_tokens)), response_offsets,
                        (Part("context", 0, len(response), 0, response_tokens, 0),)), "sentence")),
        scores={"at2": scores}, settings={},
    )  # fmt: skip


def _words(rng: np.random.Generator, count: int) -> tuple[str, tuple[tuple[int, int], ...]]:
    words = ["".join(rng.choice(list("abcdefghijklmnop"), rng.integers(2, 9))) for _ in range(count)]
    words = [word + (". " if i % 18 == 17 else " ") for i, word in enumerate(words)]
    ends = np.cumsum([len(word) for word in words])
    return "".join(words), tuple(
        (int(end - len(word)), int(end)) for word, end in zip(words, ends, strict=True)
    )


size = int(st.query_params.get("prompt", "2000")), int(st.query_params.get("response", "200"))
state = ViewState(granularity=st.query_params.get("granularity", "token"), unit="token")
token_heatmap(exploration(*size), initial=state, key="long")
