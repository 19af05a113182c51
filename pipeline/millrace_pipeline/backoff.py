"""Backoff: how long to wait before the next try."""

from __future__ import annotations

import random


class Backoff:
    """Waits that double up to a cap, each drawn at random between nothing and that ("full jitter").

    Many clients that failed together thus don't come back together
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). Seconds throughout. The caller does the
    waiting, on an event that also says when to stop.
    """

    def __init__(self, first: float, cap: float) -> None:
        self._first = first
        self._cap = cap
        self.failures = 0

    def next(self, at_least: float = 0.0) -> float:
        """Counts a failure and says how long to wait after it; `at_least` is what the other side asked for."""
        ceiling = min(self._cap, self._first * 2 ** min(self.failures, 30))
        self.failures += 1
        return max(at_least, random.uniform(0, ceiling))

    def reset(self) -> None:
        """It worked: the next failure is the first again."""
        self.failures = 0
