"""What becomes of a job in a thread of its own, in words that a person can be shown."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from at2_core.errors import At2Error, Cancelled

log = logging.getLogger(__name__)


class Job(Protocol):
    state: str
    error: str


@contextmanager
def ending(job: Job, what: str) -> Iterator[None]:
    """Whatever ends the work in this block, the job says so: state "stopped", or "failed" with an error. what: for the log."""
    try:
        yield
    except Cancelled:
        job.state = "stopped"
    except At2Error as error:
        job.error, job.state = str(error), "failed"
    except Exception as error:
        log.exception("%s failed", what)
        job.error = f"Something went wrong inside ({type(error).__name__}); the terminal has the details."
        job.state = "failed"
