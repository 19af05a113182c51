"""Ahead: a source that is read in a thread of its own, so that a clock can run while it is silent."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable
from itertools import islice

from millrace_pipeline.envelope import DeadLetter, Record

RECORDS = 100
"""So many may be read and not taken yet."""

LOOK_SECONDS = 0.1
PARTING_SECONDS = 1.0


class Ended:
    """Stands behind the last record; `error` is what the source raised, if it did."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Ahead:
    """Reads `most` records, or all, and hands them on one by one."""

    def __init__(self, reading: Iterable[Record | DeadLetter], most: int | None) -> None:
        self._reading = reading
        self._most = most
        self._read: queue.SimpleQueue[Record | DeadLetter | Ended] = queue.SimpleQueue()
        self._room = threading.Semaphore(RECORDS)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="read", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def next(self, seconds: float) -> Record | DeadLetter | Ended | None:
        """Return the next one, or None if none came for so long."""
        try:
            found = self._read.get(timeout=seconds)
        except queue.Empty:
            return None
        self._room.release()
        return found

    def stop(self) -> list[Record | DeadLetter]:
        """Read no more, and return what was read and not taken. A source that blocks is left behind."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(PARTING_SECONDS)
        left: list[Record | DeadLetter] = []
        while (found := self.next(0)) is not None:
            if not isinstance(found, Ended):
                left.append(found)
        return left

    def _run(self) -> None:
        error: BaseException | None = None
        records = iter(self._reading)
        try:
            for record in islice(records, self._most):
                self._read.put(record)
                while not self._room.acquire(timeout=LOOK_SECONDS) and not self._stopping.is_set():
                    pass
                if self._stopping.is_set():
                    break
        except BaseException as found:
            error = found
        finally:
            if callable(close := getattr(records, "close", None)):
                close()
            self._read.put(Ended(error))
