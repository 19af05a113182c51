"""Pages: how much of what may be long, and of any size, is asked for at once."""

from __future__ import annotations

from collections.abc import Sequence

FIRST_RECORDS = 4
PAGE_RECORDS = 500
PAGE_BYTES = 4 * 1024 * 1024
"""So much is asked for at once, as far as the page before tells how large records are."""


class Pages:
    """Which page comes next: it begins at `start` and has `count` records."""

    def __init__(self) -> None:
        self.start = 0
        self.count = FIRST_RECORDS

    @property
    def indexes(self) -> tuple[int, int]:
        """The first and the last index of it."""
        return self.start, self.start + self.count - 1

    def is_last(self, sizes: Sequence[int]) -> bool:
        """Go on to the page behind the one whose records are so large, in bytes. True where there is none."""
        last = len(sizes) < self.count
        self.start += len(sizes)
        fitting = self.count * PAGE_BYTES // max(1, sum(sizes))
        self.count = max(1, min(2 * self.count, fitting, PAGE_RECORDS))
        return last
