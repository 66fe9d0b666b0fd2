"""The scores as files: a table of sources for a spreadsheet, and everything for a program."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from at2_core.exploration import Exploration
from at2_core.sources import Source
from pages.ui.token_heatmap import ViewState

COLUMNS = ("rank", "score", "share", "document", "title", "start", "end", "text")
LEARNED = ("at2", "former")  # methods whose scores come from an estimator
Head = tuple[int, int]  # layer, head


def target_scores(exploration: Exploration, scores: np.ndarray, view: ViewState) -> np.ndarray:
    """float64 (S,): score of each source of the view's granularity for the pinned target, or for the whole response."""
    first, last = view.pin or (0, len(exploration.response_ids) - 1)
    rows = scores[first : last + 1].astype(np.float64)
    sources = exploration.sources[view.granularity]
    if not rows.size:
        return np.zeros(len(sources))
    mean = rows.mean(axis=0)
    return np.array([mean[s.token_start : s.token_end].sum() for s in sources])


def shares(values: np.ndarray) -> np.ndarray:
    """Each score over the sum of the absolute scores."""
    total = np.abs(values).sum()
    return values / total if total else values


def origin(exploration: Exploration, view: ViewState, method: str, head: Head | None) -> dict[str, Any]:
    """What the scores are of; None where it does not apply. Response tokens are counted from 0, both inclusive."""
    layer, number = head or (None, None)
    learned = method in LEARNED
    first, last = view.pin or (0, len(exploration.response_ids) - 1)
    return {
        "method": method,
        "layer": layer,
        "head": number,
        "estimator": exploration.estimator if learned else None,
        "estimator_fingerprint": exploration.estimator_fingerprint if learned else None,
        "granularity": view.granularity,
        "first_token": first,
        "last_token": last,
    }


def ranked_table(
    exploration: Exploration,
    scores: np.ndarray,
    view: ViewState,
    method: str = "at2",
    head: Head | None = None,
) -> str:
    """CSV: the sources of the view's granularity, strongest first, each row with what the scores are of.

    Positions are characters of the prompt.
    """
    values = target_scores(exploration, scores, view)
    about = origin(exploration, view, method, head)
    same = [_cell(value) if isinstance(value, str) else value for value in about.values()]
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow([*COLUMNS, *about])
    for rank, index in enumerate(np.argsort(-values, kind="stable"), start=1):
        source = exploration.sources[view.granularity][index]
        numbers = (rank, repr(float(values[index])), repr(float(shares(values)[index])), source.document + 1)
        place = (_cell(_title(exploration, source)), source.start, source.end, _cell(source.text))
        table.writerow([*numbers, *place, *same])
    return "\ufeff" + out.getvalue()  # the mark tells spreadsheets that it is UTF-8


def everything(
    exploration: Exploration, scores: np.ndarray, view: ViewState, method: str, head: Head | None = None
) -> str:
    """JSON: texts, tokens, sources, and the scores of every source for every response token, (response, sources)."""
    sources = exploration.sources[view.granularity]
    per_source = [scores[:, s.token_start : s.token_end].sum(axis=1, dtype=np.float64) for s in sources]
    of = origin(exploration, view, method, head)
    about: dict[str, Any] = {
        "model": exploration.model,
        "method": method,
        "layer": of["layer"],
        "head": of["head"],
        "estimator": {"name": of["estimator"], "fingerprint": of["estimator_fingerprint"]},
        "granularity": view.granularity,
        "target": {"first_token": of["first_token"], "last_token": of["last_token"]},
        "prompt": exploration.prompt.text,
        "response": exploration.text,
        "response_tokens": [{"start": a, "end": b} for a, b in exploration.response_offsets],
        "log_probabilities": np.asarray(exploration.logprobs, float).tolist(),
        "sources": [_source(exploration, s) for s in sources],
        "target_scores": target_scores(exploration, scores, view).tolist(),
        "scores": np.stack(per_source, axis=1).tolist() if per_source else [],
    }
    return json.dumps(about, ensure_ascii=False, indent=1)


def _source(exploration: Exploration, source: Source) -> dict[str, Any]:
    return {
        "document": source.document + 1,
        "title": _title(exploration, source),
        "start": source.start,
        "end": source.end,
        "text": source.text,
    }


def _title(exploration: Exploration, source: Source) -> str:
    documents: Sequence[Any] = exploration.task.documents
    return documents[source.document].title if source.document < len(documents) else ""


def _cell(text: str) -> str:
    """A spreadsheet takes text that begins like this for a formula; an apostrophe keeps it text."""
    return "'" + text if text.lstrip()[:1] in ("=", "+", "-", "@") or text[:1] in ("\t", "\r") else text
