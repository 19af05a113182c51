"""Claiming: how batches are taken off the list, held under a lease, and done with."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.errors import LeaseLost, QueueFull, QueueMisuse, QueueUnavailable, SinkUnavailable
from millrace_pipeline.queue.diskwatch import DiskWatch
from millrace_pipeline.queue.session import SESSION_SECONDS, Fsync, Session
from millrace_pipeline.redis.connection import Command, Posted

FULL_POLL_SECONDS = 0.25

DEEPEST = 1024
"""At most so many batches are claimed ahead, however long the disk takes."""

DEEPER = 4
"""So many times as many are claimed ahead at each wait for the disk. A wait takes more than a second: were it twice
as many, ten of them would go by."""


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
    moment: int = 0
    """The round of the disk watch after which the claim is on disk; 0 where nobody asks, or it is known to be."""


class _Asked(msgspec.Struct):
    """A batch that was asked for ahead of its time; `held` is how many records it has, once that is known."""

    number: int
    records: int
    posted: Posted | None
    held: int | None = None
    moment: int = 0
    fetching: Posted | None = None


class Claiming(Session):
    """The consumer's half of a queue. One thread at a time claims, one acks; others may renew and release."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        lease_seconds: float = 60.0,
        replicas: int = 0,
        fsync: Fsync = "off",
        give_up: threading.Event | None = None,
    ) -> None:
        super().__init__(url, key, replicas=replicas, fsync=fsync, give_up=give_up)
        self.lease_ms = int(lease_seconds * 1000)
        self.overdue = True
        """Whether some lease had run out when the last claim looked; at the start nobody knows."""
        self._claims = 0  # the number of the last claim that was asked for
        self._reclaims = 0
        self._ahead: deque[_Asked] = deque()
        self._depth = 1  # so many batches are asked for ahead
        self._claimed_disk = self._disk() if fsync == "write" else None
        self._watch = DiskWatch(self._confirm_claims, key) if fsync == "write" else None

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
        if (claim := self._claim_asked_for()) is not None:
            return claim
        while True:
            number = self._claims = self._claims + 1
            (held, overdue), lines = self._persist(lambda number=number: self._exchange_claim(number, records))  # type: ignore[misc]
            self.overdue = bool(overdue)
            if held == 0:
                self._claims = number - 1
                return None
            claim = Claim(*self._names(number), 1, 1, lines, moment=self._moment())
            if held == len(lines) and self._holds(claim):
                return claim
            # The reply was lost for longer than the lease: the batch is someone else's now. Take another.

    def claim_ahead(self, records: int) -> None:
        """Asks for the next batch without waiting for the answer, which the next `claim` returns.

        So Redis works while we do. The batch is under our lease from now on, but no attempt is counted until it is
        begun: by the ack of the batch before it, or by `begin`. Where a claim must be on disk before it is written to
        a sink, so many are asked for ahead that none has to be waited for.
        """
        with suppress(QueueUnavailable):  # `claim` asks again
            self._learn_all()
            self._post_ahead(records)
            first = self._ahead[0]
            if self._watch and first.held and first.fetching is None and self._watch.has_ended(first.moment):
                first.fetching = self._connection.post(*self._fetch_commands(first))

    def keep_ahead(self) -> None:
        """Extends the leases on what was claimed ahead, as far as it is ours: all in one exchange."""
        self._ask_of_each("renew", tuple(self._ahead), self.lease_ms, "")

    def release_ahead(self) -> None:
        """Gives back what was claimed ahead: all in one exchange."""
        given: list[_Asked] = []
        with suppress(IndexError):  # another thread may take of it meanwhile
            while True:
                given.append(self._ahead.pop())  # the youngest first, so that what is older is taken first
        self._ask_of_each("release", given)

    @property
    def has_ahead(self) -> bool:
        """Whether a batch was claimed ahead."""
        return bool(self._ahead)

    def secure(self, claim: Claim) -> None:
        """Returns once the claim, and with it the publish of its records, is on Redis' disk, where that is asked for.

        Raises LeaseLost where Redis has lost the claim meanwhile: its records come again, in another batch.
        """
        if self._watch and claim.moment:
            self._wait_for_disk(claim.moment)
            claim.moment = 0
            ours, held = self._renewed(claim)[:2]
            if not ours or held is None or msgspec.json.decode(held)["steps"] != claim.steps:
                raise LeaseLost(f"batch {claim.id} was taken over, or Redis has forgotten that it was ours")

    def begin(self, claim: Claim) -> None:
        """Counts the attempt of a batch that was claimed ahead, unless that is done. Raises LeaseLost."""
        if not claim.begun:
            keys = self.keys
            (ours,) = self.ask_script("begin", [keys.leases, keys.claims], [claim.id, claim.token, self.lease_ms])
            if not ours:
                raise LeaseLost(f"batch {claim.id} was taken over before it was begun")
            claim.begun = True

    def close(self) -> None:
        """Drops the connections that are this session's or this thread's."""
        super().close()
        if self._watch:
            self._watch.close()

    def _confirm_claims(self, stop: threading.Event) -> list[Any] | None:
        disk = self._claimed_disk
        assert disk is not None
        return self._persist(lambda: disk.confirm(stop=stop))

    def _moment(self) -> int:
        return self._watch.moment() if self._watch else 0

    def _ask_of_each(self, script: str, ahead: Sequence[_Asked], *arguments: Any) -> None:
        """Run a script for each of these claims."""
        if ahead:
            names = [self.keys.leases, self.keys.claims]
            self._persist(
                lambda: self._connection.exchange(
                    *(self._connection.script(script, names, *self._names(asked.number), *arguments) for asked in ahead)
                )
            )

    def _wait_for_disk(self, moment: int) -> None:
        """Return once that round of the disk watch has ended.

        Where that takes waiting, and there is more on the list, too little was claimed ahead: claim more before the
        wait, so that it serves them, too.
        """
        assert self._watch is not None
        if self._ahead and not self._watch.has_ended(moment):
            self._depth = min(DEEPER * self._depth, DEEPEST)
            with suppress(QueueUnavailable, IndexError):  # who needs one asks again; or all was given back
                self._post_ahead(self._ahead[-1].records)
                self._learn_all()
        self._watch.wait(moment)

    def _post_ahead(self, records: int) -> None:
        """Ask for as many batches ahead as should be. Raises QueueUnavailable."""
        while len(self._ahead) < self._depth:
            number = self._claims = self._claims + 1
            self._ahead.append(asked := _Asked(number, records, None))
            asked.posted = self._connection.post(*self._claim_commands(number, records, attempts=0))

    def _learn_all(self) -> None:
        """Learn how many records the claims ahead have. Raises QueueUnavailable."""
        for asked in tuple(self._ahead):
            self._learn(asked)

    def _names(self, number: int) -> tuple[str, str]:
        """The id and the token of our claim of that number."""
        return f"{self.session}-{number:06d}", f"{self.session}.claim.{number}"

    def _claim_asked_for(self) -> Claim | None:
        """The oldest of the batches that were asked for ahead and that have records."""
        while self._ahead:
            asked = self._ahead[0]
            lines = self._fetch(asked) if self._watch else self._answer(asked)
            try:
                self._ahead.popleft()
            except IndexError:
                return None  # another thread has given it back meanwhile
            if not asked.held:
                self._depth = 1  # we have come to the end of the list: what is ahead is for all
                continue
            claim = Claim(*self._names(asked.number), 1, 1, lines, begun=False)
            if asked.held == len(lines) and (self._watch or self._holds(claim)):
                return claim
        return None

    def _answer(self, asked: _Asked) -> list[bytes]:
        """Learn what became of a claim ahead, and return its lines."""
        found = None
        with suppress(QueueUnavailable):
            found = asked.posted and self._connection.collect(asked.posted)
        (asked.held, overdue), lines = found or self._persist(
            lambda: self._exchange_claim(asked.number, asked.records, attempts=0)
        )
        self.overdue = bool(overdue)
        return lines  # type: ignore[no-any-return]

    def _learn(self, asked: _Asked) -> None:
        """Learn how many records a claim ahead has, where claims are watched. Raises QueueUnavailable."""
        if self._watch and asked.held is None and asked.posted is not None:
            found = self._connection.collect(asked.posted)
            if found is None:
                found = self._connection.exchange(*self._claim_commands(asked.number, asked.records, attempts=0))
            ((asked.held, overdue), *_) = found
            self.overdue = bool(overdue)
            asked.moment = self._moment()

    def _fetch(self, asked: _Asked) -> list[bytes]:
        """Return the lines of a claim ahead once it is on disk; none where it is not ours any more."""
        assert self._watch is not None
        if asked.posted is None:
            asked.posted = Posted(0)
        self._persist(lambda: self._learn(asked))
        if not asked.held or asked.held < 0:
            asked.held = 0
            return []
        self._wait_for_disk(asked.moment)
        found = None
        with suppress(QueueUnavailable):
            found = asked.fetching and self._connection.collect(asked.fetching)
        ours, _, lines = found or self._persist(lambda: self._connection.exchange(*self._fetch_commands(asked)))
        return lines if ours else []

    def _claim_commands(self, number: int, records: int, *, attempts: int) -> list[Command]:
        id, token = self._names(number)
        keys = self.keys
        claim = self._connection.script(
            "claim",
            [keys.ready, keys.woken, keys.leases, keys.claims, keys.counters, self._session_key, keys.batch(id)],
            *(id, token, number, records, self.lease_ms, self.name, SESSION_SECONDS, attempts),
        )
        # What must be on disk first is fetched when it is: until then it needn't lie in our memory.
        deep = self._watch is not None and attempts == 0
        return [claim] if deep else [claim, ("LRANGE", keys.batch(id), 0, -1)]

    def _fetch_commands(self, asked: _Asked) -> list[Command]:
        id, token = self._names(asked.number)
        keys = self.keys
        renew = self._connection.script("renew", [keys.leases, keys.claims], id, token, self.lease_ms, "")
        return [renew, ("HGET", keys.claims, id), ("LRANGE", keys.batch(id), 0, -1)]

    def _exchange_claim(self, number: int, records: int, *, attempts: int = 1) -> list[Any]:
        return self._connection.exchange(*self._claim_commands(number, records, attempts=attempts))

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
            claim.moment = self._moment()
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
        claim = Claim(id, token, attempts, steps, lines, moment=self._moment())
        return claim if self._holds(claim) else None

    def _holds(self, claim: Claim) -> bool:
        """Returns True once enough replicas hold the claim; False where a failover lost it, or another has it by now.

        A claim that a failover loses puts its records back on the list, for another batch with another id. If a sink
        had seen them by then, it would write them twice.
        """
        while self._replicas.wanted:
            ours, held, holding = self._renewed(claim)
            if not ours or held is None or msgspec.json.decode(held)["steps"] != claim.steps:
                return False
            if self._replicas.enough(holding):
                break
            if self.give_up.is_set():
                raise QueueUnavailable(self._replicas.shortage)
        return True

    def _renewed(self, claim: Claim) -> list[Any]:
        """Extend the lease. Returns 1 or 0, what is known of the claim, and with replicas how many hold it."""
        keys = self.keys
        arguments = [claim.id, claim.token, self.lease_ms, ""]
        behind = ("HGET", keys.claims, claim.id)
        return self.ask_script("renew", [keys.leases, keys.claims], arguments, behind, *self._replicas.wait)

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
