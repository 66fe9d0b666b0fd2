"""The fields of the form for a new run."""

from __future__ import annotations

from at2_core.runs import Settings
from pages.ui import train_runs
from pages.ui.draft import HUB, MODEL, PATH, UPLOAD, Draft

ROLES = ("query", "context", "documents", "response", "id", "origin")
GRANULARITIES = ("token", "word", "sentence")
_USUAL = Settings()
FORM = Draft(
    "train",
    train_runs.root,
    ROLES,
    fields={
        MODEL: "",
        "kind": UPLOAD,
        "path": "",
        "hub": "",
        "upload": "",  # name of the file in the draft's folder
        "columns-of": "",  # what the columns below were chosen for
        **{f"column-{role}": "" for role in ROLES},
        "examples": 0,  # 0 until there is data
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
        "examples": (1, 10**7),
        "ablations": (4, 1024),
        "new-tokens": (1, 1024),
        "prompt-tokens": (16, 131_072),
        "seed": (0, 2**31 - 1),
        "fit-seed": (0, 2**31 - 1),
    },
    choices={"kind": (UPLOAD, PATH, HUB), "granularity": GRANULARITIES},
)
