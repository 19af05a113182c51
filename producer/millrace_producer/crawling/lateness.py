"""Lateness: whether a request is still to be sent, so long after its host's turn."""

from __future__ import annotations

from millrace_pipeline.queue.frontier import Claimed
from millrace_producer.crawling.options import CrawlOptions

SHARE, SECONDS = 0.1, 0.02
"""A request that is sent later than this share of its host's delay, and than this, is given back."""


class Lateness:
    """Judges requests of hosts with a delay: one that is sent late would come too close to the next spider's.

    On a machine so busy that all come late, more and more is put up with.
    """

    def __init__(self, options: CrawlOptions) -> None:
        self._options = options
        self._patience = 1

    def is_too_much(self, claimed: Claimed, seconds: float) -> bool:
        """Return True where it is to be given back, so long after it was asked for."""
        delay = self._options.politeness.of(claimed.slot).shortest
        if not delay or self._options.throttled:
            return False
        late = seconds > max(SECONDS, SHARE * delay) * self._patience
        self._patience = self._patience * 2 if late else 1
        return late
