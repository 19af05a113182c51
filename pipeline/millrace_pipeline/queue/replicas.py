"""Replicas: how many of them must hold what was written before it counts, so that a failover can't take it away."""

from __future__ import annotations

import threading

import structlog

from millrace_pipeline.redis.connection import Command

log = structlog.get_logger(__name__)

WAIT_MS = 1000
"""How long one WAIT may block; then we say so, look whether to give up, and wait again."""


class Replicas:
    """`wanted` replicas, for the list named `key`; 0 is a queue that asks nobody.

    WAIT answers how many replicas hold all that its connection has written. It blocks until there are enough, or for
    WAIT_MS. So whoever sees fewer asks again, and that is how it is waited for: what was written stays written.
    """

    def __init__(self, wanted: int, key: str) -> None:
        self.wanted = wanted
        self.shortage: str | None = None
        """What is missing, while something is."""
        self._key = key
        self._lock = threading.Lock()

    @property
    def wait(self) -> list[Command]:
        """What to send behind a write: one command, or none."""
        return [("WAIT", self.wanted, WAIT_MS)] if self.wanted else []

    def enough(self, holding: int) -> bool:
        """Whether so many are enough. Says once that they aren't, and once that they are again."""
        with self._lock:
            if holding >= self.wanted:
                if self.shortage is not None:
                    log.info("replicas_restored", queue=self._key, holding=holding, wanted=self.wanted)
                self.shortage = None
            elif self.shortage is None:
                log.warning("replicas_missing", queue=self._key, holding=holding, wanted=self.wanted)
            if holding < self.wanted:
                self.shortage = f"{holding} of {self.wanted} replicas hold what was written: waiting for the others"
            return self.shortage is None
