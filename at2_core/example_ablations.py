"""One example's response, its sources, and what ablations do to it: measured once, kept in a file, shared by all methods."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from pathlib import Path

import numpy as np

from .ablation import ablate
from .data import Example
from .errors import Cancelled, StorageError
from .files import read_arrays, write_arrays
from .generation import Generation, generate, generation_from_ids, replay
from .models import LanguageModel
from .prompts import render
from .sources import Source, cut

STOPPED = "The evaluation was stopped; it goes on from here with the same folder."
SAVED_TOGETHER = 64  # ablations; a stop or a crash costs no more


class ExampleAblations:
    """One example's response, sources and every ablation measured so far, kept in a file where a folder is given."""

    def __init__(
        self,
        lm: LanguageModel,
        example: Example,
        folder: Path | None,
        granularity: str,
        max_new_tokens: int,
        cancel: threading.Event | None = None,
    ) -> None:
        self.lm, self.example, self.cancel = lm, example, cancel
        self.path = (
            None if folder is None else folder / f"{stem(lm, example, granularity, max_new_tokens)}.npz"
        )
        self.keep: dict[bytes, np.ndarray] = {}  # keep-vector -> logit-probabilities (T,)
        self.seconds: dict[bytes, float] = {}  # how long each took
        self.gen = self._generation(max_new_tokens)
        self.sources: list[Source] = cut(self.gen.rendered, granularity)
        if not self.keep:
            self._save()  # the response, which takes as long to make as many a method

    def measure(self, keep: np.ndarray) -> np.ndarray:
        """Token logit-probabilities float32 (M, T) for keep (M, S); only what is new is run."""
        fresh = list({row.tobytes(): row for row in keep if row.tobytes() not in self.keep}.values())
        for start in range(0, len(fresh), SAVED_TOGETHER):
            part = fresh[start : start + SAVED_TOGETHER]
            began = time.perf_counter()
            measured = ablate(self.lm, self.gen, self.sources, np.stack(part), cancel=self.cancel)
            self.keep |= {row.tobytes(): values for row, values in zip(part, measured, strict=True)}
            self.seconds |= {row.tobytes(): (time.perf_counter() - began) / len(part) for row in part}
            self._save()
        return np.stack([self.keep[row.tobytes()] for row in keep])

    def cost(self, keep: np.ndarray) -> float:
        """Seconds that these ablations took when they were run; nan where that is not known."""
        return sum(self.seconds.get(row, float("nan")) for row in {row.tobytes() for row in keep})

    def _generation(self, max_new_tokens: int) -> Generation:
        arrays = None if self.path is None else read_arrays(self.path)
        if arrays is not None:
            rows = arrays["keep"].astype(bool)
            self.keep = {
                row.tobytes(): values for row, values in zip(rows, arrays["logit_probs"], strict=True)
            }
            if "seconds" in arrays:
                self.seconds = dict(zip(self.keep, arrays["seconds"].tolist(), strict=True))
            return generation_from_ids(self.lm, self.example.task, arrays["response_ids"].tolist())
        if self.example.response is not None:
            return replay(self.lm, self.example.task, self.example.response)
        gen = generate(self.lm, self.example.task, max_new_tokens=max_new_tokens, cancel=self.cancel)
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled(STOPPED)
        return gen

    def _save(self) -> None:
        if self.path is None:
            return
        try:
            write_arrays(
                self.path,
                {
                    "keep": np.array([np.frombuffer(row, bool) for row in self.keep]).reshape(
                        len(self.keep), len(self.sources)
                    ),
                    "logit_probs": np.array(list(self.keep.values())).reshape(
                        len(self.keep), self.gen.num_tokens
                    ),
                    "seconds": np.array([self.seconds.get(row, np.nan) for row in self.keep]),
                    "response_ids": np.array(self.gen.response_ids),
                },
            )
        except OSError as error:
            raise StorageError(
                f"{self.path.parent} cannot be written ({error.strerror}); free some space."
            ) from error


def stem(lm: LanguageModel, example: Example, granularity: str, max_new_tokens: int) -> str:
    """Name of an example's files. What was measured belongs to one model in one precision, and to the prompt as its template
    and the cut into sources have it. Raises what `render` raises."""
    prompt = render(lm.tokenizer, example.task)
    spans = [(source.token_start, source.token_end) for source in cut(prompt, granularity)]
    said = hashlib.sha256(json.dumps([prompt.ids, spans]).encode()).hexdigest()[:8]
    return f"{example.key}-{granularity}-{max_new_tokens}-{lm.fingerprint}-{str(lm.dtype)[6:]}-{said}"
