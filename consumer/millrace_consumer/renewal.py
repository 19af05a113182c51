"""Renewal: keeps a consumer's leases alive beside slow work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from millrace_pipeline.errors import LeaseLost, QueueError
from millrace_pipeline.process.watchdog import Watchdog
from millrace_pipeline.queue import Claim, Claiming, Leases


class Renewal:
    """Renews what a consumer holds from a thread of its own, at least three times in a lease's life.

    That is every batch in hand, and the one that was claimed ahead of them. With a `watchdog` this process ends where
    the thread can't run for longer than the lease, since some value makes endless work.
    """

    def __init__(self, claiming: Claiming, watchdog: Watchdog | None = None) -> None:
        self._ahead = claiming.ahead
        self._leases = claiming.leases
        self._watchdog = watchdog
        self._pause = claiming.leases.ms / 6000
        self._held: dict[str, Lease] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"renew {claiming.session.keys.ready}", daemon=True)

    @property
    def held(self) -> list[Claim]:
        """The batches in hand."""
        return [lease.claim for lease in self._held.copy().values()]

    def hold(self, claim: Claim) -> Lease:
        """Keeps the lease on this batch alive, until it is dropped."""
        if not self._thread.is_alive() and not self._over.is_set():
            self._thread.start()
        lease = self._held[claim.id] = Lease(self._leases, claim, self._dropped)
        if self._watchdog is not None:
            self._watchdog.hold(claim.token, self._leases.ms / 1000)
        return lease

    def _dropped(self, claim: Claim) -> None:
        self._held.pop(claim.id, None)
        if self._watchdog is not None:
            self._watchdog.drop(claim.token)

    def close(self, *, wait: float = 0.0) -> None:
        """Renews no more. Waits at most so many seconds for a renewal that is on its way."""
        self._over.set()
        if wait and self._thread.is_alive():
            self._thread.join(wait)

    def _run(self) -> None:
        try:
            while not self._over.wait(self._pause):
                # Batches that are done sooner than this never cost a renewal.
                due = [lease for lease in self._held.copy().values() if lease.age >= self._pause]
                for lease in due:
                    lease.renew()
                if due:
                    self._ahead.keep()
        except QueueError:
            return  # we are giving up, or Redis refuses us: the ack will say so
        finally:
            self._leases.session.close()


class Lease:
    """The lease on one batch. `lost` is set once the batch belongs to someone else."""

    def __init__(self, leases: Leases, claim: Claim, dropped: Callable[[Claim], None] | None = None) -> None:
        self.claim = claim
        self.lost = threading.Event()
        self._leases = leases
        self._dropped = dropped
        self._renewed_at = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since it was made or renewed."""
        return time.monotonic() - self._renewed_at

    def drop(self) -> None:
        """The batch is done with: the lease is not renewed any more."""
        if self._dropped is not None:
            self._dropped(self.claim)

    def renew(self) -> None:
        """Extends it, unless it is lost; then says so in `lost`. Raises QueueError."""
        asked_at = time.monotonic()
        if self.lost.is_set():
            return
        try:
            self._leases.renew(self.claim)
        except LeaseLost:
            self.lost.set()
        else:
            self._renewed_at = asked_at

    def check(self) -> None:
        """Raises LeaseLost once the batch belongs to someone else; asks Redis where the lease may have run out.

        That may be so after an outage, or when this process was stopped or swapped out for long.
        """
        if self.lost.is_set():
            raise LeaseLost(f"batch {self.claim.id} was taken over")
        if self.age > self._leases.ms / 1000:
            self._leases.renew(self.claim)
