"""Claim: a batch under our lease, and what is said to Redis to get one."""

from __future__ import annotations

import msgspec

from millrace_pipeline.queue.session import SESSION_SECONDS, Session
from millrace_pipeline.redis.connection import Command


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
    unseen: bool = True
    """No sink has seen any of it, so records may still be taken out of it."""
    delays: int = 0
    """Of its attempts those that put it off, to be tried again later."""
    why: str = ""
    """Why the last of these did."""
    fills: int = 0
    """The fills that were asked for so far, counted whether they found something or not."""
    moment: int = 0
    """The round of the disk watch after which the claim is on disk; 0 where nobody asks, or it is known to be."""

    @property
    def deaths(self) -> int:
        """Return how many attempts before this one came to no end: who made them was killed, or stood still."""
        return max(0, self.attempts - 1 - self.delays)


_DELAYED = "-later-"


def delayed_id(session: str, number: int) -> str:
    """Return the id of the batch that a session puts off as its so many'th.

    It ends as any batch's id, in a number, so who takes ids apart sees it as one of another session.
    """
    return f"{session}{_DELAYED}{number:06d}"


def is_delayed(id: str) -> bool:
    """Return True where the batch, or the one that it was split off from, was put off."""
    return _DELAYED in id


class Asking:
    """Asks for batches by number, so that what is asked for twice is given once."""

    def __init__(self, session: Session, lease_ms: int) -> None:
        self._session = session
        self._lease_ms = lease_ms
        self.last = 0
        """The number of the last claim that was asked for."""

    def next(self) -> int:
        """Return the number of the next claim."""
        self.last += 1
        return self.last

    def claim(self, number: int, lines: list[bytes], *, begun: bool = True, moment: int = 0) -> Claim:
        """Return the claim of that number, with its records."""
        return Claim(*self.names(number), 1, 1, lines, begun, moment=moment)

    def names(self, number: int) -> tuple[str, str]:
        """Return the id and the token of our claim of that number."""
        return f"{self._session.id}-{number:06d}", f"{self._session.id}.claim.{number}"

    def claiming(self, number: int, records: int, *, attempts: int, fetch: bool = True) -> list[Command]:
        """Return the commands that claim so many records, and `fetch` them.

        The first replies how many there are, or less than 0 where the batch is someone else's by now; whether some
        lease has run out, who paused the consumers, where they are, and whether another batch must be done with first.
        """
        id, token = self.names(number)
        keys = self._session.keys
        claim = self._session.connection.script(
            "claim",
            [
                *(keys.ready, keys.woken, keys.leases, keys.claims, keys.counters, self._session.key),
                *(keys.batch(id), keys.steering),
            ],
            *(id, token, number, records, self._lease_ms, self._session.name, SESSION_SECONDS, attempts),
            int(self._session.in_order),
        )
        return [claim, ("LRANGE", keys.batch(id), 0, -1)] if fetch else [claim]

    def fetching(self, number: int) -> list[Command]:
        """Return the commands that extend the lease on a claim, look what is known of it, and fetch its records."""
        id, token = self.names(number)
        keys = self._session.keys
        renew = self._session.connection.script("renew", [keys.leases, keys.claims], id, token, self._lease_ms, "")
        return [renew, ("HGET", keys.claims, id), ("LRANGE", keys.batch(id), 0, -1)]
