"""How far a piece of work is: what its folder says of it, and the pace that tells how much is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

ACTIVE = ("starting", "running")


@dataclass(frozen=True)
class Progress:
    """How far a run is. state: "new", "starting", "running", "paused", "done", "failed" or "interrupted".

    seconds_left: at the pace of the present stage; None while there is none. skipped: examples by reason. disk_mb: taken so
    far.
    """

    state: str = "new"
    stage: str = ""
    done: int = 0
    total: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    seconds_left: float | None = None
    per_minute: float | None = None
    disk_mb: float = 0.0
    message: str = ""
    updated: str = ""


class Pace:
    """Time of a stage: how fast, how much is left. tell: where a Progress goes to, as a work folder's."""

    def __init__(
        self,
        tell: Callable[[Progress], None],
        stage: str,
        done: int,
        total: int,
        skipped: Mapping[str, int],
        began: float,
    ) -> None:
        self.tell, self.stage, self.total = tell, stage, total
        self.at_start, self.began, self.stage_began = done, began, time.monotonic()
        self.report(done, skipped)

    def report(self, done: int, skipped: Mapping[str, int], fresh: int | None = None) -> None:
        """fresh: how many were done by this process, where that differs from what is there."""
        now = time.monotonic()
        worked = done - self.at_start if fresh is None else fresh
        rate = worked / (now - self.stage_began) if worked and now > self.stage_began else None
        self.tell(
            Progress(
                state="running",
                stage=self.stage,
                done=done,
                total=self.total,
                skipped=dict(skipped),
                seconds=now - self.began,
                seconds_left=(self.total - done) / rate if rate else None,
                per_minute=60 * rate if rate else None,
            )
        )
