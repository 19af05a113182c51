"""Claiming: how batches are taken off the list, held under a lease, and done with."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from pipeline.envelope import DeadLetter
from pipeline.errors import LeaseLost, QueueFull, QueueMisuse, QueueUnavailable, SinkUnavailable
from pipeline.queue.connection import Command
from pipeline.queue.session import SESSION_SECONDS, Session

FULL_POLL_SECONDS = 0.25


class Claim(msgspec.Struct):
    """A batch under our lease: its records as they stand on the list, oldest first.

    `begun` is False for one that was claimed ahead of its time and whose attempt isn't counted yet.
    """

    id: str
    token: str
    attempts: int
    steps: int
    lines: list[bytes]
    begun: bool = True


class Claiming(Session):
    """The consumer's half of a queue. One thread at a time claims, one acks; others may renew and release."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        lease_seconds: float = 60.0,
        replicas: int = 0,
        give_up: threading.Event | None = None,
    ) -> None:
        super().__init__(url, key, replicas=replicas, give_up=give_up)
        self.lease_ms = int(lease_seconds * 1000)
        self.overdue = True
        """Whether some lease had run out when the last claim looked; at the start nobody knows."""
        self._claims = 0
        self._reclaims = 0
        self._asked: int | None = None  # so many records were asked for ahead

    def wait(self, seconds: float) -> None:
        """Waits inside Redis until a record is ready, at most so long. It takes nothing: claim does.

        The record that ends the wait is moved to `woken`, which every claim takes from first. A record moved there for
        a consumer that died meanwhile is thus never out of reach, and each record wakes one consumer, not all.
        """
        try:
            self.ask(("BLMOVE", self.keys.ready, self.keys.woken, "RIGHT", "LEFT", round(seconds, 3)))
        except QueueFull:
            # A move counts as a write that needs memory, even this one. Look again in a while: a claim is let through.
            self.give_up.wait(min(seconds, FULL_POLL_SECONDS))

    def claim(self, records: int) -> Claim | None:
        """Takes up to so many of the oldest records as a batch under a lease; None where none is ready.

        Where a batch was claimed ahead it is that one, however many records it has, and not `begun`.
        """
        while True:
            asked, self._asked = self._asked, None
            number = self._claims + 1
            asking = partial(self._exchange_claim, number, asked or records, ahead=asked is not None)
            (held, overdue), lines = (self._collected() if asked else None) or self._persist(asking)
            self.overdue = bool(overdue)
            if held == 0:
                return None
            self._claims = number
            claim = Claim(*self._names(number), 1, 1, lines, begun=asked is None)
            if held == len(lines) and self._holds(claim):
                return claim
            # The reply was lost for longer than the lease: the batch is someone else's now. Take another.

    def claim_ahead(self, records: int) -> None:
        """Asks for the next batch without waiting for the answer, which the next `claim` returns.

        So Redis works while we do. The batch is under our lease from now on, but no attempt is counted until it is
        begun: by the ack of the batch before it, or by `begin`.
        """
        if not self._asked:
            self._asked = records
            with suppress(QueueUnavailable):  # `claim` asks again
                self._exchange_claim(self._claims + 1, records, ahead=True, post=True)

    def keep_ahead(self) -> None:
        """Extends the lease on a batch that was claimed ahead, if there is one and it is ours."""
        if self._asked:
            id, token = self._names(self._claims + 1)
            self.ask_script("renew", [self.keys.leases, self.keys.claims], [id, token, self.lease_ms, ""])

    def release_ahead(self) -> None:
        """Gives back a batch that was claimed ahead, if there is one."""
        if self._asked:
            self._claims, self._asked = self._claims + 1, None
            self.ask_script("release", [self.keys.leases, self.keys.claims], [*self._names(self._claims)])

    @property
    def has_ahead(self) -> bool:
        """Whether a batch was claimed ahead."""
        return self._asked is not None

    def begin(self, claim: Claim) -> None:
        """Counts the attempt of a batch that was claimed ahead, unless that is done. Raises LeaseLost."""
        if not claim.begun:
            keys = self.keys
            (ours,) = self.ask_script("begin", [keys.leases, keys.claims], [claim.id, claim.token, self.lease_ms])
            if not ours:
                raise LeaseLost(f"batch {claim.id} was taken over before it was begun")
            claim.begun = True

    def _names(self, number: int) -> tuple[str, str]:
        """The id and the token of our claim of that number."""
        return f"{self.session}-{number:06d}", f"{self.session}.claim.{number}"

    def _exchange_claim(self, number: int, records: int, *, ahead: bool, post: bool = False) -> list[Any]:
        id, token = self._names(number)
        keys, connection = self.keys, self._connection
        commands = (
            connection.script(
                "claim",
                [keys.ready, keys.woken, keys.leases, keys.claims, keys.counters, self._session_key, keys.batch(id)],
                *(id, token, number, records, self.lease_ms, self.name, SESSION_SECONDS, 0 if ahead else 1),
            ),
            ("LRANGE", keys.batch(id), 0, -1),
        )
        if post:
            connection.post(*commands)
            return []
        return connection.exchange(*commands)

    def _collected(self) -> list[Any] | None:
        """The answer to the claim ahead, unless it is lost."""
        with suppress(QueueUnavailable):
            return self._connection.collect()
        return None

    def fill(self, claim: Claim, records: int) -> int:
        """Tops up a batch that still lingers with up to so many records, renews its lease, and returns how many came.

        Raises LeaseLost. Only for a batch that no sink has seen: what is delivered once must stay as it is.
        """
        step, keys = claim.steps + 1, self.keys
        part = keys.batch(claim.id, step)
        added, lines = self.ask_script(
            "fill",
            [keys.ready, keys.woken, keys.leases, keys.claims, keys.counters, part],
            [claim.id, claim.token, step, records, self.lease_ms],
            ("LRANGE", part, 0, -1),
        )
        if added < 0 or added != len(lines):
            raise LeaseLost(f"batch {claim.id} was taken over while it lingered")
        if added:
            claim.steps = step
            claim.lines += lines
            if not self._holds(claim):
                raise LeaseLost(f"batch {claim.id} was taken over, or a failover lost it, while it lingered")
        return int(added)

    def reclaim(self) -> Claim | None:
        """Takes over the batch whose lease ran out first, same id and same records; None where there is none."""
        number = self._reclaims + 1
        token = f"{self.session}.reclaim.{number}"
        keys = self.keys
        (found,) = self.ask_script(
            "reclaim",
            [keys.leases, keys.claims, self._session_key],
            [token, number, self.lease_ms, self.name, SESSION_SECONDS],
        )
        self._reclaims = number
        if found is None:
            self.overdue = False
            return None
        id, attempts, steps, records = found[0].decode(), *map(int, found[1:])
        parts = self.ask(*(("LRANGE", part, 0, -1) for part in keys.parts(id, steps)))
        lines = [line for part in parts for line in part]
        if len(lines) != records:
            return None  # lost again while we read it
        claim = Claim(id, token, attempts, steps, lines)
        return claim if self._holds(claim) else None

    def _holds(self, claim: Claim) -> bool:
        """Returns True once enough replicas hold the claim; False where a failover lost it, or another has it by now.

        A claim that a failover loses puts its records back on the list, for another batch with another id. If a sink
        had seen them by then, it would write them twice.
        """
        keys = self.keys
        while self._replicas.wanted:
            ours, held, holding = self.ask_script(
                "renew",
                [keys.leases, keys.claims],
                [claim.id, claim.token, self.lease_ms, ""],
                ("HGET", keys.claims, claim.id),
                *self._replicas.wait,
            )
            if not ours or held is None or msgspec.json.decode(held)["steps"] != claim.steps:
                return False
            if self._replicas.enough(holding):
                break
            if self.give_up.is_set():
                raise QueueUnavailable(self._replicas.shortage)
        return True

    def renew(self, claim: Claim, note: str = "") -> None:
        """Extends the lease; a `note` tells people what keeps the batch waiting. Raises LeaseLost."""
        keys = self.keys
        (ours,) = self.ask_script("renew", [keys.leases, keys.claims], [claim.id, claim.token, self.lease_ms, note])
        if not ours:
            raise LeaseLost(f"batch {claim.id} was taken over")

    def ack(
        self,
        claim: Claim,
        *,
        delivered: int,
        filtered: int = 0,
        foreign: int = 0,
        dead: Sequence[DeadLetter] = (),
        writes: Sequence[Command] = (),
        begin: Claim | None = None,
    ) -> None:
        """The batch is durable: drops it, sets its dead letters aside and moves the counters, in one step.

        Each record of the batch is either delivered, filtered or dead; `foreign` says how many of them were not
        published by us. `writes` are what a sink has to say to this very Redis: LPUSH, RPUSH, XADD or HSET, a key, and
        at most a few thousand arguments each; they are carried out in the same step. `begin` is a batch that
        was claimed ahead and comes next.

        Raises LeaseLost where the batch is no longer ours, SinkUnavailable where Redis won't have the writes; then
        nothing was changed.
        """
        if delivered + filtered + len(dead) != len(claim.lines):
            raise ValueError(f"{len(claim.lines)} records, but {delivered} + {filtered} + {len(dead)} accounted for")
        keys = self.keys
        parts = keys.parts(claim.id, claim.steps)

        def attempt() -> list[Any]:
            connection = self._connection
            ack = connection.script(
                "ack",
                [
                    *(keys.leases, keys.claims, keys.counters, self._session_key, keys.dead),
                    *parts,
                    *(write[1] for write in writes),
                ],
                *(claim.id, claim.token, delivered, filtered, foreign, SESSION_SECONDS, len(parts), len(dead)),
                *(part for letter in dead for part in (letter.reason, letter.original)),
                *(word for write in writes for word in (len(write), *write)),
            )
            if begin is None:
                return connection.exchange(ack)
            names = [keys.leases, keys.claims]
            return connection.exchange(ack, connection.script("begin", names, begin.id, begin.token, self.lease_ms))

        try:
            ours, *begun = self._persist(attempt)
        except QueueMisuse as error:
            if not writes:
                raise
            raise SinkUnavailable(str(error)) from error
        if begin is not None:
            begin.begun = bool(begun[0])
        if not ours:
            raise LeaseLost(f"batch {claim.id} was taken over before its ack")

    def release(self, claim: Claim) -> None:
        """Gives the batch back, whole and under its id, for whoever comes next; the attempt is not counted."""
        keys = self.keys
        self.ask_script("release", [keys.leases, keys.claims], [claim.id, claim.token])

    def split(self, claim: Claim, *, attempts: int) -> None:
        """Parts a batch that keeps killing its consumers in two halves, to find the record that does it.

        The halves go to whoever comes next, with so many `attempts` counted already. Their ids are made from the
        batch's own. Raises LeaseLost.
        """
        keys = self.keys
        halves = [f"{claim.id}a", f"{claim.id}b"]
        (ours,) = self.ask_script(
            "split",
            [keys.leases, keys.claims, *map(keys.batch, halves), *keys.parts(claim.id, claim.steps)],
            [claim.id, claim.token, *halves, attempts],
        )
        # Sent again after a lost reply it finds the lease gone, which is as good: the halves are there.
        self.overdue = True
        if not ours and not self.ask(("EXISTS", keys.batch(halves[0])))[0]:
            raise LeaseLost(f"batch {claim.id} was taken over")
