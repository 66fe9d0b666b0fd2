"""The fields of the form for a new evaluation."""

from __future__ import annotations

from at2_core.evaluation_runs import METHODS, EvaluationRequest
from at2_core.sources import GRANULARITIES
from pages.ui import evaluate_runs
from pages.ui.draft import HUB, MODEL, PATH, UPLOAD, Draft
from pages.ui.evaluate_methods import OFFERED

_ROLES = ("query", "context", "documents", "response", "id", "origin", "answer", "truth")
_USUAL = EvaluationRequest("", "")
FORM = Draft(
    "evaluate",
    evaluate_runs.root,
    _ROLES,
    fields={
        MODEL: "",
        "kind": UPLOAD,
        "path": "",
        "hub": "",
        "upload": "",  # name of the file in the draft's folder
        "columns-of": "",  # what the columns below were chosen for
        **{f"column-{role}": "" for role in _ROLES},
        "examples": 0,  # 0 until there is data
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
        "examples": (1, 10**7),
        "ablations": (0, 1024),
        "new-tokens": (1, 1024),
        "min-sources": (2, 10_000),
        "prompt-tokens": (0, 131_072),
        "seed": (0, 2**31 - 1),
    },
    choices={"kind": (UPLOAD, PATH, HUB), "granularity": GRANULARITIES, "methods": OFFERED},
)
