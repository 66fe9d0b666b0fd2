"""theta, one coefficient per head, and where it comes from: uniform, bundled, loaded, saved, checked against a model.

A file is one `.safetensors` with the tensor `theta` float32 (layers, heads), perhaps `direct` and `deviation` like it, and
everything else as JSON in its header.
Nothing here needs torch, so that a page can draw theta before the model is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .errors import EstimatorFileError, EstimatorMismatch

if TYPE_CHECKING:
    from .models import LanguageModel

FORMAT = 1
BUNDLED = Path(__file__).resolve().parent.parent / "assets" / "estimators"
MAX_HEADER = 1_000_000  # bytes of metadata; ours is a few kilobytes
MAX_COEFFICIENTS = 1_000_000
MAX_COEFFICIENT = 1e6  # theta is L1-normalised; far larger ones would overflow scores


@dataclass(frozen=True)
class Estimator:
    """theta float32 (layers, heads) and what it was learned from.

    model, model_fingerprint: whose heads these are ("" fingerprint: any model of this shape).
    metadata: plain JSON: data and licence, settings, validation figures, date.
    deviation: standard deviation of each coefficient over bootstrap resamples, float32 (layers, heads), or None.
    direct: coefficients like theta of what each head writes towards the response (`readout`), float32 (layers, heads), or None:
    then attention alone counts, as in the paper.
    """

    theta: np.ndarray
    name: str
    model: str
    model_fingerprint: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    deviation: np.ndarray | None = None
    direct: np.ndarray | None = None

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that change with any coefficient."""
        arrays = (self.theta,) if self.direct is None else (self.theta, self.direct)
        return hashlib.sha256(b"".join(np.ascontiguousarray(a, "<f4").tobytes() for a in arrays)).hexdigest()[
            :12
        ]


def uniform_estimator(lm: LanguageModel) -> Estimator:
    """Average attention: the same coefficient 1 / (layers * heads) for every head."""
    return uniform(lm.num_layers, lm.num_heads, model=lm.name, model_fingerprint=lm.fingerprint)


def uniform(num_layers: int, num_heads: int, *, model: str, model_fingerprint: str = "") -> Estimator:
    """Average attention for a model of this shape, without the model at hand."""
    theta = np.full((num_layers, num_heads), 1 / (num_layers * num_heads), np.float32)
    return Estimator(theta, "average attention", model, model_fingerprint, {"method": "uniform"})


def single_head(estimator: Estimator, layer: int, head: int) -> Estimator:
    """One head alone, with coefficient 1, in the shape of `estimator`."""
    theta = np.zeros_like(estimator.theta)
    theta[layer, head] = 1
    return Estimator(theta, f"layer {layer}, head {head}", estimator.model, estimator.model_fingerprint)


def without_heads(estimator: Estimator, muted: list[tuple[int, int]]) -> Estimator:
    """The estimator with the coefficients of the muted heads set to zero."""
    theta = estimator.theta.copy()
    direct = None if estimator.direct is None else estimator.direct.copy()
    for coefficients in (theta,) if direct is None else (theta, direct):
        for layer, head in muted:
            coefficients[layer, head] = 0
    return Estimator(
        theta,
        f"{estimator.name} without {len(muted)} heads",
        estimator.model,
        estimator.model_fingerprint,
        direct=direct,
    )


def save_estimator(estimator: Estimator, path: str | Path) -> Path:
    """Write one `.safetensors` file, whole or not at all; return its path."""
    path = Path(path)
    about = {
        "format": FORMAT,
        "name": estimator.name,
        "model": estimator.model,
        "model_fingerprint": estimator.model_fingerprint,
        "metadata": dict(estimator.metadata),
    }
    part = path.with_name(path.name + ".part")
    arrays = {"theta": np.ascontiguousarray(estimator.theta, np.float32)}
    for name, like in (("deviation", estimator.deviation), ("direct", estimator.direct)):
        if like is not None:
            arrays[name] = np.ascontiguousarray(like, np.float32)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(arrays, part, {"at2": json.dumps(about)})
        part.replace(path)
    except (OSError, SafetensorError) as error:  # a full disk comes as either
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise EstimatorFileError(
            f"{path} cannot be written ({error}); free some space, or choose another folder."
        ) from error
    return path


def load_estimator(name: str | Path) -> Estimator:
    """The bundled estimator of a model by its catalogue name, or the one in a `.safetensors` file.

    Raises EstimatorFileError when there is none, or when the file is damaged or something else.
    """
    path = Path(name)
    if path.suffix != ".safetensors":
        path = BUNDLED / f"{str(name).replace('/', '--')}.safetensors"
        if not _is_file(path):
            known = ", ".join(sorted(p.stem for p in BUNDLED.glob("*.safetensors"))) or "none"
            raise EstimatorFileError(
                f"There is no estimator called {str(name)!r} (bundled: {known}); give the path of a .safetensors file, or "
                "learn one."
            )
    if not _is_file(path):
        raise EstimatorFileError(
            f"There is no file {str(name)!r}; give the path of an estimator's .safetensors file."
        )
    return _read(path)


def check_estimator(estimator: Estimator, lm: LanguageModel) -> None:
    """Raise EstimatorMismatch unless the estimator belongs to this model."""
    shape = (lm.num_layers, lm.num_heads)
    if estimator.theta.shape != shape:
        raise EstimatorMismatch(
            f"The estimator {estimator.name!r} is for {estimator.model} with {_shape(estimator.theta.shape)}, but "
            f"{lm.name} has {_shape(shape)}; choose an estimator of {lm.name}, or learn one."
        )
    if estimator.model_fingerprint and estimator.model_fingerprint != lm.fingerprint:
        raise EstimatorMismatch(
            f"The estimator {estimator.name!r} was learned for {estimator.model}, whose weights differ from those of "
            f"{lm.name}; choose an estimator of {lm.name}, or learn one."
        )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than any file's
        return False


def _shape(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} layers of {shape[1]} heads"


def _read(path: Path) -> Estimator:
    damaged = EstimatorFileError(
        f"{path.name} is no estimator, or it is damaged; an estimator is a .safetensors file with a tensor 'theta' "
        "(layers, heads) and its description."
    )
    try:
        with safe_open(path, framework="np") as file:
            header = (file.metadata() or {}).get("at2", "")
            # The shape is checked before the numbers are read: a header may promise anything.
            shape = file.get_slice("theta").get_shape()
            if len(shape) != 2 or not 0 < shape[0] * shape[1] <= MAX_COEFFICIENTS or len(header) > MAX_HEADER:
                raise damaged
            theta = file.get_tensor("theta")
            like: dict[str, np.ndarray] = {}
            for name in {"deviation", "direct"} & set(file.keys()):
                if file.get_slice(name).get_shape() != shape:
                    raise damaged
                like[name] = file.get_tensor(name)
        about = json.loads(header)
        texts = {key: about[key] for key in ("name", "model", "model_fingerprint")}
        metadata = about["metadata"]
    except (
        SafetensorError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise damaged from error
    if about.get("format") != FORMAT:
        raise EstimatorFileError(
            f"{path.name} has format {about.get('format')!r}; this version reads format {FORMAT}."
        )
    if not all(isinstance(text, str) for text in texts.values()) or not isinstance(metadata, dict):
        raise damaged
    for array in (theta, *like.values()):
        if array.dtype != np.float32 or not np.isfinite(array).all() or np.abs(array).max() > MAX_COEFFICIENT:
            raise damaged
    return Estimator(
        theta, metadata=metadata, deviation=like.get("deviation"), direct=like.get("direct"), **texts
    )
