"""Leases: what a consumer says of the batches that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.errors import LeaseLost, QueueMisuse, QueueUnavailable, SinkUnavailable
from millrace_pipeline.queue.claim import Claim
from millrace_pipeline.queue.pausing import Paused
from millrace_pipeline.queue.session import SESSION_SECONDS, Session
from millrace_pipeline.queue.tap import Tap
from millrace_pipeline.redis.connection import Command


class Leases:
    """Renews, acks and gives back; `seconds` is how long a batch stays ours without a word from us.

    One thread at a time acks; others may renew and release.
    """

    def __init__(self, session: Session, seconds: float = 60.0) -> None:
        self.session = session
        self.ms = int(seconds * 1000)
        self.tap = Tap(session, session.keys.tap_out)
        self.overdue = True
        """Whether some lease had run out when the last claim looked; at the start nobody knows."""
        self.paused = Paused("consumers", session.keys.ready)
        """Whether we are to stand still, as the last claim heard."""
        self.behind = False
        """Whether nothing may be taken before another batch is done with, as the last claim heard."""

    def hear(self, overdue: int, paused: bytes | None = None, behind: int = 0) -> None:
        """Take note of what a claim was told beside its records."""
        self.overdue = bool(overdue)
        self.paused.hear(paused)
        self.behind = bool(behind)

    def begin(self, claim: Claim) -> None:
        """Count the attempt of a batch that was claimed ahead, unless that is done. Raises LeaseLost."""
        if not claim.begun:
            if not self._ask("begin", claim, self.ms):
                raise LeaseLost(f"batch {claim.id} was taken over before it was begun")
            claim.begun = True

    def renew(self, claim: Claim, note: str = "") -> None:
        """Extend the lease; a `note` tells people what keeps the batch waiting. Raises LeaseLost."""
        if not self._ask("renew", claim, self.ms, note):
            raise LeaseLost(f"batch {claim.id} was taken over")

    def release(self, claim: Claim) -> None:
        """Give the batch back, whole and under its id, for whoever comes next; the attempt is not counted."""
        self._ask("release", claim, 0, "")

    def put_off(self, claim: Claim, ms: int, note: str) -> None:
        """Give the batch back, whole and under its id, for whoever comes after so long; the attempt counts."""
        self._ask("release", claim, ms, note)

    def abandon(self, claim: Claim, note: str) -> None:
        """Give a batch up after a failure: whoever comes next may take it at once, and the attempt counts.

        The note is shown with the batch until then. A batch that is not ours is left alone.
        """
        self._ask("renew", claim, 0, note)

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
        """The batch is durable: drop it, set its dead letters aside and move the counters, in one step.

        Each record of the batch is either delivered, filtered or dead; `foreign` says how many of them were not
        published by us. `writes` are what a sink has to say to this very Redis: LPUSH, RPUSH, XADD or HSET, a key, and
        at most a few thousand arguments each; they are carried out in the same step. `begin` is a batch that
        was claimed ahead and comes next.

        Raises LeaseLost where the batch is no longer ours, SinkUnavailable where Redis won't have the writes; then
        nothing was changed.
        """
        if delivered + filtered + len(dead) != len(claim.lines):
            raise ValueError(f"{len(claim.lines)} records, but {delivered} + {filtered} + {len(dead)} accounted for")
        keys = self.session.keys
        parts = keys.parts(claim.id, claim.steps)
        size = sum(map(len, claim.lines))
        self.session.history.note()

        def attempt() -> list[Any]:
            connection = self.session.connection
            ack = connection.script(
                "ack",
                [
                    *(keys.leases, keys.claims, keys.counters, self.session.key, keys.dead),
                    *parts,
                    *dict.fromkeys(write[1] for write in writes),
                ],
                *(claim.id, claim.token, delivered, filtered, foreign, size, SESSION_SECONDS, len(parts), len(dead)),
                *(part for letter in dead for part in (letter.reason, letter.original)),
                *(word for write in writes for word in (len(write), *write)),
            )
            scripts = [ack]
            if begin is not None:
                names = [keys.leases, keys.claims]
                scripts.append(connection.script("begin", names, begin.id, begin.token, self.ms))
            question = self.tap.question()
            replies = connection.exchange(*scripts, *question, may_fail=len(question))
            self.tap.hear(replies[len(scripts) :])
            return replies[: len(scripts)]

        try:
            ours, *begun = self.session.persist(attempt)
        except QueueMisuse as error:
            if not writes:
                raise
            raise SinkUnavailable(str(error)) from error
        if begin is not None:
            begin.begun = bool(begun[0])
        if not ours:
            raise LeaseLost(f"batch {claim.id} was taken over before its ack")

    def split(self, claim: Claim, *, attempts: int) -> None:
        """Part a batch that keeps killing its consumers in two halves, to find the record that does it.

        The halves go to whoever comes next, with so many `attempts` counted already. Their ids are made from the
        batch's own. Raises LeaseLost.
        """
        keys = self.session.keys
        halves = [f"{claim.id}a", f"{claim.id}b"]
        (ours,) = self.session.ask_script(
            "split",
            [keys.leases, keys.claims, *map(keys.batch, halves), *keys.parts(claim.id, claim.steps)],
            [claim.id, claim.token, *halves, attempts],
        )
        # Sent again after a lost reply it finds the lease gone, which is as good: the halves are there.
        self.overdue = True
        if not ours and not self.session.ask(("EXISTS", keys.batch(halves[0])))[0]:
            raise LeaseLost(f"batch {claim.id} was taken over")

    def holds(self, claim: Claim) -> bool:
        """Extend the lease. Returns False where it is not ours, or Redis knows of another claim than this one."""
        return self._extend(claim)[0]

    def is_replicated(self, claim: Claim) -> bool:
        """Return True once enough replicas hold the claim; False where a failover lost it, or another has it by now.

        A claim that a failover loses puts its records back on the list, for another batch with another id. If a sink
        had seen them by then, it would write them twice.
        """
        while self.session.replicas.wanted:
            ours, holding = self._extend(claim)
            if not ours:
                return False
            if self.session.replicas.enough(holding):
                break
            if self.session.give_up.is_set():
                raise QueueUnavailable(self.session.replicas.shortage)
        return True

    def _extend(self, claim: Claim) -> tuple[bool, int]:
        """Extend the lease. Returns whether it is ours, as we know it, and how many replicas hold that."""
        keys = self.session.keys
        ours, known, *holding = self.session.ask_script(
            "renew",
            [keys.leases, keys.claims],
            [claim.id, claim.token, self.ms, ""],
            ("HGET", keys.claims, claim.id),
            *self.session.replicas.wait,
        )
        claimed = msgspec.json.decode(known) if known is not None else {}
        well = bool(ours) and (claimed.get("steps"), claimed.get("records")) == (claim.steps, len(claim.lines))
        return well, sum(holding)

    def _ask(self, script: str, claim: Claim, *arguments: Any) -> Any:
        """Run a script on the lease of a batch."""
        names = [self.session.keys.leases, self.session.keys.claims]
        return self.session.ask_script(script, names, [claim.id, claim.token, *arguments])[0]
