"""Renewal: keeps a consumer's leases alive beside a slow write."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import LeaseLost, QueueError
from pipeline.queue import Claim, Queue


class Renewal:
    """Renews what a consumer holds from a thread of its own, at least three times in a lease's life.

    That is the batch in hand, and the one that was claimed ahead of it.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._pause = queue.lease_ms / 6000
        self._lease: Lease | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"renew {queue.keys.ready}", daemon=True)

    @contextmanager
    def of(self, claim: Claim) -> Iterator[Lease]:
        """Keeps the lease on this batch alive within the block."""
        if not self._thread.is_alive() and not self._over.is_set():
            self._thread.start()
        self._lease = Lease(self._queue, claim)
        try:
            yield self._lease
        finally:
            self._lease = None

    def close(self) -> None:
        """Renews no more."""
        self._over.set()

    def _run(self) -> None:
        try:
            while not self._over.wait(self._pause):
                # Batches that are done sooner than this never cost a renewal.
                if (lease := self._lease) is not None and lease.age >= self._pause:
                    lease.renew()
                    self._queue.keep_ahead()
        except QueueError:
            return  # we are giving up, or Redis refuses us: the ack will say so
        finally:
            self._queue.close_own()


class Lease:
    """The lease on one batch. `lost` is set once the batch belongs to someone else."""

    def __init__(self, queue: Queue, claim: Claim) -> None:
        self.lost = threading.Event()
        self._queue = queue
        self._claim = claim
        self._renewed_at = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since it was made or renewed."""
        return time.monotonic() - self._renewed_at

    def renew(self) -> None:
        """Extends it, unless it is lost; then says so in `lost`. Raises QueueError."""
        asked_at = time.monotonic()
        if self.lost.is_set():
            return
        try:
            self._queue.renew(self._claim)
        except LeaseLost:
            self.lost.set()
        else:
            self._renewed_at = asked_at

    def check(self) -> None:
        """Raises LeaseLost once the batch belongs to someone else; asks Redis where the lease may have run out.

        That may be so after an outage, or when this process was stopped or swapped out for long.
        """
        if self.lost.is_set():
            raise LeaseLost(f"batch {self._claim.id} was taken over")
        if self.age > self._queue.lease_ms / 1000:
            self._queue.renew(self._claim)
