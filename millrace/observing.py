"""Observing: looks at many flows again and again, and tells rates, ages and who works on each."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Sequence
from typing import Any

import msgspec

from millrace.bottleneck import Load, bottleneck
from millrace.meter import Meter
from millrace_pipeline.errors import QueueError, QueueUnavailable
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import Books, Lease, Session
from millrace_pipeline.queue.books import books_with
from millrace_pipeline.queue.frontier.books import CrawlBooks, all_crawl_books
from millrace_pipeline.queue.presence import CrawlProgress, Missing, Presence, presences, summed
from millrace_pipeline.queue.troubles import Trouble, troubles_in
from millrace_pipeline.queue.waiting import Waiting, came, done

SURE_SECONDS = 3.0
"""Batches come in bursts: what was seen of a flow for a shorter time says less than what its consumers say."""

GONE_SECONDS = 60.0
"""One that is silent, and holds nothing, is shown for so long."""


class ConsumerSeen(msgspec.Struct, omit_defaults=True):
    """A consumer of a flow: what it holds, and what it says of itself, where it does."""

    name: str
    in_flight: int = 0
    held_seconds: float = 0.0
    """How long it has had the oldest batch that it holds."""
    attempts: int = 0
    """Of its batches the most."""
    out_a_second: float | None = None
    write_share: float | None = None
    cpu_share: float | None = None
    restarts: int | None = None
    up_seconds: float | None = None
    trouble: str = ""
    trouble_since: float = 0.0
    missing: list[Missing] = []
    """Sinks that aren't required and take nothing from it."""
    silent_seconds: float = 0.0
    """Since when nothing was heard of it, where it should have spoken; 0 where all is well."""

    @property
    def works(self) -> bool:
        """Return True where it is there, as far as anybody can tell."""
        return not self.silent_seconds


class ProducerSeen(msgspec.Struct, omit_defaults=True):
    """A producer of a flow, as it says of itself."""

    name: str
    restarts: int = 0
    up_seconds: float = 0.0
    cpu_share: float | None = None
    crawl: CrawlProgress | None = None
    silent_seconds: float = 0.0
    """Since when nothing was heard of it, where it should have spoken; 0 where all is well."""


class FlowSeen(msgspec.Struct):
    """A flow as it was when it was last looked at."""

    name: str
    key: str
    books: Books | None = None
    in_a_second: float = 0.0
    out_a_second: float = 0.0
    bytes_in_a_second: float = 0.0
    bytes_out_a_second: float = 0.0
    age_seconds: float = 0.0
    """Since the oldest record that waits was published."""
    age_known: str = ""
    """Empty where that is so to about a second, `<=` or `>=` where it is a bound."""
    untaken_seconds: float = 0.0
    """Since the oldest record that nobody has taken yet was published; 0 where there is none, or it can't be told."""
    consumers: list[ConsumerSeen] = []
    producers: list[ProducerSeen] = []
    troubles: list[Trouble] = []
    """What keeps the source from giving anything."""
    crawls: list[CrawlBooks] = []
    """Those that spiders share, the newest first."""
    bottleneck: str = ""
    unreachable: str = ""
    """Why Redis couldn't be asked; all else is then from before."""
    unreachable_since: float = 0.0

    @property
    def missing(self) -> list[Missing]:
        """Return which sinks that aren't required take nothing, of all consumers."""
        return summed(missing for one in self.consumers for missing in one.missing)

    @property
    def crawl_progress(self) -> CrawlProgress | None:
        """Return how far its source's crawl has come, where one of its own is under way."""
        return next((one.crawl for one in self.producers if one.crawl and not one.silent_seconds), None)

    @property
    def trouble(self) -> str:
        """Return what is in the way of it."""
        told = (one.trouble for one in self.consumers if one.trouble)
        return self.unreachable or next(told, "") or next((f"{one.part}: {one.reason}" for one in self.troubles), "")

    @property
    def trouble_since(self) -> float:
        """Since when, in seconds since 1970; 0 where that isn't known."""
        if self.unreachable:
            return self.unreachable_since
        if any(one.trouble for one in self.consumers) or not self.troubles or not self.books:
            return min((one.trouble_since for one in self.consumers if one.trouble_since), default=0.0)
        return self.books.moment - self.troubles[0].since_seconds


class Observer:
    """Looks at these flows. Each look is one question to Redis a flow, which changes nothing."""

    def __init__(self, url: str, flows: Sequence[Flow], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._flows = [_Watched(Session(url, flow.queue.list_name), flow, clock) for flow in flows]

    def look(self, names: Container[str] | None = None) -> list[FlowSeen]:
        """Look at all of them, or at these. Where Redis doesn't answer for one, the others are not waited for."""
        away: QueueUnavailable | None = None
        for watched in self._flows:
            if names is not None and watched.seen.name not in names:
                continue
            if away is not None:
                watched.unreachable(away)
                continue
            try:
                watched.look()
            except QueueUnavailable as error:
                away = error
                watched.unreachable(error)
            except QueueError as error:
                watched.unreachable(error)
        return self.seen

    @property
    def seen(self) -> list[FlowSeen]:
        """The flows as they were at the last look; before the first, without counts."""
        return [watched.seen for watched in self._flows]

    def close(self) -> None:
        """Drop the connections."""
        for watched in self._flows:
            watched.close()


class _Watched:
    """One flow, and what was seen of it before."""

    def __init__(self, queue: Session, flow: Flow, clock: Callable[[], float]) -> None:
        queue.give_up.set()  # a person is waiting: an outage is said, and not waited out
        self.seen = FlowSeen(flow.name, flow.queue.key, consumers=[])
        self._queue = queue
        self._clock = clock
        self._in, self._out = Meter(), Meter()
        self._read, self._written = Meter(), Meter()
        self._waiting = Waiting(tells_time=bool(flow.source.options.get("time")))

    def look(self) -> None:
        keys = self._queue.keys
        asked = (("HGETALL", name) for name in (keys.consumers, keys.producers, keys.troubles))
        books, (found, producers, troubles, tail) = books_with(self._queue, *asked, ("LINDEX", keys.ready, -1))
        now = self._clock()
        self._waiting.saw(now, there := came(books))
        seen = FlowSeen(
            self.seen.name, self.seen.key, books, self._in.rate(now, there), self._out.rate(now, done(books))
        )
        seen.bytes_in_a_second = self._read.rate(now, books.bytes_in)
        seen.bytes_out_a_second = self._written.rate(now, books.bytes_out)
        seen.age_seconds, seen.age_known = self._waiting.age(books, now)
        seen.untaken_seconds = self._waiting.untaken(books, tail, now)
        seen.consumers = consumers_seen(books.leases, presences(found, round(books.moment * 1000)))
        seen.producers = producers_seen(presences(producers, round(books.moment * 1000)))
        seen.troubles = troubles_in(troubles, round(books.moment * 1000))
        seen.crawls = all_crawl_books(self._queue)
        if self._out.seconds < SURE_SECONDS:
            theirs = sum(one.out_a_second or 0.0 for one in seen.consumers if one.works)
            seen.out_a_second = max(seen.out_a_second, theirs)
        seen.bottleneck = bottleneck(load_of(seen))
        self.seen = seen

    def unreachable(self, error: Exception) -> None:
        since = self.seen.unreachable_since if self.seen.unreachable else time.time()
        seen = msgspec.structs.replace(self.seen, unreachable=str(error), unreachable_since=since)
        seen.bottleneck = "Redis doesn't answer"
        self.seen = seen
        self._queue.close()

    def close(self) -> None:
        self._queue.close()


def load_of(seen: FlowSeen) -> Load:
    """Return what the bottleneck is told from."""
    books = seen.books
    assert books is not None
    there = [one for one in seen.consumers if one.works]
    shares = [(one.write_share, one.cpu_share) for one in there]
    writes = [write for write, _ in shares if write is not None]
    computes = [compute for _, compute in shares if compute is not None]
    return Load(
        books.ready,
        books.in_flight,
        seen.in_a_second,
        seen.out_a_second,
        len(there),
        sum(writes) / len(writes) if writes else None,
        sum(computes) / len(computes) if computes else None,
        next((one.trouble for one in there if one.trouble), ""),
        ", ".join(f"{part} {pause}" for part, pause in books.paused.items()),
    )


def consumers_seen(leases: Sequence[Lease], there: Sequence[Presence]) -> list[ConsumerSeen]:
    """The consumers that hold batches, and those that say that they are there."""
    found: dict[str, ConsumerSeen] = {}
    for presence in there:
        doing = presence.doing
        if presence.silent and presence.silent_seconds > GONE_SECONDS + doing.every:
            continue  # killed, and perhaps started again under another name
        one = found[doing.name] = ConsumerSeen(doing.name)
        one.restarts = presence.starts - 1
        one.up_seconds = doing.up_seconds
        one.silent_seconds = round(presence.silent_seconds, 1) if presence.silent else 0.0
        if not presence.silent:
            one.write_share, one.cpu_share = doing.write_share, doing.cpu_share
            one.out_a_second = doing.records_a_second
            one.trouble, one.trouble_since, one.missing = doing.trouble, doing.trouble_since, doing.missing
    for lease in leases:
        if lease.delayed:
            continue  # nobody holds it
        one = found.setdefault(lease.consumer, ConsumerSeen(lease.consumer))
        one.in_flight += lease.records
        one.held_seconds = max(one.held_seconds, lease.age_seconds)
        one.attempts = max(one.attempts, lease.attempts)
        one.trouble = one.trouble or lease.note
        if lease.seconds_left < 0 and one.write_share is None:
            one.silent_seconds = max(one.silent_seconds, -lease.seconds_left)
    return sorted(found.values(), key=lambda one: one.name)


def producers_seen(there: Sequence[Presence]) -> list[ProducerSeen]:
    """The producers that say that they are there, or did so until a moment ago."""
    return [
        ProducerSeen(
            one.doing.name,
            one.starts - 1,
            one.doing.up_seconds,
            None if one.silent else one.doing.cpu_share,
            one.doing.crawl,
            round(one.silent_seconds, 1) if one.silent else 0.0,
        )
        for one in there
        if not one.silent or one.silent_seconds <= GONE_SECONDS + one.doing.every
    ]


def as_dict(seen: FlowSeen) -> dict[str, Any]:
    """All that was seen of a flow, as JSON can say it."""
    told: dict[str, Any] = msgspec.to_builtins(seen)
    told["books"] = seen.books.as_dict() if seen.books else None
    told["crawls"] = [crawl.as_dict() for crawl in seen.crawls]
    told["crawl_progress"] = msgspec.to_builtins(seen.crawl_progress)
    told["missing"] = msgspec.to_builtins(seen.missing)
    told["trouble"], told["trouble_since"] = seen.trouble, seen.trouble_since
    return told
