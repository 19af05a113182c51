"""Timeline: how many records had come by when. It tells how old what waits is, and since when nothing came."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

KEPT = 20_000


class Mark(NamedTuple):
    """So many records had come at that moment, of which so many were published by producers.

    What producers published until the next mark came before the step ended; others push when they like.
    """

    moment: float
    step_ends: float
    came: int
    published: int


class Timeline:
    """Marks, oldest first. Times are in seconds since 1970.

    Records are taken in turn, so the oldest that waits is the one that came when so many were there as are done now.
    That is the time of its publish, whatever its own time is, and whoever pushed it.
    """

    def __init__(self, marks: Iterable[Mark] = ()) -> None:
        self._marks: deque[Mark] = deque(marks, maxlen=KEPT)

    def add(self, now: float, came: int, published: int) -> None:
        """Take note of how many have come by now."""
        if self._marks and came < self._marks[-1].came:
            self._marks.clear()  # the list was emptied by hand, or is another Redis'
        if len(self._marks) > 1 and self._marks[-2].came == self._marks[-1].came == came:
            self._marks.pop()  # of a time in which nothing came the ends are enough
        self._marks.append(Mark(now, float("inf"), came, published))

    def oldest_age(self, now: float, came: int, waiting: int) -> float:
        """Seconds for which the oldest record waits, at the least; 0 where none does."""
        return self._since(now, came - waiting) if waiting else 0.0

    def quiet(self, now: float, came: int) -> float:
        """Seconds for which nothing has come, at the least."""
        return self._since(now, came - 1)

    def _since(self, now: float, before: int) -> float:
        """Seconds since the record came before which so many had come, at the least."""
        following: Mark | None = None
        for mark in reversed(self._marks):
            if mark.came <= before:
                break
            following = mark
        else:
            return max(0.0, now - self._marks[0].moment) if self._marks else 0.0
        if following is None:
            return 0.0
        ours = following.came - mark.came == following.published - mark.published
        return max(0.0, now - (min(mark.step_ends, following.moment) if ours else following.moment))
