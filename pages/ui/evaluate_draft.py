"""The fields of the form for a new evaluation."""

from __future__ import annotations

from at2_core.evaluation_runs import METHODS, EvaluationRequest
from at2_core.sources import GRANULARITIES
from pages.ui import evaluate_runs
from pages.ui.draft import HUB, PATH, RANGES, UPLOAD, Draft, fields_of_data
from pages.ui.evaluate_methods import OFFERED

_ROLES = ("query", "context", "documents", "response", "id", "origin", "answer", "truth")
_USUAL = EvaluationRequest("", "")
FORM = Draft(
    "evaluate",
    evaluate_runs.root,
    _ROLES,
    fields={
        **fields_of_data(_ROLES),
        "methods": list(METHODS),
        "estimators": [],  # fingerprints; none: the model's own
        "granularity": _USUAL.granularity,
        "ablations": _USUAL.ablations,
        "new-tokens": _USUAL.max_new_tokens,
        "min-sources": _USUAL.min_sources,
        "top-k": ", ".join(map(str, _USUAL.top_k)),
        "prompt-tokens": 0,  # 0: as many as the model takes
        "seed": _USUAL.seed,
        "not-learned-in": [],  # folders of training runs
        "name": "",
    },
    ranges={
        **RANGES,
        "ablations": (0, 1024),
        "min-sources": (2, 10_000),
        "prompt-tokens": (0, 131_072),
    },
    choices={"kind": (UPLOAD, PATH, HUB), "granularity": GRANULARITIES, "methods": OFFERED},
)
