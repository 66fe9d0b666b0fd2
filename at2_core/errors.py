"""What can go wrong, each as one sentence that tells the person what to do."""

from __future__ import annotations


class At2Error(Exception):
    """Base of every error this package raises on purpose; `str(error)` is meant for the user."""


class EmptyInput(At2Error):
    """The task lacks a context or a query."""


class PromptTooLong(At2Error):
    """The prompt (and the room kept for the response) exceeds the model's context window."""


class ResponseDoesNotFit(At2Error):
    """A given response is empty, or does not fit behind its prompt."""


class EstimatorMismatch(At2Error):
    """The estimator was learned for another model."""


class EstimatorFileError(At2Error):
    """The file is no estimator, or it is damaged."""


class ExplorationFileError(At2Error):
    """The file is no saved exploration, or it is damaged."""


class ModelNotAvailable(At2Error):
    """The model is neither here nor reachable, or it is none that can be read."""


class NotEnoughMemory(At2Error):
    """What was asked would need more memory than is free."""


class DataError(At2Error):
    """Data cannot be read, or lacks what an example needs."""


class DocumentNotRead(At2Error):
    """A file gives no text that could be asked about."""


class RunFolderMismatch(At2Error):
    """A run folder was made with another model, other data or other settings."""


class Cancelled(At2Error):
    """Somebody asked for the work to stop."""


class StorageError(At2Error):
    """The disk does not give or take a file."""
