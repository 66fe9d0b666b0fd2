"""Collect on a Ray cluster: one model per worker, one example at a time, everything kept in the driver's run folder.

Workers need nothing but this package and the model; they share no disk with the driver. What a worker had not finished when
it died is given to another one, so a death costs the examples at hand and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .collecting import STOPPED, Answered
from .data import Example
from .errors import At2Error, Cancelled
from .learning import Source
from .runs import Request, RunFolder, Settings

ATTEMPTS = 3  # deaths of its worker after which an example is skipped: it is the likely cause
CONNECT_SECONDS = 5.0
POLL = 0.5  # seconds between two looks whether to stop
PATIENCE = 120.0  # seconds without any worker coming up


def workers(request: Request) -> Source:
    """The work of a run, distributed over the cluster at `request.cluster` ("local": one on this machine).

    request.workers models are loaded; one for each node if it is None. Raises At2Error without Ray or without a cluster.
    """
    ray = _ray()

    def work(
        pending: Sequence[Example], settings: Settings, run: RunFolder, cancel: threading.Event
    ) -> Iterator[tuple[Example, Answered]]:
        _connect(ray, request.cluster or "local")
        crew = _Crew(ray, request)
        try:
            yield from crew.work(pending, settings, run, cancel)
        finally:
            crew.dismiss()

    return work


class _Crew:
    """Actors and what each is doing."""

    def __init__(self, ray: Any, request: Request) -> None:
        self.ray, self.request = ray, request
        nodes = [node for node in ray.nodes() if node["Alive"]]
        self.size = request.workers or len(nodes)
        total = ray.cluster_resources()
        self.resources: dict[str, Any] = {"num_cpus": max(1, int(total.get("CPU", 1) // self.size))}
        if total.get("GPU") and request.device in ("auto", "cuda", "split"):
            self.resources["num_gpus"] = (
                total["GPU"] / self.size if self.size > total["GPU"] else int(total["GPU"] // self.size)
            )
        self.actors: list[Any] = []
        self.expected: list[Any] = []  # greetings of actors that have not come up yet
        self.came_up = False

    def _hire(self) -> Any:
        remote = self.ray.remote(**self.resources, scheduling_strategy="SPREAD")(_Worker)
        actor = remote.remote(self.request.model, self.request.device, self.request.dtype)
        self.actors.append(actor)
        self.expected.append(actor.hello.remote())
        return actor

    def work(
        self, pending: Sequence[Example], settings: Settings, run: RunFolder, cancel: threading.Event
    ) -> Iterator[tuple[Example, Answered]]:
        ray = self.ray
        queue = deque(pending)
        deaths: dict[str, int] = {}
        idle = [self._hire() for _ in range(min(self.size, len(pending)))]
        busy: dict[Any, tuple[Any, Example]] = {}
        unheard = 0.0
        while queue or busy:
            while queue and idle:
                actor, example = idle.pop(), queue.popleft()
                known = run.response(f"{example.seed:08x}")
                busy[actor.answer.remote(example, known, settings)] = actor, example
            finished, _ = ray.wait(list(busy), num_returns=1, timeout=POLL)
            if cancel.is_set():
                raise Cancelled(STOPPED)
            unheard = 0.0 if finished else unheard + POLL
            self._greet(run)
            if unheard > PATIENCE and not self.came_up:
                raise At2Error(
                    f"No worker of the cluster {self.request.cluster!r} has come up; look at its dashboard or log."
                )
            for future in finished:
                actor, example = busy.pop(future)
                try:
                    answered = ray.get(future)
                except (
                    ray.exceptions.RayActorError,
                    ray.exceptions.WorkerCrashedError,
                    ray.exceptions.ObjectLostError,
                ):
                    deaths[example.id] = deaths.get(example.id, 0) + 1
                    run.log("worker died", example=example.id, times=deaths[example.id])
                    idle.append(self._hire())
                    if deaths[example.id] >= ATTEMPTS:
                        yield example, Answered(None, "its worker died three times")
                    else:
                        queue.appendleft(example)
                    continue
                except ray.exceptions.RayTaskError as error:
                    cause = error.cause
                    raise (
                        cause if isinstance(cause, At2Error) else At2Error(f"A worker failed: {cause}")
                    ) from error
                idle.append(actor)
                yield example, answered

    def _greet(self, run: RunFolder) -> None:
        """Write down who has come up."""
        up, _ = (
            self.ray.wait(list(self.expected), num_returns=len(self.expected), timeout=0)
            if self.expected
            else ([], [])
        )
        for hello in up:
            self.expected.remove(hello)
            with contextlib.suppress(self.ray.exceptions.RayError):  # it died at once; its work will say so
                run.log("worker up", **self.ray.get(hello))
                self.came_up = True

    def dismiss(self) -> None:
        for actor in self.actors:
            self.ray.kill(actor)


class _Worker:
    """A process of the cluster with the model in it."""

    def __init__(self, model: str, device: str, dtype: str) -> None:
        from .models import load_model

        self.lm = load_model(model, device=device, dtype=dtype)

    def hello(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "host": socket.gethostname()}

    def answer(self, example: Example, known: list[int] | None, settings: Settings) -> Answered:
        """known: ids of a response that an earlier start left behind."""
        from .collecting import measure, respond

        ids = respond(self.lm, example, settings) if known is None else known
        if isinstance(ids, str):
            return Answered(None, ids)
        return Answered(ids, measure(self.lm, example, ids, settings))


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise At2Error("Working on a cluster needs Ray: python -m pip install ray") from None
    return ray


def _connect(ray: Any, address: str) -> None:
    """Join the cluster, with this very package on every node."""
    if ray.is_initialized():
        return
    package = str(Path(__file__).resolve().parent)
    options: dict[str, Any] = {
        "runtime_env": {"py_modules": [package], "excludes": ["**/__pycache__"]},
        "log_to_driver": False,
        "logging_level": "ERROR",
    }
    missing = At2Error(f"There is no Ray cluster at {address!r}; start one with: ray start --head")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except OSError:
            raise missing from None
    if address == "local":
        options["include_dashboard"] = False
    else:
        options["address"] = address
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise missing from error
