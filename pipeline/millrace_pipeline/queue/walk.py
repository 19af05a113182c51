"""Walk: every record that Redis holds for a flow, where it lies, read a page at a time and never changed.

The order is that in which records move (ready, in flight, set aside), and the list is read from its newest record on:
what moves on meanwhile is met again later, and never missed. Only what a person puts back goes the other way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from millrace_pipeline.queue.books import Lease, books_of, leases_from
from millrace_pipeline.queue.claim import is_delayed
from millrace_pipeline.queue.dead_letters import DeadLetters, SetAside
from millrace_pipeline.queue.keys import Keys
from millrace_pipeline.queue.pages import PAGE_RECORDS, Pages
from millrace_pipeline.queue.replies import milliseconds, pairs
from millrace_pipeline.queue.session import Session
from millrace_pipeline.queue.variants import Variants
from millrace_pipeline.redis.lots import in_lots

LAPS = 3
"""At most so many times as many records are read as were ready at first: more may come than can be read."""


class Ready(msgspec.Struct, frozen=True):
    """On the list: `position` 1 is the record that is taken next, `of` how many are ready."""

    position: int
    of: int


class InFlight(msgspec.Struct, frozen=True):
    """In a batch that is claimed and not acked yet: the batch's lease, and the record's number in it, from 1."""

    lease: Lease
    number: int


class Aside(msgspec.Struct, frozen=True):
    """On the variant list, since the flow's contract set it aside: `number` 1 is the newest."""

    number: int


Spot: TypeAlias = Ready | InFlight | SetAside | Aside


class _Claim(msgspec.Struct):
    steps: int


def walk(queue: Session) -> Iterator[tuple[bytes, Spot]]:
    """Yield each record's bytes and where they lie. Takes memory for a page. Raises QueueError."""
    yield from _ready(queue)
    yield from _in_flight(queue)
    for letter in DeadLetters(queue).newest():
        yield letter.record, letter
    for number, variant in enumerate(Variants(queue).newest(), 1):
        yield variant.line, Aside(number)


def standing(queue: Session) -> tuple[int, ...]:
    """Return what stays the same while no record moves: to tell whether one may have slipped by. Raises QueueError."""
    books = books_of(queue)
    counted = (books.published, books.delivered, books.filtered, books.foreign, books.discarded)
    return (*counted, books.ready, books.in_flight + books.delayed, books.dead, books.variants)


def published_at(queue: Session, ids: list[str]) -> dict[str, float]:
    """Return when records of these ids were published, in seconds since 1970, as far as Redis remembers keys.

    It does where the flow has `dedupe`, for its window. Raises QueueError.
    """
    scores = [score for lot in queue.ask(*in_lots(("ZMSCORE", queue.keys.seen), ids)) for score in lot]
    return {id: float(score) / 1000 for id, score in zip(ids, scores, strict=True) if score is not None}


def _ready(queue: Session) -> Iterator[tuple[bytes, Spot]]:
    keys = queue.keys
    for key in (keys.ready, keys.woken):  # from the one to the other, if it moves
        pages, enough = Pages(), 0
        while True:
            page, ready, woken = queue.ask_at_once(
                ("LRANGE", key, *pages.indexes), ("LLEN", keys.ready), ("LLEN", keys.woken)
            )
            # Those that woke a consumer are taken before all others, the last of each list first.
            ahead, held = (woken, ready) if key == keys.ready else (0, woken)
            enough = enough or LAPS * held + PAGE_RECORDS
            for index, line in enumerate(page, pages.start):
                yield line, Ready(ahead + held - index, ready + woken)
            if pages.is_last([*map(len, page)]) or pages.start > enough:
                break


def _in_flight(queue: Session) -> Iterator[tuple[bytes, Spot]]:
    keys = queue.keys
    looked: set[str] = set()
    while True:
        claims, deadlines, clock = queue.ask_at_once(
            ("HGETALL", keys.claims), ("ZRANGE", keys.leases, 0, -1, "WITHSCORES"), ("TIME",)
        )
        held = pairs(claims)
        scores = {id: float(score) for id, score in pairs(deadlines).items()}
        leases = leases_from(held, scores, milliseconds(clock))
        # What was claimed since was on the list when that was read, or not yet published. Halves are new, and what was
        # put off.
        fresh = [lease for lease in leases if lease.batch not in looked]
        found = [lease for lease in fresh if not looked or lease.batch[:-1] in looked or is_delayed(lease.batch)]
        if not found:
            return
        for lease in found:
            looked.add(lease.batch)
            steps = msgspec.json.decode(held[lease.batch.encode()], type=_Claim).steps
            for number, line in enumerate(_lines(queue, keys, lease.batch, steps), 1):
                yield line, InFlight(lease, number)


def _lines(queue: Session, keys: Keys, batch: str, steps: int) -> Iterator[bytes]:
    for key in keys.parts(batch, steps):
        pages = Pages()
        while True:
            (page,) = queue.ask_at_once(("LRANGE", key, *pages.indexes))
            yield from page
            if pages.is_last([*map(len, page)]):
                break
