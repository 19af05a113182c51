"""Sizing: how many records to ask for, so that a batch comes out near its limits of records and bytes."""

from __future__ import annotations

from collections.abc import Sequence

from millrace_pipeline.flows.options import BatchOptions

RECORD_BYTES = 4096
"""What a record is taken to weigh before any was seen."""


SOME = 100
"""So many records of a batch are weighed at least, where it has them."""


class Sizing:
    """The limits of a flow's batches, and what its records have weighed so far."""

    def __init__(self, limit: BatchOptions) -> None:
        self._limit = limit
        self._record_bytes = float(RECORD_BYTES)
        self._encoded_bytes: float | None = None

    def weigh(self, lines: Sequence[bytes]) -> None:
        """Learns what a record weighs, from some of the batch at hand and those before it."""
        some = lines[:: 1 + len(lines) // SOME]
        mean = sum(map(len, some)) / len(some)
        self._record_bytes = max(1.0, 0.8 * self._record_bytes + 0.2 * mean)

    def wrote(self, records: int, size: int) -> None:
        """Learns what the sink makes of so many records: bytes as encoded and compressed; 0 where it doesn't say."""
        if records and size:
            mean = size / records
            known = self._encoded_bytes
            self._encoded_bytes = mean if known is None else max(0.001, 0.5 * known + 0.5 * mean)

    def room(self, records: int = 0, size: int = 0) -> int:
        """How many more records to ask for, where the batch has so many of so many bytes already."""
        limit = self._limit
        most = limit.records
        if limit.encoded is not None:  # as the last batches came out; before there is one, as if nothing was packed
            most = min(most, max(1, round(limit.encoded / (self._encoded_bytes or self._record_bytes))))
        if records >= most or size >= limit.bytes:
            return 0
        return max(1, min(most - records, int((limit.bytes - size) / self._record_bytes)))
