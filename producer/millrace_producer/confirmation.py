"""Confirmation: learns what of a producer's publishes is on disk, tells the source, and finds out what Redis forgot."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import structlog

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import QueueError
from millrace_pipeline.queue import Publishing
from millrace_producer.spread import Spread

log = structlog.get_logger(__name__)

Tell: TypeAlias = Callable[[list[Record | DeadLetter]], None]

LOOK_SECONDS = 5.0
"""So often we look whether Redis still knows of the publishes it told us of. It may come back without them any time."""

UNCONFIRMED_BYTES = 128 * 1024 * 1024
"""So much may be published and kept for the source until it is confirmed; then the next publish waits."""


class _Unconfirmed(NamedTuple):
    number: int
    records: list[Record | DeadLetter]
    size: int


class Confirmation:
    """Watches the publishes of one publisher from a thread of its own.

    With the queue's `fsync` on, `tell` gets the records of each publish once that is on Redis' disk, in order; one
    question to Redis serves all publishes before it, and publishing goes on meanwhile. With it off `tell` is called at
    once. Either way it is looked again and again whether Redis still knows of the publishes it told us of, also where
    nothing more is published, and where they were confirmed: a Redis without a file, or with a slow disk, comes back
    without them all the same. Where it doesn't know of them, `forgotten` is called, once.
    """

    def __init__(self, publishing: Publishing | Spread, *, tell: Tell | None, forgotten: Callable[[], None]) -> None:
        self._publishing = publishing
        self._waits = publishing.session.fsync != "off"
        self._tell = tell
        self._forgotten = forgotten
        self._changed = threading.Condition()
        self._unconfirmed: deque[_Unconfirmed] = deque()
        self._size = 0
        self._last = 0  # the number of the last publish, and of the last that was confirmed
        self._confirmed = 0
        self._last_seen = 0
        self._disputed = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"confirm {publishing.keys.ready}", daemon=True)

    def add(self, number: int, records: Sequence[Record | DeadLetter], size: int) -> None:
        """Take note of a publish: its number, what the source gave of it, and its bytes."""
        if not self._waits and self._tell:
            self._tell(list(records))
        with self._changed:
            self._last = number
            if self._waits and self._tell:
                self._changed.wait_for(lambda: self._size < UNCONFIRMED_BYTES or self._over.is_set())
                self._unconfirmed.append(_Unconfirmed(number, list(records), size))
                self._size += size
            self._changed.notify_all()
        if not self._thread.is_alive() and not self._over.is_set():
            self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Return True once all publishes so far are confirmed; False after `timeout` seconds, or once it is over."""
        if not self._waits:
            return True
        with self._changed:
            number = self._last

            def is_confirmed() -> bool:
                return self._confirmed >= min(number, self._last)  # which is less once `begin_at` counts anew

            self._changed.wait_for(lambda: is_confirmed() or self._over.is_set(), timeout)
            return is_confirmed()

    def close(self) -> None:
        """Confirm nothing more, and tell nobody anything more."""
        self._over.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def begin_at(self, number: int) -> None:
        """Count anew from this publish on: what came behind it is forgotten."""
        with self._changed:
            self._last = self._confirmed = number
            self._unconfirmed.clear()
            self._size = 0
            self._disputed = False
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                known = self._look(self._await_publish())
                if known is None:
                    return
                if known >= self._last_seen:
                    self._confirm(self._last_seen)
                elif not self._disputed:
                    self._disputed = True  # until the publisher has found out, and says where to begin
                    self._forgotten()
        except QueueError:
            return  # we are giving up, or Redis refuses us: the next publish says so
        finally:
            self._over.set()
            with self._changed:
                self._changed.notify_all()
            self._publishing.session.close()

    def _await_publish(self) -> bool:
        """Return True as soon as there is something to confirm, and False after a while without, or once it is over."""
        with self._changed:
            return self._changed.wait_for(self._has_work, LOOK_SECONDS) and not self._over.is_set()

    def _has_work(self) -> bool:
        return (self._waits and self._last > self._confirmed and not self._disputed) or self._over.is_set()

    def _look(self, confirms: bool) -> int | None:
        """Return how many publishes Redis knows of, of the first `_last_seen`; None once it is over."""
        if self._over.is_set():
            return None
        with self._changed:
            self._last_seen = 0 if self._disputed else self._last
        look = self._publishing.publishes_on_disk if confirms else self._publishing.publishes_known
        return look(self._over)

    def _confirm(self, number: int) -> None:
        while self._unconfirmed and self._unconfirmed[0].number <= number:
            if self._over.is_set():
                return
            assert self._tell is not None
            self._tell(self._unconfirmed[0].records)
            with self._changed:
                self._size -= self._unconfirmed.popleft().size
                self._changed.notify_all()
        with self._changed:
            self._confirmed = max(self._confirmed, number)
            self._changed.notify_all()
