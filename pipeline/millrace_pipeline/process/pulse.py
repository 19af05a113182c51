"""Pulse: tells, beside the work of a consumer or a producer, what it does: every few seconds, whatever the number of
records.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple

import structlog

from millrace_pipeline.errors import QueueError, QueueUnavailable
from millrace_pipeline.process.supervisor import SERVICE
from millrace_pipeline.queue import Session
from millrace_pipeline.queue.presence import CrawlProgress, Doing, Missing, Role, beat, leave

log = structlog.get_logger(__name__)

EVERY_SECONDS = 2.0
BEATS_A_SECOND = 50
"""So many consumers of one list speak in a second; where there are more, each speaks more rarely."""

LOOK_EVERY = 30
"""After so many beats all consumers are looked at again: how many there are, and who was silent for too long."""

WINDOW_SECONDS = 10.0
LEAVE_SECONDS = 1.0


class Stopwatch:
    """Adds up the time inside its `with` blocks, the one that is under way included. For one thread at a time."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._began: float | None = None

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        began, self._began = self._began, None
        if began is not None:
            self._seconds += time.monotonic() - began

    @property
    def seconds(self) -> float:
        """Return how long it was in all. May be asked by another thread."""
        began = self._began
        return self._seconds + (0.0 if began is None else time.monotonic() - began)


class Progress(NamedTuple):
    """What one has come to: seconds of writing, records it is done with, what is in its way or missing some, how far it
    has crawled."""

    write_seconds: float
    records: int
    dead: int
    trouble: str
    missing: Sequence[Missing] = ()
    crawl: CrawlProgress | None = None


class Pulse:
    """Says in Redis what one does, from a thread of its own. A failure to say so stops nothing."""

    def __init__(self, queue: Session, flow: str, progress: Callable[[], Progress], role: Role = "consumer") -> None:
        self._role = role
        self._queue = queue
        self._flow = flow
        self._progress = progress
        service = os.environ.get(SERVICE, "")
        host = queue.name.partition(":")[0]
        # A supervised one keeps its name over its restarts: the supervisor's process is the same.
        self._name = f"{host}:{os.getppid()}/{service}" if service else queue.name
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pulse {flow}", daemon=True)
        self._samples: deque[tuple[float, float, float, int]] = deque()
        self._trouble = ("", 0.0)

    def start(self) -> None:
        """Begin to speak."""
        self._thread.start()

    def close(self) -> None:
        """Speak no more, and take it off the list of those that are there; waits but a moment for that."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(LEAVE_SECONDS)

    def _run(self) -> None:
        began, beats, every = time.monotonic(), 0, EVERY_SECONDS
        try:
            while True:
                with suppress(QueueUnavailable):  # who works with Redis says so; we speak again when it is back
                    look = beats % LOOK_EVERY == 0
                    there = beat(self._queue, self._name, self._doing(began, every), look=look, role=self._role)
                    every = max(EVERY_SECONDS, there / BEATS_A_SECOND) if look else every
                    beats += 1
                if self._over.wait(every):
                    break
            with suppress(QueueUnavailable):
                leave(self._queue, self._name, self._role)
        except QueueError as error:
            log.warning(
                f"{self._role}_unseen", flow=self._flow, reason=str(error), mend="`millrace top` will not show it"
            )
        finally:
            self._queue.close()

    def _doing(self, began: float, every: float) -> Doing:
        now, progress = time.monotonic(), self._progress()
        self._samples.append((now, progress.write_seconds, time.process_time(), progress.records))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW_SECONDS:
            self._samples.popleft()
        since, wrote, computed, records = self._samples[0]
        seconds = max(now - since, 1e-9)
        if progress.trouble != self._trouble[0]:
            was = self._trouble[0]
            self._trouble = progress.trouble, (self._trouble[1] if was and progress.trouble else time.time())
        return Doing(
            self._queue.name,
            every,
            round(now - began, 1),
            round((progress.write_seconds - wrote) / seconds, 3),
            round((time.process_time() - computed) / seconds, 3) if now > since else 0.0,
            round((progress.records - records) / seconds, 1),
            progress.records,
            progress.dead,
            progress.trouble[:300],
            round(self._trouble[1], 1) if progress.trouble else 0.0,
            list(progress.missing),
            progress.crawl,
        )
