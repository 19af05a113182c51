"""Meter: how fast a count grows."""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 10.0
"""What "a second" is measured over."""


class Meter:
    """A count that is looked at now and then, and what it grew by a second, over the last looks."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def rate(self, now: float, count: int) -> float:
        """Take note of the count, and return its growth a second; 0 at the first look, or when it was set back."""
        if self._seen and count < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, count))
        while now - self._seen[0][0] > WINDOW_SECONDS:
            self._seen.popleft()
        return (count - self._seen[0][1]) / self.seconds if self.seconds else 0.0

    @property
    def seconds(self) -> float:
        """How long a time the last rate is of."""
        return self._seen[-1][0] - self._seen[0][0] if self._seen else 0.0
