"""Taken: what a destination has of the batch under way, where it takes a batch in parts."""

from __future__ import annotations

from collections.abc import Iterable

from millrace_consumer.batch import Batch
from millrace_pipeline.envelope import Envelope


class Taken:
    """Remembers, for the tries of this process at one batch, which records need not be sent again.

    Records are told apart by identity: what is offered again after some were rejected holds the same envelopes, what is
    delivered again later holds others. They are kept here, so that an identity is no other's meanwhile.
    """

    def __init__(self) -> None:
        self._batch_id = ""
        self._envelopes: dict[int, Envelope] = {}

    def of(self, batch: Batch) -> Taken:
        """This, for a try at that batch: what was taken of any other is forgotten."""
        if batch.id != self._batch_id:
            self._batch_id = batch.id
            self._envelopes = {}
        return self

    def __contains__(self, envelope: Envelope) -> bool:
        return id(envelope) in self._envelopes

    def add(self, envelopes: Iterable[Envelope]) -> None:
        """The destination has these."""
        self._envelopes |= {id(envelope): envelope for envelope in envelopes}

    def clear(self) -> None:
        """Begins anew."""
        self._envelopes = {}

    def has_all(self, batch: Batch) -> bool:
        """Whether nothing of the batch is left to send."""
        return all(map(self.__contains__, batch.envelopes))
