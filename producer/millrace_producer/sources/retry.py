"""Retry: how often a server is tried again, and how long is waited in between."""

from __future__ import annotations

import time

import structlog

from millrace_pipeline.backoff import Backoff
from millrace_pipeline.errors import SourceUnavailable
from millrace_pipeline.failure import Failure
from millrace_producer import trouble


class Retry:
    """Waits after each failure, at random and up to twice as long as after the last, from `first` to `cap` seconds.

    `place` is what has failed, in words without secrets; `event` what the log calls it.
    """

    def __init__(self, place: str, event: str, *, first: float, cap: float, failures: int) -> None:
        self._place = place
        self._event = event
        self._cap = cap
        self._most = failures
        self._backoff = Backoff(first, cap)
        self._worked = False
        self._log = structlog.get_logger().bind(url=place)

    def wait_after(self, failure: Failure, *, at_least: float = 0.0) -> None:
        """Wait until it is time to try again; `at_least` seconds are waited in any case, and the jitter after them.

        Raises SourceUnavailable where it is for the caller to wait: it failed too often in a row, or the server asked
        for more than `cap`.
        """
        asked_for = failure.retry_after or 0.0
        # On top of what the server wants at least, so that its many clients don't come back together.
        wait = max(at_least + self._backoff.next(), asked_for)
        failures = self._backoff.failures
        if failures >= self._most or asked_for > self._cap:
            reason = f"{self._place}: {failure.reason}"
            raise SourceUnavailable(reason, retry_after=failure.retry_after, worked=self._worked)
        self._log.warning(self._event, reason=failure.reason, failures=failures, retry_in=round(wait, 3))
        trouble.tell(f"{self._place}: {failure.reason}")
        time.sleep(wait)

    def answered(self) -> None:
        """What had failed is answered: the next failure is the first again. That others were before says nothing."""
        if self._backoff.failures:
            self._backoff.reset()
            trouble.over()

    def came_further(self) -> None:
        """It works: something came that had not come before, or all that there is now."""
        self._backoff.reset()
        self._worked = True
        trouble.over()
