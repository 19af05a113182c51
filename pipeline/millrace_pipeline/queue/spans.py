"""Spans: what moved in a flow in each minute, hour or day, read from its history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

import msgspec

from millrace_pipeline.queue.books import books_with
from millrace_pipeline.queue.history import MOVED, STOOD
from millrace_pipeline.queue.replies import pairs
from millrace_pipeline.queue.session import Session


class Note(msgspec.Struct, frozen=True):
    """How things stood at one moment, in seconds since 1970."""

    moment: float
    numbers: tuple[int, ...]
    """In the order of MOVED, then STOOD."""


class Span(msgspec.Struct, frozen=True):
    """What moved in so many `seconds` from `start` on; and at their end `ready`, `in_flight`, `dead` and `variants`."""

    start: datetime
    seconds: int
    published: int
    delivered: int
    filtered: int
    foreign: int
    discarded: int
    bytes_in: int
    bytes_out: int
    in_flight: int
    ready: int
    dead: int
    variants: int


def read_notes(session: Session) -> list[Note]:
    """Return all notes there are, oldest first, and how things stand now as the last. Raises QueueError."""
    books, (found, counted) = books_with(
        session, ("HGETALL", session.keys.history), ("HMGET", session.keys.counters, *MOVED)
    )
    notes = [
        Note(int(moment), numbers)
        for moment, text in pairs(found).items()
        if moment.isdigit() and len(numbers := tuple(map(int, text.split()))) == len(MOVED) + len(STOOD)
    ]
    # In the order of STOOD. What is delayed is in flight for the counters, and so for the other notes.
    stand = (books.in_flight + books.delayed, books.ready, books.dead, books.variants)
    now = Note(books.moment, tuple(int(count or 0) for count in counted) + stand)
    return [*sorted(notes, key=lambda note: note.moment), now]


def sums(found: Sequence[Span]) -> dict[str, int]:
    """Return what moved in all of these spans together, by name."""
    return {name: sum(getattr(span, name) for span in found) for name in MOVED}


def spans(notes: Sequence[Note], since: float, seconds: int) -> list[Span]:
    """Return what moved in every so many `seconds` since then, quiet ones too, up to the last note.

    What moved between two notes counts where the earlier one stands, since it moved within that one's step. Begins with
    the first note where that is later.
    """
    if not notes:
        return []
    first = int(max(since, notes[0].moment)) // seconds * seconds
    starts = range(first, int(notes[-1].moment) + 1, seconds)
    moved = {start: [0] * len(MOVED) for start in starts}
    stood: dict[int, tuple[int, ...]] = {}
    for note, following in pairwise(notes):
        start = int(note.moment) // seconds * seconds
        if start not in moved:
            continue
        for index in range(len(MOVED)):
            moved[start][index] += following.numbers[index] - note.numbers[index]
        stood[start] = following.numbers[len(MOVED) :]
    level = next((note for note in notes if note.moment >= first), notes[-1]).numbers[len(MOVED) :]
    found = []
    for start in starts:
        level = stood.get(start, level)
        found.append(Span(datetime.fromtimestamp(start, UTC), seconds, *moved[start], *level))
    return found
