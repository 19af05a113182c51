"""Shares: how many of the delivered records have no value in a field that an alert names. A sample is counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from millrace_consumer.batch import Batch
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import EnvelopeError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.pointer import resolve

EVERY_SECONDS = 0.5
RECORDS = 20
"""So many records are looked at in so long, at most, spread over the batch."""


class Shares:
    """Counts for alerts of the kind null_share; for a flow without such it does nothing."""

    def __init__(self, flow: Flow) -> None:
        self._fields = sorted({alert.null_share.field for alert in flow.alerts if alert.null_share is not None})
        self._counts: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._due = 0.0

    def count(self, batch: Batch) -> None:
        """Look at some records of a batch that is delivered."""
        if not self._fields or not batch or (now := time.monotonic()) < self._due:
            return
        self._due = now + EVERY_SECONDS
        self._look(batch.envelopes[index] for index in range(0, len(batch), -(-len(batch) // RECORDS)))

    def take(self) -> dict[str, tuple[int, int]]:
        """Return how many were looked at since this was asked last, and how many had nothing there, by field."""
        with self._lock:
            counts, self._counts = self._counts, {}
        return counts

    def _look(self, envelopes: Iterable[Envelope]) -> None:
        found = []
        for envelope in envelopes:
            try:
                found.append(envelope.value)
            except EnvelopeError:
                continue  # a number that Python can't hold: what else there is can't be told
        with self._lock:
            for field in self._fields:
                looked, null = self._counts.get(field, (0, 0))
                missing = sum(resolve(field, value) is None for value in found)
                self._counts[field] = looked + len(found), null + missing
