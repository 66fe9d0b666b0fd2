"""The fields of the form for a new run."""

from __future__ import annotations

from at2_core.runs import Settings
from pages.ui import train_runs
from pages.ui.draft import HUB, PATH, RANGES, UPLOAD, Draft, fields_of_data

ROLES = ("query", "context", "documents", "response", "id", "origin")
GRANULARITIES = ("token", "word", "sentence")
_USUAL = Settings()
FORM = Draft(
    "train",
    train_runs.root,
    ROLES,
    fields={
        **fields_of_data(ROLES),
        "ablations": _USUAL.num_ablations,
        "new-tokens": _USUAL.max_new_tokens,
        "prompt-tokens": _USUAL.max_prompt_tokens,
        "granularity": _USUAL.granularity,
        "seed": 0,
        "fit-seed": 0,
        "name": "",
        "licence": "",
    },
    ranges={
        **RANGES,
        "ablations": (4, 1024),
        "prompt-tokens": (16, 131_072),
        "fit-seed": RANGES["seed"],
    },
    choices={"kind": (UPLOAD, PATH, HUB), "granularity": GRANULARITIES},
)
