"""Placing: which partition of a flow a record goes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import msgspec

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import EnvelopeError, RecordError, SourceRefused
from millrace_pipeline.jsontext import decode_json, encode_json
from millrace_pipeline.pointer import resolve
from millrace_pipeline.process.repeats import repeats
from millrace_pipeline.surrogates import in_utf8
from millrace_producer.entries import Entries, Entry


class Placing:
    """Makes entries of records, each for its partition; `each` makes those of one.

    What `by`, a JSON pointer, finds in the data decides, else the record's key; where there is none, the record's
    position, which is the same when it is read again.
    """

    def __init__(self, each: Sequence[Entries], by: str | None) -> None:
        self._each = each
        self._by = by

    def make(self, record: Record | DeadLetter) -> Entry:
        """The entry of what a source yielded, with its partition. Raises SourceRefused where it has no position."""
        if record.position is None:
            raise SourceRefused("the source gave a record without a position: a flow with partitions needs one of each")
        part = crc32(self._decides(record)) % len(self._each)
        entry = self._each[part].make(record)
        entry.part = part
        return entry

    def _decides(self, record: Record | DeadLetter) -> bytes:
        if isinstance(record, Record):
            try:
                value = self._value(record)
                if value is not None:
                    return in_utf8(value).encode() if isinstance(value, str) else encode_json(value)
            except (EnvelopeError, RecordError, ValueError):
                pass  # what can't be said in JSON becomes a dead letter
        return msgspec.json.encode(record.position)

    def _value(self, record: Record) -> Any:
        if self._by is None:
            return record.key
        value = resolve(self._by, decode_json(record.data) if isinstance(record.data, bytes) else record.data)
        if value is None:
            mend = "such records go to a partition by their place in the source: those of one key are apart"
            repeats.warn("record_without_partition", kind="", of=self._by, by=self._by, mend=mend)
        return value
