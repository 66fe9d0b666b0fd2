"""The scores as files: a table of sources for a spreadsheet, and everything for a program."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from at2_core.exploration import Exploration
from at2_core.sources import Source, page_of
from pages.ui.component import Span
from pages.ui.token_heatmap import ViewState

COLUMNS = ("rank", "score", "share", "role", "document", "title", "page", "start", "end", "text")
LEARNED = ("at2", "former")  # methods whose scores come from an estimator
Head = tuple[int, int]  # layer, head


def target_scores(
    exploration: Exploration, scores: np.ndarray, view: ViewState, own: np.ndarray | None = None
) -> np.ndarray:
    """float64 (S,): score of each source of the view's granularity and scope for the pinned target, or for the exploration's
    own. own (T, T): scores of the response's tokens; a target is no source of its own."""
    target = exploration.rows(view.pin)
    rows = _with_own(exploration, scores, own)[target].astype(np.float64)
    sources = exploration.sources_in(view.granularity, view.scope)
    if not rows.size:
        return np.zeros(len(sources))
    mean = rows.mean(axis=0)
    mean[exploration.prompt.n + target] = 0
    return np.array([mean[s.token_start : s.token_end].sum() for s in sources])


def _with_own(exploration: Exploration, scores: np.ndarray, own: np.ndarray | None) -> np.ndarray:
    """(T, n + T); zeros where nobody knows the response's own scores."""
    count = len(exploration.response_ids)
    return np.hstack([scores, np.zeros((count, count), np.float32) if own is None else own])


def target_runs(exploration: Exploration, view: ViewState) -> tuple[Span, ...]:
    """Response tokens [first, last] of the target, as runs in order."""
    return (view.pin,) if view.pin else exploration.target


def shares(values: np.ndarray) -> np.ndarray:
    """Each score over the sum of the absolute scores."""
    total = np.abs(values).sum()
    return values / total if total else values


def origin(exploration: Exploration, view: ViewState, method: str, head: Head | None) -> dict[str, Any]:
    """What the scores are of; None where it does not apply. Response tokens are counted from 0, both inclusive; target_tokens
    says which of them, where a thought stands between two answers."""
    layer, number = head or (None, None)
    learned = method in LEARNED
    runs = target_runs(exploration, view)
    first, last = (runs[0][0], runs[-1][1]) if runs else (0, -1)
    return {
        "method": method,
        "layer": layer,
        "head": number,
        "estimator": exploration.estimator if learned else None,
        "estimator_fingerprint": exploration.estimator_fingerprint if learned else None,
        "granularity": view.granularity,
        "scope": view.scope,
        "first_token": first,
        "last_token": last,
        "target_tokens": ", ".join(f"{a} to {b}" for a, b in runs),
    }


def ranked_table(
    exploration: Exploration,
    scores: np.ndarray,
    view: ViewState,
    method: str = "at2",
    head: Head | None = None,
    own: np.ndarray | None = None,
) -> str:
    """CSV: the sources of the view's granularity and scope, strongest first, each row with what the scores are of.

    Positions are characters of the prompt; a source in the response counts on from there.
    """
    values = target_scores(exploration, scores, view, own)
    about = origin(exploration, view, method, head)
    same = [_cell(value) if isinstance(value, str) else value for value in about.values()]
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow([*COLUMNS, *about])
    for rank, index in enumerate(np.argsort(-values, kind="stable"), start=1):
        source = exploration.sources_in(view.granularity, view.scope)[index]
        numbers = (rank, repr(float(values[index])), repr(float(shares(values)[index])), source.role)
        numbers = (*numbers, _document(source))
        page = _page(exploration, view, source)
        place = (_cell(_title(exploration, source)), page, source.start, source.end, _cell(source.text))
        table.writerow([*numbers, *place, *same])
    return "\ufeff" + out.getvalue()  # the mark tells spreadsheets that it is UTF-8


def everything(
    exploration: Exploration,
    scores: np.ndarray,
    view: ViewState,
    method: str,
    head: Head | None = None,
    own: np.ndarray | None = None,
) -> str:
    """JSON: texts, tokens, sources, and the scores of every source for every response token, (response, sources)."""
    sources = exploration.sources_in(view.granularity, view.scope)
    whole = _with_own(exploration, scores, own)
    per_source = [whole[:, s.token_start : s.token_end].sum(axis=1, dtype=np.float64) for s in sources]
    of = origin(exploration, view, method, head)
    about: dict[str, Any] = {
        "model": exploration.model,
        "method": method,
        "layer": of["layer"],
        "head": of["head"],
        "estimator": {"name": of["estimator"], "fingerprint": of["estimator_fingerprint"]},
        "granularity": view.granularity,
        "scope": view.scope,
        "target": {
            "first_token": of["first_token"],
            "last_token": of["last_token"],
            "runs": [{"first_token": a, "last_token": b} for a, b in target_runs(exploration, view)],
        },
        "prompt": exploration.prompt.text,
        "response": exploration.text,
        "response_tokens": [{"start": a, "end": b} for a, b in exploration.response_offsets],
        "log_probabilities": np.asarray(exploration.logprobs, float).tolist(),
        "sources": [_source(exploration, view, s) for s in sources],
        "target_scores": target_scores(exploration, scores, view, own).tolist(),
        "scores": np.stack(per_source, axis=1).tolist() if per_source else [],
    }
    return json.dumps(about, ensure_ascii=False, indent=1)


def _source(exploration: Exploration, view: ViewState, source: Source) -> dict[str, Any]:
    return {
        "role": source.role,
        "turn": source.turn,
        "document": _document(source),
        "title": _title(exploration, source),
        "page": _page(exploration, view, source),
        "start": source.start,
        "end": source.end,
        "text": source.text,
    }


def _document(source: Source) -> int | None:
    """Its document's number, counted from 1; None of what is in none."""
    return source.document + 1 if source.role in ("context", "title") else None


def _title(exploration: Exploration, source: Source) -> str:
    documents: Sequence[Any] = exploration.task.documents if _document(source) else ()
    return documents[source.document].title if source.document < len(documents) else ""


def _page(exploration: Exploration, view: ViewState, source: Source) -> int | None:
    """The page it begins on; a whole document is on none."""
    return None if view.granularity == "document" else page_of(source, exploration)


def _cell(text: str) -> str:
    """A spreadsheet takes text that begins like this for a formula; an apostrophe keeps it text."""
    return "'" + text if text.lstrip()[:1] in ("=", "+", "-", "@") or text[:1] in ("\t", "\r") else text
