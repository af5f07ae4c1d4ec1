"""Jobs: one a tab, started, told to stop, dropped with its tab; and of all tabs one at a time has its turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Job:
    """A render of one tab. ``number`` orders jobs and reports by time; ``cancel`` is the engine's stop sign.

    ``so_far`` tells whoever stops the job what has come of it.
    """

    tab: str
    number: int
    cancel: threading.Event = field(default_factory=threading.Event)
    so_far: Callable[[], dict[str, Any]] = dict


class Jobs:
    """The jobs of all tabs, safe to use from any thread.

    Those that wait for the machine stand in line, and leave it at their end alone: a job that was told to stop has the
    machine until it has stopped.
    """

    def __init__(self) -> None:
        self._running: dict[str, Job] = {}
        self._line: list[Job] = []
        self._changed = threading.Condition()
        self._last = 0

    def number(self) -> int:
        """A number greater than all before it, also after the program was started again."""
        with self._changed:
            return self._next()

    def _next(self) -> int:
        self._last = max(self._last + 1, time.time_ns() // 1_000_000)
        return self._last

    def begin(self, tab: str) -> Job:
        """A new job; one that the tab still has is stopped."""
        with self._changed:
            self._cancel(tab)
            job = self._running[tab] = Job(tab, self._next())
        return job

    def line_up(self, job: Job) -> None:
        """The job is last in line from now on; whoever calls this must see to it that the job ends."""
        with self._changed:
            self._line.append(job)

    def ahead(self, job: Job, patience: float = 0.0) -> int:
        """How many jobs are in line before this one, which is in it; 0 when it is its turn.

        Waits up to ``patience`` seconds until there are fewer, or the job is told to stop.
        """
        with self._changed:
            before = self._line.index(job)
            if before:
                self._changed.wait_for(
                    lambda: job.cancel.is_set() or self._line.index(job) < before, timeout=patience
                )
            return self._line.index(job)

    def stop(self, tab: str) -> Job | None:
        """Tell the tab's job to stop; the job, or None where there was none."""
        with self._changed:
            return self._cancel(tab)

    def _cancel(self, tab: str) -> Job | None:
        job = self._running.pop(tab, None)
        if job:
            job.cancel.set()
            self._changed.notify_all()
        return job

    def end(self, job: Job) -> None:
        """The job is over, however it ended; its stop sign is set, so nothing of it goes on."""
        job.cancel.set()
        with self._changed:
            if self._running.get(job.tab) is job:
                del self._running[job.tab]
            if job in self._line:
                self._line.remove(job)
                self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._running)
