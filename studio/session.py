"""One job a tab: started, told to stop, dropped with its tab."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field


@dataclass(eq=False)
class Job:
    """A render of one tab. ``number`` orders jobs and reports by time; ``cancel`` is the engine's stop sign."""

    tab: str
    number: int
    cancel: threading.Event = field(default_factory=threading.Event)


class Jobs:
    """The running jobs of all tabs, safe to use from any thread."""

    def __init__(self) -> None:
        self._running: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._last = 0

    def number(self) -> int:
        """A number greater than all before it, also after the program was started again."""
        with self._lock:
            return self._next()

    def _next(self) -> int:
        self._last = max(self._last + 1, time.time_ns() // 1_000_000)
        return self._last

    def begin(self, tab: str) -> Job:
        """A new job; one that the tab still has is stopped."""
        with self._lock:
            before = self._running.pop(tab, None)
            job = self._running[tab] = Job(tab, self._next())
        if before:
            before.cancel.set()
        return job

    def stop(self, tab: str) -> Job | None:
        """Tell the tab's job to stop; the job, or None where there was none."""
        with self._lock:
            job = self._running.pop(tab, None)
        if job:
            job.cancel.set()
        return job

    def end(self, job: Job) -> None:
        """The job is over, however it ended; its stop sign is set, so nothing of it goes on."""
        job.cancel.set()
        with self._lock:
            if self._running.get(job.tab) is job:
                del self._running[job.tab]

    def __len__(self) -> int:
        return len(self._running)
