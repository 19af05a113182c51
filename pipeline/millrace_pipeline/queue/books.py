"""The books of a flow: what was published, and where every record of it is now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from millrace_pipeline.envelope import decode
from millrace_pipeline.errors import EnvelopeError
from millrace_pipeline.queue.pausing import Part, Pause, pauses_in
from millrace_pipeline.queue.replies import milliseconds, pairs
from millrace_pipeline.queue.session import Session
from millrace_pipeline.redis.connection import Command

COUNTED = (
    *("published", "foreign", "delivered", "filtered", "ready", "in_flight", "dead", "discarded", "variants"),
    *("foreign_waiting", "delayed", "astray", "bytes_in", "bytes_out"),
)
"""What the books count, and what may be added up."""


class Lease(msgspec.Struct, frozen=True):
    """A batch in flight: how many records, in whose hands, for how long already, and for how long still."""

    batch: str
    consumer: str
    records: int
    attempts: int
    age_seconds: float
    seconds_left: float
    note: str = ""
    """What keeps it waiting, where its consumer said so."""
    delayed: bool = False
    """Put off: nobody holds it, nor may take it for `seconds_left`."""


class Books(msgspec.Struct, frozen=True):
    """All counts are in records as published, taken at one instant of Redis."""

    published: int
    foreign: int
    delivered: int
    filtered: int
    ready: int
    in_flight: int
    """In batches that consumers hold, or left behind."""
    dead: int
    discarded: int
    oldest_seconds: float
    """Age of the oldest record that is ready or in flight, by its envelope's time; 0 where there is none."""
    leases: list[Lease]
    checkpoints: dict[str, Any]
    variants: int = 0
    foreign_waiting: int = 0
    """Of the ready and in flight those that somebody else pushed; they count as `foreign` once they are acked."""
    delayed: int = 0
    """Records that are put off, to be tried again; they are not among `in_flight`."""
    moment: float = 0.0
    """The instant, in seconds since 1970 by Redis' clock."""
    unread: int | None = None
    """Records that waited and that an audit couldn't look at one by one; None where nobody tried."""
    paused: dict[Part, Pause] = {}
    """What people have paused, since when and who."""
    astray: int = 0
    """Of an audit: records in batches beyond those that the batches took; below 0 they are gone."""
    bytes_in: int = 0
    """Bytes of what was published, as it stood on the list."""
    bytes_out: int = 0
    """Bytes of what consumers are done with."""

    @property
    def lag(self) -> int:
        """Records that are on the list and not yet delivered."""
        return self.ready + self.in_flight + self.delayed

    @property
    def difference(self) -> int:
        """What is accounted for beyond what was published: 0 is balanced, below 0 is loss.

        Of what others pushed nobody knows how much it was; but a batch knows what it took, and what is astray of that.

        Above 0 it is doubles where it is `exact`; else it may as well be records that others pushed and that no
        consumer has acked yet.
        """
        held = self.delivered + self.filtered + self.lag + self.dead + self.variants + self.discarded
        return held - self.published - self.foreign - self.foreign_waiting or self.astray

    @property
    def exact(self) -> bool:
        """True where each record that waits was looked at, or none does: every difference is a loss or a double."""
        return self.unread == 0 or self.lag == 0

    def as_dict(self) -> dict[str, Any]:
        """Everything above as JSON can say it."""
        return {**msgspec.to_builtins(self), "lag": self.lag, "difference": self.difference}


def sum_of(books: Sequence[Books]) -> Books:
    """Return the books of a flow from those of its partitions, each of an instant of its own."""
    if len(books) == 1:
        return books[0]
    counts = {name: sum(getattr(found, name) for found in books) for name in COUNTED}
    unread = [found.unread for found in books if found.unread is not None]
    return Books(
        **counts,
        oldest_seconds=max(found.oldest_seconds for found in books),
        leases=[lease for found in books for lease in found.leases],
        checkpoints={name: position for found in books for name, position in found.checkpoints.items()},
        moment=min(found.moment for found in books),
        unread=sum(unread) if unread else None,
        paused={part: pause for found in books for part, pause in found.paused.items()},
    )


def age_of(line: bytes | None, now_ms: int) -> float:
    """Seconds since the `time` of the envelope in these bytes; 0 where it has none that can be read."""
    if line is None:
        return 0.0
    try:
        moment = msgspec.convert(decode(line, foreign_id=str).time, datetime)
    except (EnvelopeError, msgspec.ValidationError):
        return 0.0
    return max(0.0, now_ms / 1000 - moment.timestamp())


def leases_from(claims: Mapping[bytes, bytes], deadlines: Mapping[bytes, float], now_ms: int) -> list[Lease]:
    """The leases, oldest first, from the two keys that hold them."""
    held = [(id.decode(), msgspec.json.decode(text), deadlines.get(id, 0.0)) for id, text in claims.items()]
    return sorted(
        (
            Lease(
                id,
                claim["consumer"],
                int(claim["records"]),
                int(claim["attempts"]),
                max(0.0, (now_ms - claim["since"]) / 1000),
                (deadline - now_ms) / 1000,
                claim.get("note", ""),
                bool(claim.get("delayed")),
            )
            for id, claim, deadline in held
        ),
        key=lambda lease: -lease.age_seconds,
    )


def books_of(session: Session) -> Books:
    """Return where every record is, at one instant."""
    return books_with(session)[0]


def books_with(session: Session, *more: Command) -> tuple[Books, list[Any]]:
    """Return the books, and the replies to commands of the same instant, which only look."""
    keys = session.keys
    replies = session.ask_at_once(
        ("LLEN", keys.ready),
        ("LLEN", keys.woken),
        ("XLEN", keys.dead),
        ("LLEN", keys.variants),
        ("HGETALL", keys.counters),
        ("HGETALL", keys.claims),
        ("ZRANGE", keys.leases, 0, -1, "WITHSCORES"),
        ("HGETALL", keys.checkpoints),
        ("LINDEX", keys.ready, -1),
        ("HGETALL", keys.steering),
        ("TIME",),
        *more,
    )
    ready, woken, dead, variants, counters, claims, deadlines, checkpoints, oldest, steering, clock, *found = replies
    count = {name.decode(): int(value) for name, value in pairs(counters).items()}
    now_ms = milliseconds(clock)
    leases = leases_from(pairs(claims), {id: float(score) for id, score in pairs(deadlines).items()}, now_ms)
    delayed = sum(lease.records for lease in leases if lease.delayed)
    oldest_batch = session.ask(("LINDEX", keys.batch(leases[0].batch), 0))[0] if leases else None
    books = Books(
        published=count.get("published", 0),
        foreign=count.get("foreign", 0),
        delivered=count.get("delivered", 0),
        filtered=count.get("filtered", 0),
        ready=ready + woken,
        in_flight=count.get("in_flight", 0) - delayed,
        delayed=delayed,
        dead=dead,
        discarded=count.get("discarded", 0),
        oldest_seconds=max(age_of(oldest, now_ms), age_of(oldest_batch, now_ms)),
        leases=leases,
        checkpoints={name.decode(): msgspec.json.decode(value) for name, value in pairs(checkpoints).items()},
        variants=variants,
        moment=now_ms / 1000,
        paused=pauses_in(steering),
        bytes_in=count.get("bytes_in", 0),
        bytes_out=count.get("bytes_out", 0),
    )
    return books, found
