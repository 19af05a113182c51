"""The ledger: a table beside the records that says which batches are in, written in the same transaction as they are.

A batch that comes again is found there and nothing is written. So is one whose COMMIT was carried out while its reply
was lost. A row holds how many records were written, and which records of the batch the database refused: asked again it
could not say, since the others are there by now.

A row is kept for a while (`ledger_keep`). Those that go are added up in one row for each flow, whose id is no batch's,
so that the sum of all rows stays the number of records that were ever written.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from millrace_consumer.batch import Batch
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import RecordsRejected

PRUNED = "pruned:"
"""Begins the id of the row that stands for a flow's pruned ones; the flow's name follows."""

PRUNE_SECONDS = 3600.0
"""A sink prunes when it starts, and so often."""

REASON_LIMIT = 300


class Entry(NamedTuple):
    """What the ledger says of a batch. `rejected` is what `Refusals.text` made of those that are not in."""

    records: int
    rejected: str | None


class Refusals:
    """Which records of the batch in hand were refused so far: what will be written down with the others."""

    def __init__(self) -> None:
        self._batch = ""
        self._found: list[list[str]] = []

    def add(self, batch: Batch, reasons: Mapping[int, str]) -> None:
        """These records of the batch are refused, and the rest will be offered again."""
        if batch.id != self._batch:
            self._batch, self._found = batch.id, []
        self._found += [[*_name(batch.envelopes[index]), reason[:REASON_LIMIT]] for index, reason in reasons.items()]

    def text(self, batch_id: str) -> str | None:
        """For the ledger, as JSON; None where none was refused."""
        return json.dumps(self._found) if self._batch == batch_id and self._found else None


def settle(batch: Batch, entry: Entry) -> None:
    """Returns where all records of a batch that comes again are in; else raises RecordsRejected naming the others."""
    lacking = len(batch) - entry.records
    if lacking <= 0 or not entry.rejected:
        return
    refused = [(tuple(name), reason) for *name, reason in json.loads(entry.rejected)]
    times = Counter(name for name, _ in refused)
    reasons = dict(refused)
    found: dict[int, str] = {}
    for index in reversed(range(len(batch))):  # of two that are alike the later one was refused
        name = _name(batch.envelopes[index])
        if times[name] and len(found) < lacking:
            times[name] -= 1
            found[index] = reasons[name]
    if found:
        raise RecordsRejected(dict(sorted(found.items())))


def _name(envelope: Envelope) -> tuple[str, str]:
    """What tells a record from the others of its batch: an id may be there twice, with different data."""
    data = bytes(envelope.data) if isinstance(envelope.data, msgspec.Raw) else repr(envelope.data).encode()
    return envelope.id, blake2b(data, digest_size=8).hexdigest()
