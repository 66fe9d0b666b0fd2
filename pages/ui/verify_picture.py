"""What a verification shows: one component, drawn in the browser from sentences and numbers that are made here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from at2_core.card import plain
from at2_core.exploration import Exploration
from pages.ui import verify_jobs, verify_words
from pages.ui.component import asset, script
from pages.ui.export import shares
from pages.ui.head_reading import on_page
from pages.ui.token_heatmap import document_name
from pages.ui.verify_jobs import Job, Subject
from pages.ui.verify_words import GONE, NEW, Word, nats, percent, these

if TYPE_CHECKING:
    from at2_core.verification import Check

_mount = st.components.v2.component(
    "at2_verify",
    css=asset("verify.css"),
    js=script("mount", "verify"),
)
KEY = "verify-board"
ROLES = {  # of sources outside the context
    "title": "Title",
    "query": "Query",
    "system": "System message",
    "user": "Earlier, user",
    "assistant": "Earlier, assistant",
    "history": "Earlier turn",
}
QUOTE = 140  # characters of a source
NAT = "A drop of 1 nat makes words 2.7 times less likely, one of 5 nats 150 times."
RANKED = (
    "The correlation (Spearman, 1 at best) says whether the scores put them in the order that was measured. What shuffled "
    "scores reach is chance: where every source helps, how many stay already tells something."
)
MARKS = "Struck through: no longer said. Marked: said instead."


def picture(
    exploration: Exploration,
    subject: Subject,
    k: int,
    scores: np.ndarray,
    removal: Job | None,
    checked: Job | None,
    *,
    lines: list[dict[str, Any]],
    hint: str,
    on_stop: Callable[[str], None],
) -> None:
    """Draw what is at work (lines), what is taken away and what that does, and what a check found. scores: (S,).

    hint: in place of an answer. on_stop gets the name of the line whose button was pressed.
    """

    def stop() -> None:
        name = st.session_state[KEY].get("stop")
        if isinstance(name, str):
            on_stop(name)

    data = {
        "lines": lines,
        "removal": _removal(exploration, subject, k, scores, removal, checked, hint),
        "check": _check(subject, len(scores), checked.check)
        if checked is not None and checked.check
        else None,
    }
    _mount(key=KEY, data=data, on_stop_change=stop)


def _removal(
    exploration: Exploration,
    subject: Subject,
    k: int,
    scores: np.ndarray,
    job: Job | None,
    checked: Job | None,
    hint: str,
) -> dict[str, Any]:
    found = job.verified if job is not None else None
    chosen = found.top.removed if found else np.argsort(-scores, kind="stable")[:k].tolist()
    removed = sorted(chosen, key=lambda s: -scores[s])
    return {
        "removed": _removed(exploration, subject, scores, removed, taken=found is not None),
        "drop": _drop(exploration, subject, scores, job, checked) if job is not None and found else None,
        "answers": _answers(exploration, subject, job) if job is not None and job.after is not None else None,
        "hint": hint,
    }


def _check(subject: Subject, sources: int, found: Check) -> dict[str, Any]:
    """The correlation, what it means, and every ablation as a point."""
    points = np.column_stack([found.predicted, found.outcomes]).astype(float)
    points = points[np.isfinite(points).all(axis=1)]
    many = f"{subject.granularity}s"
    meaning = verify_words.check_meaning(
        found.lds,
        chance=found.chance,
        chance_high=found.chance_high,
        ablations=len(found.outcomes),
        different=len(np.unique(points, axis=0)),
        sources=sources,
        granularity=subject.granularity,
        constant="scores" if np.ptp(found.predicted) == 0 else "outcomes",
    )
    return {
        "headline": verify_words.check_headline(found.lds),
        "meaning": meaning,
        "about": f"Each point is one of {len(points)} ablations: half of the {many}, drawn by chance, removed. {RANKED}",
        "points": points.tolist(),
        "across": "predicted: scores of the sources that stayed, summed",
        "up": "measured: log-odds",
    }


def who(exploration: Exploration, subject: Subject) -> str:
    """The target as the subject of a sentence."""
    if is_pinned(exploration, subject):
        return "the pinned words are"
    return f"the {exploration.target_kind} is"


def is_pinned(exploration: Exploration, subject: Subject) -> bool:
    return subject.runs != exploration.target


# ------------------------------------------------------------------------------------------------- the parts


def _removed(
    exploration: Exploration, subject: Subject, scores: np.ndarray, removed: Sequence[int], *, taken: bool
) -> dict[str, Any]:
    part = shares(scores)
    measure = "attention" if subject.scores_of.startswith("head") else "attribution"
    items = [
        {
            "name": _name(exploration, subject, s),
            "share": percent(part[s]),
            "text": plain(_text(exploration, subject, s), QUOTE),
        }
        for s in removed
    ]
    return {
        "title": "Taken away" if taken else "To be taken away",
        "note": f"{percent(sum(abs(part[s]) for s in removed))} of the {measure}",
        "items": items,
    }


def _name(exploration: Exploration, subject: Subject, number: int) -> str:
    source = exploration.sources_in(subject.granularity, subject.scope)[number]
    if source.role != "context":
        return f"{ROLES[source.role]} · {subject.granularity}"
    named = document_name(exploration.task, source.document)
    named = named or f"{subject.granularity.capitalize()} {number + 1}"
    return named if subject.granularity == "document" else named + on_page(exploration, source)


def _text(exploration: Exploration, subject: Subject, number: int) -> str:
    return exploration.sources_in(subject.granularity, subject.scope)[number].text


def _drop(
    exploration: Exploration, subject: Subject, scores: np.ndarray, job: Job, checked: Job | None
) -> dict[str, Any]:
    top, draws = job.verified.top, [r.drop for r in job.verified.random]
    rows: list[dict[str, Any]] = [
        {"kind": "measured", "label": "Measured drop", "value": top.drop, "text": nats(top.drop)},
    ]
    if checked is not None and checked.check is not None:
        predicted = checked.check.nats_per_score * float(scores[list(top.removed)].sum())
        rows.append(
            {
                "kind": "predicted",
                "label": "Predicted by the scores",
                "value": predicted,
                "text": nats(predicted),
            }
        )
    mean = float(np.mean(draws))
    spread = f"{nats(mean)} ({_number(min(draws))} to {_number(max(draws))})"
    label = f"{job.k} random {subject.granularity}{'s' if job.k > 1 else ''}, mean of {len(draws)}"
    rows.append({"kind": "random", "label": label, "value": mean, "text": spread, "draws": draws})
    note = NAT
    shared = sum(bool(set(r.removed) & set(top.removed)) for r in job.verified.random)
    if shared:
        same = "took it too" if job.k == 1 else "took some of them too"
        note += f" {shared} of the {len(draws)} random draws (circles) {same}."
    if len(rows) == 2:
        note += " Check these scores to see the predicted drop beside it."
    without = these(job.k, subject.granularity)
    headline = verify_words.as_likely(top.drop, who(exploration, subject))
    return {"headline": f"Without {without} {headline}.", "bars": rows, "note": note}


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _answers(exploration: Exploration, subject: Subject, job: Job) -> dict[str, Any]:
    without = these(job.k, subject.granularity)
    own = job.before is None  # the response is what the model says by itself
    before = exploration.text if job.before is None else job.before
    before_cut = verify_jobs.was_cut(exploration) if own else job.before_cut
    pin = _pin(exploration, subject) if own else None
    ended = job.state == "done"
    old, new = verify_words.word_changes(
        before, job.after or "", pin=pin, before_cut=before_cut, after_cut=job.after_cut, growing=not ended
    )
    headline = verify_words.verdict(old, new, without) if ended else f"Without {without} the model says…"
    if job.state in ("stopped", "failed"):
        headline = f"Stopped: this is what the model had said without {without}."
    changed = any(w.kind in (GONE, NEW) for w in (*old, *new))
    return {
        "headline": headline,
        "changed": ended and changed,
        "before": {
            "title": "The answer with all sources" if own else "What the model says with all sources",
            "note": f"Stopped at {len(exploration.response_ids) if own else job.max_tokens} tokens."
            if before_cut
            else "",
            "words": _runs(old),
            "streaming": False,
        },
        "after": {
            "title": f"The answer without {without}",
            "note": f"Stopped at {job.tokens} tokens." if ended and job.after_cut else "",
            "words": _runs(new),
            "streaming": job.active,
        },
        "note": _answers_note(own, changed),
    }


def _answers_note(own: bool, changed: bool) -> str:
    notes = [MARKS] if changed else []
    if not own:
        notes.append(
            "The response was given or sampled, so the two likeliest answers are compared: with all sources, and without these."
        )
    return " ".join(notes)


def _pin(exploration: Exploration, subject: Subject) -> tuple[int, int] | None:
    """Characters of the response that are pinned."""
    if not is_pinned(exploration, subject):
        return None
    offsets, ((first, last),) = exploration.response_offsets, subject.runs
    return offsets[first][0], offsets[last][1]


def _runs(words: Sequence[Word]) -> list[list[Any]]:
    """Neighbours with the same fate together: [text, kind, pinned]."""
    runs: list[list[Any]] = []
    for word in words:
        if runs and runs[-1][1:] == [word.kind, word.pinned]:
            runs[-1][0] += word.text
        else:
            runs.append([word.text, word.kind, word.pinned])
    return runs
