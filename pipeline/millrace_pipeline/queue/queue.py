"""Queue: one flow's list in Redis, and everything that is ever said to it.

Each verb is one Lua file or one transaction, so it happens whole or not at all, and may be sent again after a lost
reply: the second time it changes nothing and answers the same.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from millrace_pipeline.queue.books import Books, age_of, leases_from
from millrace_pipeline.queue.publishing import Publishing
from millrace_pipeline.queue.session import Fsync
from millrace_pipeline.queue.settling import Settling
from millrace_pipeline.redis.connection import Command, raise_nested


class Queue(Publishing, Settling):
    """One flow's list, for one producer or consumer.

    `key` is the list's name, `lease_seconds` how long a batch stays ours without a word from us. A publish, and a batch
    that is taken, count only once so many `replicas` of Redis hold them. With `fsync` acknowledge `publishes_on_disk`
    waits for Redis' disk, with write `secure` does, too. Set `give_up` to make a call that waits out an
    outage raise QueueUnavailable instead. May be used from several threads, as long as one at a time publishes and one
    at a time claims.
    """

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
        super().__init__(url, key, lease_seconds=lease_seconds, replicas=replicas, fsync=fsync, give_up=give_up)

    def books(self) -> Books:
        """Where every record is, at one instant."""
        return self.books_with()[0]

    def books_with(self, *more: Command) -> tuple[Books, list[Any]]:
        """The books, and the replies to commands of the same instant, which only look."""
        keys = self.keys
        replies = self.ask(
            ("MULTI",),
            ("LLEN", keys.ready),
            ("LLEN", keys.woken),
            ("XLEN", keys.dead),
            ("LLEN", keys.variants),
            ("HGETALL", keys.counters),
            ("HGETALL", keys.claims),
            ("ZRANGE", keys.leases, 0, -1, "WITHSCORES"),
            ("HGETALL", keys.checkpoints),
            ("LINDEX", keys.ready, -1),
            ("TIME",),
            *more,
            ("EXEC",),
        )[-1]
        raise_nested(replies)
        ready, woken, dead, variants, counters, claims, deadlines, checkpoints, oldest, clock, *found = replies
        count = {name.decode(): int(value) for name, value in _pairs(counters).items()}
        now_ms = int(clock[0]) * 1000 + int(clock[1]) // 1000
        leases = leases_from(_pairs(claims), {id: float(score) for id, score in _pairs(deadlines).items()}, now_ms)
        oldest_batch = self.ask(("LINDEX", keys.batch(leases[0].batch), 0))[0] if leases else None
        books = Books(
            published=count.get("published", 0),
            foreign=count.get("foreign", 0),
            delivered=count.get("delivered", 0),
            filtered=count.get("filtered", 0),
            ready=ready + woken,
            in_flight=count.get("in_flight", 0),
            dead=dead,
            discarded=count.get("discarded", 0),
            oldest_seconds=max(age_of(oldest, now_ms), age_of(oldest_batch, now_ms)),
            leases=leases,
            checkpoints={name.decode(): msgspec.json.decode(value) for name, value in _pairs(checkpoints).items()},
            variants=variants,
        )
        return books, found


def _pairs(flat: Sequence[Any] | Mapping[Any, Any]) -> dict[Any, Any]:
    """A hash or a zset with scores as RESP2 returns it: names and values in turn."""
    if isinstance(flat, Mapping):
        return dict(flat)
    return dict(zip(flat[::2], flat[1::2], strict=True))
