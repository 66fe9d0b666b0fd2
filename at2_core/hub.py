"""Fetch a model of the hub, or an estimator: only what cannot run code, with progress, and stoppable."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .conversion import Progress
from .errors import EstimatorFileError, ModelNotAvailable


def fetch_hub_model(hub_id: str, progress: Progress) -> Path:
    """Folder in the hub's own cache. Once it is there, no request is made.

    Only configuration, tokenizer and safetensors are asked for: never a pickle.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    wanted: dict[str, Any] = {
        "allow_patterns": ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"],
        "ignore_patterns": ["*/*", "consolidated*"],  # the same weights once more, for other programs
    }
    try:
        with contextlib.suppress(OSError):  # not there, or not all of it
            return Path(snapshot_download(hub_id, local_files_only=True, **wanted))
        return _watched(lambda bar: Path(snapshot_download(hub_id, tqdm_class=bar, **wanted)), progress)
    except HFValidationError:
        raise ModelNotAvailable(
            f"{hub_id!r} is no model of the catalogue, no hub id, no folder and no .gguf file."
        ) from None
    except _DownloadFailed as failed:
        raise ModelNotAvailable(
            f"The model {hub_id!r} is neither in the hub's cache on this computer nor could it be downloaded "
            f"({type(failed.__cause__).__name__}); check the name, the connection and, for a gated model, your access."
        ) from failed.__cause__


def fetch_hub_estimator(hub_id: str, names: Sequence[str], most_bytes: int) -> Path:
    """The first of the files `names` that a repository of the hub has, in the hub's own cache.

    A file that is there already is taken without a request; one that is too large is not downloaded at all.
    Raises EstimatorFileError.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError

    try:
        for name in names:
            with contextlib.suppress(EntryNotFoundError):
                return Path(hf_hub_download(hub_id, name, local_files_only=True))
        for name in names:
            with contextlib.suppress(EntryNotFoundError):
                size = get_hf_file_metadata(hf_hub_url(hub_id, name)).size
                if size is None or size > most_bytes:
                    raise EstimatorFileError(
                        f"{name} of {hub_id!r} is larger than {most_bytes // 1_000_000} MB, so it is no estimator."
                    )
                return Path(hf_hub_download(hub_id, name))
    except HFValidationError:
        raise EstimatorFileError(
            f"{hub_id!r} is neither a file nor a hub id (owner/name) of an estimator."
        ) from None
    except EstimatorFileError:
        raise
    except Exception as error:  # whatever the connection makes the client raise
        raise EstimatorFileError(
            f"The estimator {hub_id!r} is neither in the hub's cache on this computer nor could it be downloaded "
            f"({type(error).__name__}); check the name and the connection, or give its file."
        ) from error
    raise EstimatorFileError(f"{hub_id!r} on the hub has no estimator (none of {', '.join(names)}).")


class _DownloadFailed(Exception):
    """Carries what a download raised in its thread, apart from what the caller's progress raises."""


def _watched(download: Callable[[type], Path], progress: Progress) -> Path:
    """What `download(bar class)` returns; it runs in a thread, so that `progress` is called from this one.

    When `progress` raises, the bar raises in the download's threads, and they end.
    """
    from tqdm import tqdm  # the class, as the hub client imports it

    bars: list[Any] = []
    stop = threading.Event()
    outcome: list[Path | Exception] = []

    class Bar(tqdm):  # the hub client's only way to tell how far it is
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            self.counted = 0
            super().__init__(*args, **{**options, "disable": True})
            self.total = options.get("total")
            if str(options.get("desc", "")).startswith("Reconstructing"):
                bars.append(self)

        def update(self, n: float | None = 1) -> bool | None:
            if stop.is_set():
                raise _DownloadFailed
            self.counted += int(n or 0)
            return None

    def run() -> None:
        try:
            outcome.append(download(Bar))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            progress("download", sum(bar.counted for bar in bars), sum(int(bar.total or 0) for bar in bars))
            thread.join(0.1)
    finally:
        stop.set()
    if isinstance(outcome[0], Exception):
        raise _DownloadFailed from outcome[0]
    return outcome[0]
