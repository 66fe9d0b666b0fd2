"""AT2: which parts of its prompt a language model used for each part of its response (arXiv 2504.13752).

Names resolve on first use, so that importing this package loads neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ablation import ablate, log_prob, outcome, random_keep
    from .attribution import (
        Attribution,
        all_token_scores,
        attribute,
        attribute_given,
        head_attention,
        head_features,
        token_scores,
    )
    from .baselines import METHODS, Method, find_method, matrix
    from .catalogue import add_estimator, export_to_hub_folder, list_estimators, remove_estimator
    from .collecting import estimate
    from .data import read_data
    from .documents import read_document
    from .errors import (
        At2Error,
        Cancelled,
        DataError,
        DocumentNotRead,
        EmptyInput,
        EstimatorFileError,
        EstimatorMismatch,
        ExplorationFileError,
        ModelNotAvailable,
        PromptTooLong,
        ResponseDoesNotFit,
        RunFolderMismatch,
    )
    from .estimator import (
        Estimator,
        load_estimator,
        save_estimator,
        single_head,
        uniform_estimator,
        without_heads,
    )
    from .evaluation import evaluate
    from .exploration import Exploration, explore
    from .generation import Generation, generate, replay, retrace
    from .kept_prefix import KeptPrefix
    from .learning import fit_run, learn
    from .measures import summarize
    from .models import DEFAULT_MODEL, LanguageModel, load_model
    from .prompts import ContextTask, Document, Part, Prompt, Turn, follow_up
    from .reference import import_reference
    from .run_places import find_runs
    from .sources import GRANULARITIES, SCOPES, Source, cut, cut_all, page_of, split_sentences
    from .thoughts import markers_of, split_thoughts
    from .verification import answer_without, check, remove_top

_HOME = {
    "ablation": "ablate log_prob outcome random_keep",
    "attribution": "Attribution all_token_scores attribute attribute_given head_attention head_features token_scores",
    "baselines": "METHODS Method find_method matrix",
    "catalogue": "add_estimator export_to_hub_folder list_estimators remove_estimator",
    "collecting": "estimate",
    "data": "read_data",
    "documents": "read_document",
    "errors": "At2Error Cancelled DataError DocumentNotRead EmptyInput EstimatorFileError EstimatorMismatch "
    "ExplorationFileError ModelNotAvailable PromptTooLong ResponseDoesNotFit RunFolderMismatch",
    "estimator": "Estimator load_estimator save_estimator single_head uniform_estimator without_heads",
    "evaluation": "evaluate",
    "exploration": "Exploration explore",
    "generation": "Generation generate replay retrace",
    "kept_prefix": "KeptPrefix",
    "learning": "fit_run learn",
    "measures": "summarize",
    "models": "DEFAULT_MODEL LanguageModel load_model",
    "prompts": "ContextTask Document Part Prompt Turn follow_up",
    "reference": "import_reference",
    "run_places": "find_runs",
    "sources": "GRANULARITIES SCOPES Source cut cut_all page_of split_sentences",
    "thoughts": "markers_of split_thoughts",
    "verification": "answer_without check remove_top",
}
_MODULE = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = [*_MODULE]  # noqa: PLE0604
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE])
