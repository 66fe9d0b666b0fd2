"""An estimator in words: its figures, and the model card that goes with it to the hub.

Whatever comes out of an estimator's metadata may have been written by anybody. Here it becomes plain text: one line,
no control characters; and on the card neither YAML nor Markdown nor HTML.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from .errors import EstimatorFileError
from .estimator import Estimator, save_estimator
from .sources import GRANULARITIES

FILE = "estimator.safetensors"
FIGURES = ("correlation", "correlation_average_attention", "examples_validation", "examples_training")
# The hub's identifiers of the licences that data sets have most often.
LICENCES = {"apache-2.0", "mit", "cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
            "cc-by-nc-sa-4.0", "odc-by", "odbl", "gpl-3.0", "bsd-3-clause"}  # fmt: skip
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


def plain(text: object, length: int = 200) -> str:
    """One line of printable text: what a terminal and a page can show as it stands."""
    printable = "".join(c if c.isprintable() else " " for c in str(text)[: 4 * length])
    line = " ".join(printable.split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def figures(estimator: Estimator) -> dict[str, float]:
    """The validation figures that the estimator carries, by name; only numbers."""
    found = estimator.metadata.get("validation")
    found = found if isinstance(found, dict) else {}
    return {key: found[key] for key in FIGURES if _is_number(found.get(key))}


def quality(estimator: Estimator) -> str:
    """The figures as a sentence; without them, that there are none."""
    known = figures(estimator)
    if "correlation" not in known:
        return "No validation figures: how good it is has to be measured (python -m at2_core evaluate)."
    said = f"Correlation with real ablations{_of_what(estimator)} {known['correlation']:.3f}"
    if "examples_validation" in known:
        held, learned = known["examples_validation"], known.get("examples_training", 0)
        whole = estimator.metadata.get("examples")
        apart = whole is None or not _is_number(whole) or held + learned <= whole
        said += f" on {held:,.0f} {'held-out ' if apart else ''}example{'' if held == 1 else 's'}"
        said += "" if apart else " that it was learned from"
        said += f", the mean of {splits} such splits" if apart and (splits := _splits(estimator)) > 1 else ""
    if "correlation_average_attention" in known:
        said += f"; average attention reaches {known['correlation_average_attention']:.3f}"
    return said + "."


def _of_what(estimator: Estimator) -> str:
    """What was removed, in words: figures for other things cannot be compared."""
    settings = estimator.metadata.get("settings")
    what = settings.get("granularity") if isinstance(settings, dict) else None
    return f" of {what}s" if isinstance(what, str) and what in GRANULARITIES else ""


def _splits(estimator: Estimator) -> int:
    """Over how many ways to hold examples out the figures are means; 0 where it is not told."""
    found = estimator.metadata.get("validation")
    told = found.get("stability") if isinstance(found, dict) else None
    count = told.get("splits") if isinstance(told, dict) else None
    return count if type(count) is int and 0 < count < 1000 else 0


def data_of(estimator: Estimator) -> tuple[str, str]:
    """(name, licence) of the data that theta was learned from, each "" where it is not told."""
    found = estimator.metadata.get("data")
    found = found if isinstance(found, dict) else {}
    name, licence = (found.get(key) or "" for key in ("name", "licence"))
    return plain(name), plain(licence, 80)


def export_to_hub_folder(estimator: Estimator, folder: str | Path) -> Path:
    """Write the estimator and its model card into a folder, ready to be uploaded; return the folder."""
    folder = Path(folder)
    card = folder / "README.md"
    if (
        card.is_file()
        and "library_name: at2-explorer" not in card.read_text(encoding="utf-8", errors="replace")[:4000]
    ):
        raise EstimatorFileError(
            f"{card} is no model card of ours and stays as it is; choose another folder."
        )
    save_estimator(estimator, folder / FILE)
    card.write_text(model_card(estimator), encoding="utf-8")
    return folder


def model_card(estimator: Estimator) -> str:
    """Markdown with a YAML front matter. Text of the metadata appears in the body alone, and as text."""
    (layers, heads), (data, licence) = estimator.theta.shape, data_of(estimator)
    fits = estimator.metadata.get("settings")
    rows = {
        "model": f"{estimator.model}, weights {estimator.model_fingerprint}"
        if estimator.model_fingerprint
        else estimator.model,
        "θ": f"float32, {layers} layers × {heads} heads, fingerprint {estimator.fingerprint}"
        + (", with the standard deviation of each coefficient" if estimator.deviation is not None else "")
        + (", and as many coefficients of what heads write" if estimator.direct is not None else ""),
        "data": data or "not told",
        "licence of the data": licence or "not told",
        "validation": quality(estimator),
        "examples": estimator.metadata.get("examples", "not told"),
        "method": estimator.metadata.get("method", "not told"),
        "date": estimator.metadata.get("date", "not told"),
    }
    if isinstance(fits, dict):
        rows |= {f"setting {key}": value for key, value in list(fits.items())[:30]}
    table = "\n".join(f"| {_as_text(key)} | {_as_text(value)} |" for key, value in rows.items())
    return f"""{_front_matter(estimator, licence)}
# {_as_text(estimator.name)}

One coefficient θ per attention head of a language model: with it, attention tells which parts of its prompt the model
used for each part of its response (AT2, [arXiv 2504.13752](https://arxiv.org/abs/2504.13752)). These are not the model's
weights; the model is needed beside it.

| | |
| --- | --- |
{table}

## Use

```python
import at2_core as at2

lm = at2.load_model("...")  # the model named above
estimator = at2.load_estimator("{FILE}")
gen = at2.generate(lm, at2.ContextTask(context="...", query="..."))
attribution = at2.attribute(lm, gen, estimator, granularity="sentence")
```

In the AT2 Explorer, import the file or this repository on the page *Estimators*, or in a shell:
`python -m at2_core estimators import {FILE}`.
"""


def _front_matter(estimator: Estimator, licence: str) -> str:
    """Only words of ours, and what has the exact form of a hub's licence or id."""
    known = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-")
    lines = [f"license: {known}" if known in LICENCES else f"license: {'other' if licence else 'unknown'}"]
    if licence and known not in LICENCES:
        lines.append(f'license_name: "{known[:60] or "see-below"}"')
    if HUB_ID.fullmatch(estimator.model):
        lines.append(f'base_model: "{estimator.model}"')
    tags = "\n".join(f"- {tag}" for tag in ("at2", "attribution", "attention", "interpretability"))
    return "\n".join(["---", *lines, "library_name: at2-explorer", "tags:", tags, "---", ""])


def _as_text(value: object) -> str:
    """Text that no renderer of Markdown takes for anything else: every sign with a meaning as a character reference."""
    marked = re.sub(r"[^\w\s.,;()=%×–+'/-]", lambda m: f"&#{ord(m[0])};", plain(value, 300))
    marked = marked.replace("_", "&#95;")
    return re.sub(r"(?i)www\.", "www&#46;", marked)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond any float
        return False
