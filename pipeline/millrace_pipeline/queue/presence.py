"""Presence: what each consumer and producer of a list says of itself every few seconds, for people who look on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from millrace_pipeline.queue.replies import milliseconds, pairs

if TYPE_CHECKING:
    from millrace_pipeline.queue.session import Session

KEPT_SECONDS = 24 * 3600
"""How long one that was never heard of again is remembered: so long its next start counts as a restart."""

MISSED = 3
"""So many times in a row one may say nothing before it counts as silent."""


Role = Literal["consumer", "producer"]


class Missing(msgspec.Struct):
    """A sink that isn't required and takes nothing: why, since when in seconds since 1970, and how many records."""

    sink: str
    reason: str
    since: float
    records: int


class CrawlProgress(msgspec.Struct):
    """How far the crawl of one producer has come: a crawl of its own, of which it alone can tell."""

    pages: int = 0
    items: int = 0
    waiting: int = 0
    """Requests that are to be fetched."""
    errors: int = 0
    """Pages that could not be had, and failures of the spider."""
    depth: int = 0
    """How many links from the start the farthest request is."""

    def __str__(self) -> str:
        """Say it in words: `12 pages, 120 items, 3 requests wait, depth 4, 1 error`."""
        parts = [f"{self.pages:,} pages", f"{self.items:,} items", f"{self.waiting:,} requests wait"]
        parts += [f"depth {self.depth:,}"] if self.depth else []
        parts += [f"{self.errors:,} error{'s' if self.errors > 1 else ''}"] if self.errors else []
        return ", ".join(parts)


class Doing(msgspec.Struct, omit_defaults=True):
    """What a consumer or a producer does. Shares are of the last ten seconds or so, 1 being all of its time."""

    name: str
    """Its name, as a consumer's leases have it."""
    every: float
    """Seconds until it speaks again."""
    up_seconds: float = 0.0
    write_share: float = 0.0
    """Of its time that in which the sink wrote."""
    cpu_share: float = 0.0
    """Processor time of its process by time passed: 1 is one core."""
    records_a_second: float = 0.0
    records: int = 0
    """Records it is done with, since its start."""
    dead: int = 0
    trouble: str = ""
    """What is in the way, while something is."""
    trouble_since: float = 0.0
    """Since when, in seconds since 1970."""
    missing: list[Missing] = []
    """Which of its sinks miss records now."""
    crawl: CrawlProgress | None = None
    """Of a producer whose source crawls."""


class Presence(msgspec.Struct):
    """A consumer or a producer that was heard of, `silent_seconds` ago; `starts` counts how often it was started."""

    name: str
    starts: int
    silent_seconds: float
    doing: Doing

    @property
    def silent(self) -> bool:
        """True where it should have spoken by now, and more than once."""
        return self.silent_seconds > MISSED * self.doing.every + 1


class _Kept(msgspec.Struct):
    session: str
    starts: int
    at: int
    says: Doing


def beat(queue: Session, name: str, doing: Doing, *, look: bool = False, role: Role = "consumer") -> int:
    """Say what this one does. Returns how many of its role there are, with `look`, and forgets those long silent.

    Raises QueueError.
    """
    arguments = [name, queue.id, msgspec.json.encode(doing), KEPT_SECONDS * 1000, int(look)]
    return int(queue.ask_script_once("beat", [_key(queue, role)], arguments)[0])


def leave(queue: Session, name: str, role: Role = "consumer") -> None:
    """Take this one off: it has ended as it should. Raises QueueError."""
    queue.ask_once(("HDEL", _key(queue, role), name))


def _key(queue: Session, role: Role) -> str:
    return queue.keys.consumers if role == "consumer" else queue.keys.producers


def crawl_progress_of(queue: Session) -> CrawlProgress | None:
    """Return how far the crawl of the list's producer has come, where one is under way. Raises QueueError."""
    found, clock = queue.ask(("HGETALL", queue.keys.producers), ("TIME",))
    there = presences(found, milliseconds(clock))
    return next((one.doing.crawl for one in there if one.doing.crawl and not one.silent), None)


def missing_of(queue: Session) -> list[Missing]:
    """Return which sinks miss records now, by what the consumers say. Raises QueueError."""
    found, clock = queue.ask(("HGETALL", queue.keys.consumers), ("TIME",))
    return missing_in(presences(found, milliseconds(clock)))


def missing_in(there: Iterable[Presence]) -> list[Missing]:
    """Return which sinks miss records, each once: since the first consumer said so, and the records of all."""
    return summed(one for presence in there if not presence.silent for one in presence.doing.missing)


def summed(found: Iterable[Missing]) -> list[Missing]:
    """Return one of each sink."""
    sums: dict[str, Missing] = {}
    for one in sorted(found, key=lambda one: (one.sink, one.since)):
        sum = sums.setdefault(one.sink, Missing(one.sink, one.reason, one.since, 0))
        sum.records += one.records
    return list(sums.values())


def presences(found: Sequence[bytes], now_ms: int) -> list[Presence]:
    """Those that a reply to HGETALL tells of, by name; what can't be read is left out."""
    seen = []
    for name, text in pairs(found).items():
        try:
            kept = msgspec.json.decode(text, type=_Kept)
        except msgspec.DecodeError:
            continue  # another version's: who looks on with this one can't tell
        seen.append(Presence(name.decode(errors="replace"), kept.starts, (now_ms - kept.at) / 1000, kept.says))
    return sorted(seen, key=lambda presence: presence.name)
