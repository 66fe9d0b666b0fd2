"""One finished attribution with everything a page draws, saved and opened without torch.

`explore`        make one from a generation and an estimator
`save`, `load`   one `.safetensors` file: arrays, and the texts as JSON in its header
`gallery`        the examples that come with the app
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .errors import At2Error, ExplorationFileError
from .estimator import Estimator, uniform
from .prompts import ContextTask, Document, Part, Prompt, Turn, are_pages, without_surrogates
from .sources import GRANULARITIES, Source, cut_all, in_scope
from .thoughts import Markers, Segment, check_markers, is_opened, response_sentences, split_thoughts
from .tokens import Span

if TYPE_CHECKING:
    from .generation import Generation
    from .models import LanguageModel

FORMAT = 2
READ = (1, 2)  # format 1 has no scores of the response's own tokens
KINDS = ("system", "history", "title", "context", "query")
METHODS = ("at2", "average")  # whose scores an exploration holds
GALLERY = Path(__file__).resolve().parent.parent / "assets" / "gallery"


@dataclass(frozen=True, eq=False)
class Exploration:
    """A prompt, a response, and scores of every prompt token for every response token.

    scores: by method ("at2", "average"), float32 (T, n) over all n prompt tokens; a source's score is the sum over its
    tokens, a target's the mean over its own. own_scores: by method, float32 (T, T), of every response token for those
    after it; empty where nobody has them. sources: of the context, by granularity. all_sources: also of the rest of the
    prompt and of the response, in that order. sentences: character spans that tile `text`. segments: its thoughts and
    answers, by `markers` (None: the usual ones). estimator: name of the estimator behind "at2", with its fingerprint.
    """

    title: str
    note: str
    model: str
    estimator: str
    estimator_fingerprint: str
    task: ContextTask
    prompt: Prompt
    text: str
    response_ids: tuple[int, ...]
    response_offsets: tuple[tuple[int, int], ...]
    logprobs: np.ndarray
    stop_reason: str
    sources: Mapping[str, tuple[Source, ...]]
    sentences: tuple[tuple[int, int], ...]
    scores: Mapping[str, np.ndarray]
    settings: Mapping[str, Any]
    own_scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    all_sources: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    segments: tuple[Segment, ...] = ()
    markers: Markers | None = None

    @property
    def rendered(self) -> Prompt:
        """The prompt, as a Generation calls it."""
        return self.prompt

    @property
    def has_thought(self) -> bool:
        """Whether the response says something between markers, or its prompt began a thought."""
        return any(source.role == "thought" for source in self.all_sources.get("document", ()))

    @property
    def target_kind(self) -> str:
        """What is attributed where nothing is picked: the "answer" of a response that thinks, the "thought" of one that
        came to no answer, else the "response"."""
        if not self.has_thought:
            return "response"
        return "answer" if self._said_as("response") else "thought"

    @property
    def target(self) -> tuple[Span, ...]:
        """Its tokens, as runs [first, last], inclusive, in order: a response may answer several times. No marker is in it."""
        said = self._said_as("thought" if self.target_kind == "thought" else "response")
        return said or (((0, len(self.response_ids) - 1),) if self.response_ids else ())

    def _said_as(self, role: str) -> tuple[Span, ...]:
        own, n = self.all_sources.get("document", ()), self.prompt.n
        return tuple((s.token_start - n, s.token_end - 1 - n) for s in own if s.role == role)

    def rows(self, pin: Span | None = None) -> np.ndarray:
        """int (rows,): the response tokens that are attributed, those of the pin [first, last] or else of the target."""
        runs = self.target if pin is None else (pin,)
        return np.array([t for first, last in runs for t in range(first, last + 1)], int)

    def sources_in(self, granularity: str, scope: str) -> tuple[Source, ...]:
        """The sources of a scope, in order."""
        if scope == "context":
            return self.sources[granularity]
        return tuple(s for s in self.all_sources.get(granularity, ()) if in_scope(s, scope))

    @property
    def id(self) -> str:
        """12 hexadecimal digits of what was asked and answered, and by which model.

        The parts belong to it: the same tokens as one context or as a title and a text have other sources.
        """
        parts = [asdict(part) for part in self.prompt.parts]
        said = json.dumps([self.model, list(self.prompt.ids), parts, list(self.response_ids)])
        return hashlib.sha256(said.encode()).hexdigest()[:12]


def explore(
    lm: LanguageModel,
    gen: Generation,
    est: Estimator | None,
    *,
    title: str = "",
    note: str = "",
    settings: Mapping[str, Any] | None = None,
    markers: Markers | None = None,
) -> Exploration:
    """Scores of a generation by the estimator and by average attention, with the sources of every granularity.

    Without an estimator there is average attention only. markers: what a thought stands between, by default as the model's
    tokenizer knows them. Raises EstimatorMismatch.
    """
    from .attribution import all_token_scores
    from .thoughts import markers_of

    average = uniform(lm.num_layers, lm.num_heads, model=lm.name)
    by = {"average": average} if est is None else {"at2": est, "average": average}
    n = len(gen.rendered.ids)
    reached = {method: all_token_scores(lm, gen, estimator) for method, estimator in by.items()}
    bare = Exploration(
        title=title,
        note=note,
        model=lm.name,
        estimator=est.name if est else average.name,
        estimator_fingerprint=est.fingerprint if est else average.fingerprint,
        task=gen.task,
        prompt=gen.rendered,
        text=gen.text,
        response_ids=tuple(gen.response_ids),
        response_offsets=tuple(gen.response_offsets),
        logprobs=gen.logprobs,
        stop_reason=gen.stop_reason,
        sources={},
        sentences=(),
        # Copies: a slice would keep the whole alive in each of them.
        scores={method: np.ascontiguousarray(scores[:, :n]) for method, scores in reached.items()},
        own_scores={method: np.ascontiguousarray(scores[:, n:]) for method, scores in reached.items()},
        settings=dict(settings or {}),
    )
    return with_markers(bare, markers or markers_of(lm.tokenizer))


def with_markers(exploration: Exploration, markers: Markers | None) -> Exploration:
    """The same exploration, its response cut into thoughts and answers by other markers. Raises At2Error for such as mark
    nothing."""
    text, opened = exploration.text, is_opened(exploration.prompt.text, markers)
    segments = tuple(split_thoughts(text, markers, opened=opened))
    every = {g: tuple(cut_all(exploration, g, markers=markers)) for g in GRANULARITIES}
    return replace(
        exploration,
        markers=markers,
        segments=segments,
        sentences=tuple(response_sentences(text, segments)),
        all_sources=every,
        sources={g: tuple(s for s in sources if in_scope(s, "context")) for g, sources in every.items()},
    )


def generation(exploration: Exploration) -> Generation:
    """The generation behind an exploration, without its trace (`generation.retrace` reads it again)."""
    from .generation import Generation

    return Generation(
        task=exploration.task,
        rendered=exploration.prompt,
        text=exploration.text,
        response_ids=list(exploration.response_ids),
        response_offsets=list(exploration.response_offsets),
        logprobs=exploration.logprobs,
        stop_reason=exploration.stop_reason,
    )


def save(exploration: Exploration, path: str | Path) -> Path:
    """Write one file, whole or not at all; return its path. Scores keep 16 bits, scaled to each matrix's largest."""
    path = Path(path)
    arrays: dict[str, np.ndarray] = {
        "prompt_ids": np.array(exploration.prompt.ids, np.int32),
        "prompt_offsets": np.array(exploration.prompt.offsets, np.int32).reshape(-1, 2),
        "response_ids": np.array(exploration.response_ids, np.int32),
        "response_offsets": np.array(exploration.response_offsets, np.int32).reshape(-1, 2),
        "logprobs": np.asarray(exploration.logprobs, np.float32),
    }
    scales = {}
    for method, scores in exploration.scores.items():
        scales[method] = float(np.abs(scores).max(initial=0)) or 1.0
        arrays[f"scores/{method}"] = (scores / scales[method]).astype(np.float16)
    own_scales = {}
    for method, scores in exploration.own_scores.items():
        own_scales[method] = float(np.abs(scores).max(initial=0)) or 1.0
        below = scores[np.tril_indices(len(scores), -1)]  # the rest is zero: no token sees those behind it
        arrays[f"own/{method}"] = (below / own_scales[method]).astype(np.float16)
    about = {
        "format": FORMAT,
        "title": exploration.title,
        "note": exploration.note,
        "model": exploration.model,
        "estimator": exploration.estimator,
        "estimator_fingerprint": exploration.estimator_fingerprint,
        "task": json.loads(without_surrogates(json.dumps(asdict(exploration.task), ensure_ascii=False))),
        "prompt": exploration.prompt.text,
        "parts": [asdict(part) for part in exploration.prompt.parts],
        "text": exploration.text,
        "stop_reason": exploration.stop_reason,
        "settings": dict(exploration.settings),
        "scales": scales,
        "own_scales": own_scales,
        "markers": exploration.markers,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    save_file(arrays, part, {"at2": json.dumps(about, ensure_ascii=False)})
    part.replace(path)
    return path


def load(path: str | Path) -> Exploration:
    """The exploration in a file. Raises ExplorationFileError if it is none, or damaged."""
    path = Path(path)
    try:
        with safe_open(path, framework="np") as file:
            about = json.loads((file.metadata() or {})["at2"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
        if about["format"] not in READ:
            raise ExplorationFileError(
                f"{path.name} has format {about['format']!r}; this version reads formats up to {FORMAT}."
            )
        return _from_file(about, arrays)
    except (
        SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError,
        RecursionError,
    ) as error:  # fmt: skip
        raise ExplorationFileError(f"{path.name} is no saved exploration, or it is damaged.") from error


def gallery() -> list[tuple[str, str, str]]:
    """(id, title, note) of the examples that come with the app, in order; the id is the file's name."""
    return [(path.stem.partition("-")[2], *_heading(path)) for path in sorted(GALLERY.glob("*.safetensors"))]


def load_example(name: str) -> Exploration:
    """The gallery example with this id. Raises ExplorationFileError if there is none."""
    for path in sorted(GALLERY.glob("*.safetensors")):
        if path.stem.partition("-")[2] == name:
            return _load_once(path)
    raise ExplorationFileError(f"There is no example called {name!r}; choose one from the gallery.")


@lru_cache(maxsize=16)
def _load_once(path: Path) -> Exploration:
    return load(path)


@lru_cache(maxsize=64)
def _heading(path: Path) -> tuple[str, str]:
    with safe_open(path, framework="np") as file:
        about = json.loads((file.metadata() or {})["at2"])
    return about["title"], about["note"]


def _from_file(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Exploration:
    task = about["task"]
    prompt = Prompt(
        text=about["prompt"],
        ids=tuple(arrays["prompt_ids"].tolist()),
        offsets=_pairs(arrays["prompt_offsets"]),
        parts=tuple(Part(**part) for part in about["parts"]),
    )
    scores = _scaled(arrays, "scores", about["scales"])
    shape = (len(arrays["response_ids"]), len(prompt.ids))
    own = {
        method: _below(values, shape[0])
        for method, values in _scaled(arrays, "own", about.get("own_scales", {})).items()
    }
    bare = Exploration(
        title=about["title"],
        note=about["note"],
        model=about["model"],
        estimator=about["estimator"],
        estimator_fingerprint=about["estimator_fingerprint"],
        task=replace(
            ContextTask(**{k: v for k, v in task.items() if k not in ("documents", "history")}),
            documents=tuple(Document(**d) for d in task["documents"]),
            history=tuple(Turn(**t) for t in task["history"]),
        ),
        prompt=prompt,
        text=about["text"],
        response_ids=tuple(arrays["response_ids"].tolist()),
        response_offsets=_pairs(arrays["response_offsets"]),
        logprobs=arrays["logprobs"].astype(np.float32),
        stop_reason=about["stop_reason"],
        sources={},
        sentences=(),
        scores=dict(sorted(scores.items())),
        own_scores=dict(sorted(own.items())),
        settings=about["settings"],
    )
    if any(s.shape != shape or not np.isfinite(s).all() for s in scores.values()) or not scores:
        raise ValueError("scores do not fit the texts")
    if not set(own) <= set(scores) or not all(np.isfinite(s).all() for s in own.values()):
        raise ValueError("scores of the response do not fit those of the prompt")
    if len(bare.response_offsets) != shape[0] or len(prompt.offsets) != shape[1]:
        raise ValueError("offsets do not fit the ids")
    _check_texts(bare)
    return with_markers(bare, _markers(about.get("markers")))


def _scaled(
    arrays: Mapping[str, np.ndarray], kind: str, scales: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """The scores of a kind by method, as float32."""
    names = [name.partition("/")[2] for name in arrays if name.startswith(f"{kind}/")]
    return {name: arrays[f"{kind}/{name}"].astype(np.float32) * np.float32(scales[name]) for name in names}


def _below(values: np.ndarray, count: int) -> np.ndarray:
    """(count, count) from what stands below its diagonal, row by row."""
    out = np.zeros((count, count), np.float32)
    out[np.tril_indices(count, -1)] = values
    return out


def _markers(given: Any) -> Markers | None:
    """A pair of markers in somebody's file. Raises ValueError if it is none."""
    if given is None:
        return None
    opening, closing = given
    if not (isinstance(opening, str) and isinstance(closing, str)):
        raise ValueError("a marker is not a text")
    try:
        check_markers((opening, closing))
    except At2Error as error:
        raise ValueError("a marker that marks nothing") from error
    return opening, closing


def _check_texts(exploration: Exploration) -> None:
    """What a page takes for granted of a file by somebody else: texts are texts, and no position lies outside them."""
    prompt, task = exploration.prompt, exploration.task
    texts = [exploration.title, exploration.note, exploration.model, exploration.estimator, exploration.text]
    texts += [
        exploration.estimator_fingerprint,
        exploration.stop_reason,
        prompt.text,
        task.context,
        task.query,
        task.prompt,
    ]
    texts += [t for d in task.documents for t in (d.title, d.text)] + [t.content for t in task.history]
    if not all(isinstance(text, str) for text in texts) or not isinstance(exploration.settings, dict):
        raise ValueError("a text is not a text")
    if not all(are_pages(document.pages) for document in task.documents):
        raise ValueError("pages that are none")
    if not set(exploration.scores) <= set(METHODS) or exploration.logprobs.shape != (
        len(exploration.response_ids),
    ):
        raise ValueError("scores or log-probabilities of something else")
    spans = [(s, prompt.text) for s in prompt.offsets] + [
        (s, exploration.text) for s in exploration.response_offsets
    ]
    spans += [((p.start, p.end), prompt.text) for p in prompt.parts]
    if not all(0 <= start <= end <= len(text) for (start, end), text in spans):
        raise ValueError("a position outside its text")
    if not all(0 <= p.token_start <= p.token_end <= prompt.n for p in prompt.parts):
        raise ValueError("a part outside the tokens")
    if any(p.kind not in KINDS for p in prompt.parts):
        raise ValueError("a part of no kind that there is")
    if any(i < 0 for i in (*prompt.ids, *exploration.response_ids)):
        raise ValueError("a negative token id")


def _pairs(array: np.ndarray) -> tuple[tuple[int, int], ...]:
    return tuple((int(a), int(b)) for a, b in array.reshape(-1, 2))
