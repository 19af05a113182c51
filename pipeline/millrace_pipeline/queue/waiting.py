"""Waiting: since when the oldest record of a list has waited there, whatever time it tells of itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from millrace_pipeline.queue.books import Books, age_of

REMEMBERED = 6000
"""So many looks back it is known how many records had come by then: no fewer than a history has notes."""


class Waiting:
    """Remembers how many records had come at each look, and tells from that when the oldest that waits was published.

    With `tells_time` records tell a time of their own, which may be long before they were published.
    """

    def __init__(self, *, tells_time: bool) -> None:
        self._tells_time = tells_time
        self._came: deque[tuple[float, int]] = deque(maxlen=REMEMBERED)

    def saw(self, now: float, came: int) -> None:
        """Take note of how many records had come by then, those that are done with included."""
        if self._came and came < self._came[-1][1]:
            self._came.clear()  # the list was emptied by hand, or is another Redis'
        self._came.append((now, came))

    def age(self, books: Books, now: float) -> tuple[float, str]:
        """Seconds since the oldest waiting record was published, and how sure that is: `<=`, `>=`, or empty.

        By its envelope's time, where that is the time of the publish. Else since records are taken in turn, by when
        this one came, if that was while we looked.
        """
        if not books.lag:
            return 0.0, ""
        least = max((lease.age_seconds for lease in books.leases), default=0.0)
        if not self._tells_time:
            return max(books.oldest_seconds, least), ""
        before = came(books) - books.lag  # so many had come before the oldest that waits
        later, earlier = self._first_after(before), self._last_at(before)
        least = max(least, now - later if later is not None else 0.0)
        if earlier is not None:
            return max(now - earlier, least), ""
        return (books.oldest_seconds, "<=") if books.oldest_seconds > least else (least, ">=")

    def untaken(self, books: Books, oldest: bytes | None, now: float) -> float:
        """Seconds since the oldest record on the list was published, by its bytes; 0 where that can't be told."""
        if not books.ready:
            return 0.0
        taken = books.delivered + books.in_flight + books.delayed
        seconds = age_of(oldest, round(books.moment * 1000))
        untaken = msgspec.structs.replace(
            books, delivered=taken, in_flight=0, delayed=0, leases=[], oldest_seconds=seconds
        )
        age, known = self.age(untaken, now)
        return 0.0 if known == "<=" else age

    def _first_after(self, before: int) -> float | None:
        return next((when for when, count in self._came if count > before), None)

    def _last_at(self, before: int) -> float | None:
        return next((when for when, count in reversed(self._came) if count <= before), None)


def came(books: Books) -> int:
    """Return how many records have ever come: those that are done with, and those that wait."""
    return done(books) + books.lag


def done(books: Books) -> int:
    """Return how many records nobody has anything to do with any more, but a person."""
    return books.delivered + books.filtered + books.dead + books.variants + books.discarded


def came_by_note(numbers: Sequence[int], names: Sequence[str]) -> int:
    """Return the same from a note of the history, whose numbers have these names."""
    note = dict(zip(names, numbers, strict=True))
    held = ("delivered", "filtered", "discarded", "dead", "variants", "in_flight", "ready")
    return sum(note[name] for name in held)
