"""The books of a crawl: what was found, and where every request of it is now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from millrace_pipeline.queue.frontier.keys import CrawlKeys
from millrace_pipeline.queue.pausing import Pause, pause_in
from millrace_pipeline.queue.replies import milliseconds, pairs
from millrace_pipeline.queue.session import Session

_ERROR = "error:"


class CrawlBooks(msgspec.Struct, frozen=True):
    """All counts are in requests, but for items; taken at one instant of Redis. The spider's start() is one of them."""

    crawl: str
    began: int
    """In milliseconds since 1970."""
    moment: int
    """The instant, by the same clock."""
    about: dict[str, Any]
    found: int
    done: int
    waiting: int
    in_flight: int
    delayed: int
    dead: int
    dropped: int
    """Dead ones that a person has thrown away."""
    duplicates: int
    """Requests that were not put on the frontier, since their fingerprint was seen."""
    seen: int
    """Fingerprints."""
    items: int
    items_dropped: int
    errors: dict[str, int]
    """How many pages failed, by the kind of error."""
    hosts: dict[str, int]
    """How many requests wait, by host; those with the most, ten at most."""
    stopped: str = ""
    paused: Pause | None = None

    @property
    def ready(self) -> int:
        """Requests that wait."""
        return self.waiting

    @property
    def over(self) -> bool:
        """True where nothing waits, nothing is in flight and nothing is delayed."""
        return not (self.waiting or self.in_flight or self.delayed)

    @property
    def difference(self) -> int:
        """What is accounted for beyond what was found: 0 is balanced, below 0 is loss."""
        held = self.done + self.waiting + self.in_flight + self.delayed + self.dead + self.dropped
        return held - self.found

    @property
    def time(self) -> datetime:
        """When it began."""
        return datetime.fromtimestamp(self.began / 1000, UTC)

    def as_dict(self) -> dict[str, Any]:
        """Everything above as JSON can say it."""
        return {**msgspec.to_builtins(self), "over": self.over, "difference": self.difference}


MOST_HOSTS = 1000
"""So many hosts are counted, those that wait for the longest, and the ten with the most are told of."""


def crawls_of(session: Session) -> list[str]:
    """Return the names of the flow's crawls, the newest first."""
    (found,) = session.ask(("HGETALL", session.keys.crawls))
    began = {name.decode(): int(moment) for name, moment in pairs(found).items()}
    return sorted(began, key=lambda name: (-began[name], name))


def all_crawl_books(session: Session) -> list[CrawlBooks]:
    """Return the books of the flow's crawls, the newest first."""
    found = [crawl_books(session, name) for name in crawls_of(session)]
    return [books for books in found if books is not None]


def crawl_books(session: Session, crawl: str) -> CrawlBooks | None:
    """Return where every request of a crawl is, at one instant; None where there is no such crawl."""
    keys = CrawlKeys(session.keys, crawl)
    found, waiting, in_flight, delayed, dead, clock, slots = session.ask_at_once(
        ("HGETALL", keys.crawl),
        *(("ZCARD", name) for name in (keys.waiting, keys.leases, keys.delayed)),
        ("HLEN", keys.dead),
        ("TIME",),
        ("ZRANGE", keys.turns, 0, MOST_HOSTS - 1),
    )
    fields = {name.decode(errors="replace"): value for name, value in pairs(found).items()}
    if "began" not in fields:
        return None

    def count(name: str) -> int:
        return int(fields.get(name, 0))

    return CrawlBooks(
        crawl=crawl,
        began=count("began"),
        moment=milliseconds(clock),
        about=msgspec.json.decode(fields.get("about", b"{}")),
        found=count("found"),
        done=count("done"),
        waiting=waiting,
        in_flight=in_flight,
        delayed=delayed,
        dead=dead,
        dropped=count("dropped"),
        duplicates=count("duplicates"),
        seen=count("prints"),
        items=count("items"),
        items_dropped=count("items_dropped"),
        errors={name.removeprefix(_ERROR): int(value) for name, value in fields.items() if name.startswith(_ERROR)},
        hosts=_waiting_by_host(session, keys, slots),
        stopped=fields.get("stopped", b"").decode(),
        paused=pause_in(fields["paused"]) if "paused" in fields else None,
    )


def _waiting_by_host(session: Session, keys: CrawlKeys, slots: list[bytes]) -> dict[str, int]:
    if not slots:
        return {}
    counts = session.ask(*(("ZLEXCOUNT", keys.waiting, b"[%b\0" % slot, b"(%b\1" % slot) for slot in slots))
    most = sorted(zip(slots, counts, strict=True), key=lambda pair: (-pair[1], pair[0]))[:10]
    return {slot.decode(errors="replace"): number for slot, number in most if number}
