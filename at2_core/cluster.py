"""Collect on a Ray cluster: one model per worker, one example at a time, everything kept in the driver's run folder.

Workers need nothing but this package and the model; they share no disk with the driver. What a worker had not finished when
it died is given to another one, so a death costs the examples at hand and nothing else.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .collecting import STOPPED, Answered
from .data import Example
from .errors import At2Error, Cancelled
from .learning import Source
from .runs import Request, RunFolder, Settings

ATTEMPTS = 3  # deaths of its worker after which an example is the likely cause
CONNECT_SECONDS = 5.0
POLL = 0.5  # seconds between two looks whether to stop
PATIENCE = 120.0  # seconds with nobody at work and nobody coming up


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
        self.size, self.resources = _shares(ray.nodes(), request)
        self.actors: list[Any] = []
        self.expected: dict[Any, Any] = {}  # greeting -> actor that has not come up yet
        self.idle: list[Any] = []

    def _hire(self) -> None:
        remote = self.ray.remote(**self.resources, scheduling_strategy="SPREAD")(_Worker)
        actor = remote.remote(self.request.model, self.request.device, self.request.dtype)
        self.actors.append(actor)
        self.expected[actor.hello.remote()] = actor

    def work(
        self, pending: Sequence[Example], settings: Settings, run: RunFolder, cancel: threading.Event
    ) -> Iterator[tuple[Example, Answered]]:
        ray = self.ray
        queue = deque(pending)
        deaths: dict[str, int] = {}
        busy: dict[Any, tuple[Any, Example]] = {}
        alone_since = time.monotonic()
        for _ in range(min(self.size, len(pending))):
            self._hire()
        while queue or busy:
            self._greet(run)
            while queue and self.idle:
                actor, example = self.idle.pop(), queue.popleft()
                busy[actor.answer.remote(example, run.response(example.key), settings)] = actor, example
            finished: list[Any] = []
            if busy:
                alone_since = time.monotonic()
                finished, _ = ray.wait(list(busy), num_returns=1, timeout=POLL)
            else:
                time.sleep(POLL)
                if time.monotonic() - alone_since > PATIENCE:
                    raise At2Error(
                        f"No worker of the cluster {self.request.cluster!r} comes up: it has no room for "
                        f"{self.resources}, or its workers die at once; look at its dashboard or log."
                    )
            if cancel.is_set():
                raise Cancelled(STOPPED)
            for future in finished:
                actor, example = busy.pop(future)
                try:
                    answered = ray.get(future)
                except ray.exceptions.RayTaskError as error:
                    cause = error.cause
                    raise (
                        cause if isinstance(cause, At2Error) else At2Error(f"A worker failed: {cause}")
                    ) from error
                except ray.exceptions.RayError:  # the worker, or its node, is gone
                    deaths[example.key] = deaths.get(example.key, 0) + 1
                    run.log("worker died", example=example.id, times=deaths[example.key])
                    if deaths[example.key] >= ATTEMPTS:
                        raise At2Error(
                            f"Three workers died at example {example.id!r}, probably for want of memory; nothing that was "
                            "collected is lost. Mend the cluster, or go on without it."
                        ) from None
                    self._hire()
                    queue.appendleft(example)
                    continue
                self.idle.append(actor)
                yield example, answered

    def _greet(self, run: RunFolder) -> None:
        """Actors that have come up can work; who never comes up is never given anything."""
        if not self.expected:
            return
        up, _ = self.ray.wait(list(self.expected), num_returns=len(self.expected), timeout=0)
        for hello in up:
            actor = self.expected.pop(hello)
            try:
                run.log("worker up", **self.ray.get(hello))
            except self.ray.exceptions.RayError:  # it died at once; another one takes its place
                self._hire()
            else:
                self.idle.append(actor)

    def dismiss(self) -> None:
        for actor in self.actors:
            self.ray.kill(actor)


def _shares(nodes: Sequence[Mapping[str, Any]], request: Request) -> tuple[int, dict[str, Any]]:
    """How many workers, and what each gets, so that all of them find a place: cut to the smallest node that can work."""
    able = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU")]
    cards = [r["GPU"] for r in able if r.get("GPU")] if request.device in ("auto", "cuda", "split") else []
    if cards:
        able = [r for r in able if r.get("GPU")]
    each = min(cards, default=0) if request.device == "split" else min(1, min(cards, default=0))
    size = request.workers or (sum(int(c // each) for c in cards) if cards else max(1, len(able)))
    on_one = -(-size // max(1, len(able)))
    shares: dict[str, Any] = {"num_cpus": max(1, int(min((r["CPU"] for r in able), default=1) // on_one))}
    if cards:
        shares["num_gpus"] = min(each, min(cards) / on_one)
    return size, shares


class _Worker:
    """A process of the cluster; the model comes with the first example, so that it can say at once that it is there."""

    def __init__(self, model: str, device: str, dtype: str) -> None:
        self.spec = model, device, dtype
        self.lm: Any = None

    def hello(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "host": socket.gethostname()}

    def answer(self, example: Example, known: list[int] | None, settings: Settings) -> Answered:
        """known: ids of a response that an earlier start left behind."""
        from .collecting import measure, respond
        from .models import load_model

        if self.lm is None:
            name, device, dtype = self.spec
            self.lm = load_model(name, device=device, dtype=dtype)
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
