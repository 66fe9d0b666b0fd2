"""theta from the `score_estimator.pt` of the published AT2 code. The file is read by `torch_archive`, which runs nothing."""

from __future__ import annotations

import hashlib
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .errors import EstimatorFileError
from .estimator import MAX_COEFFICIENTS, Estimator
from .torch_archive import Refused, Tensor, a, array, read_archive, refuse

FILE = "score_estimator.pt"
NAMELESS = "a model that its file does not name"


def import_reference(path: str | Path, *, name: str = "", model: str = "") -> Estimator:
    """The estimator in a `score_estimator.pt`: theta float32 (layers, heads), as it is in the file.

    name, model: what the file does not say. Raises EstimatorFileError in one sentence for everything else than a linear
    estimator over attention, as the published code saves it. The file's features are layer * heads + head.
    """
    path = Path(path)
    try:
        saved, arrays = read_archive(path)
        theta, features = _theta(saved, arrays)
        kind, kwargs = features.get("model_type"), a(dict, saved["kwargs"])
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except Refused as refused:
        raise EstimatorFileError(
            f"{path.name} was not imported, and nothing in it was run: {refused}."
        ) from None
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, TypeError, KeyError, IndexError,
            OverflowError, struct.error, MemoryError) as error:  # fmt: skip
        raise EstimatorFileError(
            f"{path.name} was not imported, and nothing in it was run: it is damaged, or no {FILE} of the published AT2 code."
        ) from error
    metadata = {
        "method": "AT2 (arXiv 2504.13752), published code",
        "imported": {
            "from": name or path.name,
            "file": FILE,
            "sha256": sha256,
            "model_type": kind[:100] if isinstance(kind, str) else None,
            "note": "The file carries neither validation figures nor a description of its data.",
        },
        "settings": {
            k: kwargs[k] for k in ("normalize", "non_negative", "bias") if type(kwargs.get(k)) is bool
        },
    }
    return Estimator(theta, name or path.stem, model or NAMELESS, metadata=metadata)


def _theta(saved: Mapping[str, Any], arrays: Mapping[str, bytes]) -> tuple[np.ndarray, Mapping[str, Any]]:
    """(theta float32 (layers, heads), what the file says of its features)."""
    extractor = a(dict, saved["feature_extractor"])
    kinds = saved["class"], extractor["class"]
    if kinds != ("LinearScoreEstimator", "AttentionFeatureExtractor"):
        told = " over ".join(repr(kind[:60]) for kind in kinds if isinstance(kind, str)) or "something else"
        refuse(f"it holds {told}, not a linear estimator over attention")
    about = a(dict, extractor["kwargs"])
    layers, heads = about["num_layers"], about["num_heads"]
    if not all(type(n) is int and n > 0 for n in (layers, heads)) or layers * heads > MAX_COEFFICIENTS:
        refuse("its numbers of layers and heads make no sense")
    state = a(dict, saved["state_dict"])
    if strangers := sorted(state.keys() - {"linear.weight", "linear.bias"}):
        refuse(f"it has a tensor {strangers[0][:60]!r} that a linear estimator does not have")
    weight = a(Tensor, state["linear.weight"])
    if weight.size != (1, layers * heads):
        refuse(
            f"its theta has shape {weight.size[:4]}, but {layers} layers of {heads} heads need (1, {layers * heads})"
        )
    values = array(weight, arrays)
    if "linear.bias" in state and (bias := array(a(Tensor, state["linear.bias"]), arrays)).any():
        refuse(f"it has a bias ({bias[0]:g}), which coefficients of heads cannot express")
    return values.reshape(layers, heads), about
