"""Claiming: how batches are taken off the list, fresh ones and those that somebody left behind."""

from __future__ import annotations

import threading
from typing import Any

from millrace_pipeline.errors import LeaseLost, QueueFull
from millrace_pipeline.queue.ahead import Ahead
from millrace_pipeline.queue.claim import Asking, Claim
from millrace_pipeline.queue.diskwatch import DiskWatch
from millrace_pipeline.queue.leases import Leases
from millrace_pipeline.queue.session import SESSION_SECONDS

FULL_POLL_SECONDS = 0.25

TURN_SECONDS = 0.1
"""So often a consumer looks whether the batch before is done with, where a list is delivered in order."""


class Claiming:
    """The consumer's half of a queue. One thread at a time claims."""

    def __init__(self, leases: Leases) -> None:
        self.leases = leases
        self.session = session = leases.session
        self._asking = Asking(session, leases.ms)
        self._reclaims = 0
        self._disk = session.disk()
        watched = session.fsync == "write"
        self._watch = DiskWatch(self._confirm, session.keys.ready) if watched else None
        self.ahead = Ahead(leases, self._asking, self._watch)
        """What is claimed before its turn; the next `claim` returns it."""

    def wait(self, seconds: float) -> None:
        """Wait inside Redis until a record is ready, at most so long. It takes nothing: claim does.

        The record that ends the wait is moved to `woken`, which every claim takes from first. A record moved there for
        a consumer that died meanwhile is thus never out of reach, and each record wakes one consumer, not all.
        While the consumers are paused, or another batch must be done with first, it only lets the time pass.
        """
        if self.leases.paused.now is not None or self.leases.behind:
            self.session.give_up.wait(min(seconds, TURN_SECONDS) if self.leases.behind else seconds)
            return
        keys = self.session.keys
        try:
            self.session.ask(("BLMOVE", keys.ready, keys.woken, "RIGHT", "LEFT", round(seconds, 3)))
        except QueueFull:
            # A move counts as a write that needs memory, even this one. Look again in a while: a claim is let through.
            self.session.give_up.wait(min(seconds, FULL_POLL_SECONDS))

    def claim(self, records: int) -> Claim | None:
        """Take up to so many of the oldest records as a batch under a lease; None where none is ready.

        Where a batch was claimed ahead it is that one, however many records it has, and not `begun`. While the
        consumers are paused it is None, and what was claimed ahead is given back.
        """
        if self.leases.paused.now is not None and len(self.ahead):
            self.ahead.give_back()
        if (claim := self.ahead.take()) is not None:
            return claim
        while True:
            number = self._asking.next()
            (held, *told), lines = self.session.persist(
                lambda number=number: self.session.connection.exchange(  # type: ignore[misc]
                    *self._asking.claiming(number, records, attempts=1)
                )
            )
            self.leases.hear(*told)
            if held == 0:
                self._asking.last = number - 1
                return None
            claim = self._asking.claim(number, lines, moment=self._moment())
            if held == len(lines) and self.leases.is_replicated(claim):
                return claim
            # The reply was lost for longer than the lease: the batch is someone else's now. Take another.

    def secure(self, claim: Claim) -> None:
        """Return once the claim, and with it the publish of its records, is on Redis' disk, where that is asked for.

        Raises LeaseLost where Redis has lost the claim meanwhile: its records come again, in another batch.
        """
        if self._watch and claim.moment:
            self.ahead.await_disk(claim.moment)
            claim.moment = 0
            if not self.leases.holds(claim):
                raise LeaseLost(f"batch {claim.id} was taken over, or Redis has forgotten that it was ours")

    def fill(self, claim: Claim, records: int) -> int:
        """Top up a batch that still lingers with up to so many records, renew its lease, and return how many came.

        Raises LeaseLost. Only for a batch that no sink has seen: what is delivered once must stay as it is.
        """
        step, keys = claim.steps + 1, self.session.keys
        part = keys.batch(claim.id, step)
        claim.fills += 1
        added, lines = self.session.ask_script(
            "fill",
            [keys.ready, keys.woken, keys.leases, keys.claims, keys.counters, part, keys.steering],
            [claim.id, claim.token, step, records, self.leases.ms, claim.fills],
            ("LRANGE", part, 0, -1),
        )
        if added < 0 or added != len(lines):
            raise LeaseLost(f"batch {claim.id} was taken over while it lingered")
        if added:
            claim.steps = step
            claim.lines += lines
            claim.moment = self._moment()
            if not self.leases.is_replicated(claim):
                raise LeaseLost(f"batch {claim.id} was taken over, or a failover lost it, while it lingered")
        return int(added)

    def reclaim(self) -> Claim | None:
        """Take over the batch whose lease ran out first, same id and same records; None where there is none.

        In order it is the oldest batch, and None while its lease lasts.
        """
        session, number = self.session, self._reclaims + 1
        token = f"{session.id}.reclaim.{number}"
        (found,) = session.ask_script(
            "reclaim",
            [session.keys.leases, session.keys.claims, session.key, session.keys.steering],
            [token, number, self.leases.ms, session.name, SESSION_SECONDS, int(session.in_order)],
        )
        self._reclaims = number
        if found is None:
            self.leases.overdue = False
            return None
        id, why = found[0].decode(), found[6].decode(errors="replace")
        attempts, steps, records, unseen, delays = map(int, found[1:6])
        parts = session.ask(*(("LRANGE", part, 0, -1) for part in session.keys.parts(id, steps)))
        lines = [line for part in parts for line in part]
        if len(lines) != records:
            return None  # lost again while we read it
        claim = Claim(
            id, token, attempts, steps, lines, unseen=bool(unseen), delays=delays, why=why, moment=self._moment()
        )
        return claim if self.leases.is_replicated(claim) else None

    def close(self) -> None:
        """End the disk watch."""
        if self._watch:
            self._watch.close()

    def _confirm(self, stop: threading.Event) -> list[Any] | None:
        return self.session.persist(lambda: self._disk.confirm(stop=stop), over=stop)

    def _moment(self) -> int:
        return self._watch.moment() if self._watch else 0
