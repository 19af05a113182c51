"""Entries: what a source yields, made ready for the list."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Any

import msgspec

from millrace_pipeline.envelope import DeadLetter, Position, Record, encode
from millrace_pipeline.errors import EnvelopeError, RecordError
from millrace_pipeline.jsontext import decode_json, encode_json
from millrace_pipeline.moment import read_moment
from millrace_pipeline.pointer import resolve_alike
from millrace_pipeline.process.repeats import repeats
from millrace_pipeline.queue.variants import variant_of
from millrace_pipeline.surrogates import in_utf8
from millrace_producer.contract import Contract, Kind
from millrace_producer.keys import say_keyless


class Entry(msgspec.Struct, gc=False):
    """One record, ready to be sent: its envelope, perhaps for the variant list, or a dead letter."""

    line: bytes
    id: str
    position: Position | None
    dead: DeadLetter | None = None
    variant: bool = False
    record: Record | DeadLetter | None = None
    """As it came, where somebody wants to hear of it."""
    part: int = 0
    """The number of its partition, where the flow has some."""


class Entries:
    """Makes entries of records. `source` is what their envelopes say they come from, `mark` the list they are for.

    A record without a key gets an id of `session` and a number. With `key`, a JSON pointer, what that finds in the data
    is the record's key. A `contract` says what becomes of a record that doesn't fit the flow's model.
    """

    def __init__(
        self, source: str, *, mark: str, session: str, key: str | None = None, contract: Contract | None = None
    ) -> None:
        self._source = source
        self._mark = mark
        self._session = session
        self._key = key
        self._contract = contract
        self._numbers = itertools.count(1)

    def make(self, record: Record | DeadLetter) -> Entry:
        """The entry of what a source yielded. What can't be said in JSON becomes a dead letter."""
        if type(record) is not Record and isinstance(record, DeadLetter):  # the first is four times as fast
            return Entry(record.original, "", record.position, record)
        if record.time is not None and type(record.time) is not datetime:
            record = msgspec.structs.replace(record, time=_moment(record.time))
        try:
            if self._key:
                record = _with_key(record, self._key)
            id = in_utf8(record.key or "") or f"{self._session}-{next(self._numbers)}"
            line = encode(record, id=id, source=self._source, mark=self._mark)
        except (RecordError, EnvelopeError) as error:
            original = record.data if isinstance(record.data, bytes) else repr(record.data).encode(errors="replace")
            return Entry(original, "", record.position, DeadLetter(original, str(error)))
        if self._contract and (misfit := self._contract.misfit(line)):
            return _misfit(self._contract.kind, misfit, line, id, record.position)
        return Entry(line, id, record.position)


def _misfit(contract: Kind, reason: str, line: bytes, id: str, position: Position | None) -> Entry:
    if contract == "freeze":
        return Entry(line, "", position, DeadLetter(line, reason))
    if contract == "quarantine":
        return Entry(variant_of(line, reason), id, position, variant=True)
    return Entry(line, id, position)


def _moment(time: Any) -> datetime | None:
    """Return the time that a record of somebody's own source says, whatever it says it in."""
    moment = read_moment(time)
    if moment is None:
        mend = "it gets the time when it is published: a record's time is a datetime"
        repeats.warn("time_not_understood", kind="record", time="Record.time", found=repr(time)[:60], mend=mend)
    return moment


def _with_key(record: Record, pointer: str) -> Record:
    data = decode_json(record.data) if isinstance(record.data, bytes) else record.data
    value = resolve_alike(pointer, data)
    if value is None:
        say_keyless(pointer, data)
        return record
    key = in_utf8(value) if isinstance(value, str) else encode_json(value).decode()
    return msgspec.structs.replace(record, key=key)
