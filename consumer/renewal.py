"""Renewal: keeps a lease alive beside a slow write."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from pipeline.errors import LeaseLost, QueueError
from pipeline.queue import Claim, Queue


class Renewal:
    """Renews the lease on a batch from a thread of its own, three times in the lease's life, until the block ends.

    `lost` is set once the batch belongs to someone else.
    """

    def __init__(self, queue: Queue, claim: Claim) -> None:
        self.lost = threading.Event()
        self._queue = queue
        self._claim = claim
        self._over = threading.Event()
        self._renewed_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"renew {claim.id}", daemon=True)

    def __enter__(self) -> Renewal:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def check(self) -> None:
        """Raises LeaseLost once the batch belongs to someone else; asks Redis where the lease may have run out.

        That may be so after an outage, or when this process was stopped or swapped out for long.
        """
        if self.lost.is_set():
            raise LeaseLost(f"batch {self._claim.id} was taken over")
        if time.monotonic() - self._renewed_at > self._queue.lease_ms / 1000:
            self._queue.renew(self._claim)

    def _run(self) -> None:
        try:
            while not self._over.wait(self._queue.lease_ms / 3000):
                asked_at = time.monotonic()
                self._queue.renew(self._claim)
                self._renewed_at = asked_at
        except LeaseLost:
            self.lost.set()
        except QueueError:
            # We are giving up, or Redis refuses us: the ack will say so.
            return
        finally:
            self._queue.close_own()
