"""Redis: a list, a stream or a channel that others put things into."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import structlog
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, model_validator

from millrace_pipeline.errors import QueueError
from millrace_pipeline.flows.units import Duration
from millrace_pipeline.jsontext import encode_json
from millrace_pipeline.redis.external import Entry, ExternalChannel, ExternalList, ExternalStream
from millrace_pipeline.redis.remote import RemoteRedis
from millrace_producer import trouble
from millrace_producer.sources.base import DeadLetter, Position, Record, Source, SourceRefused, SourceUnavailable
from millrace_producer.sources.cells import CellOptions, Cells
from millrace_producer.sources.fields import Fields
from millrace_producer.sources.recordoptions import TimeOptions
from millrace_producer.sources.redisgroup import BATCH, WAIT_SECONDS, EntryLetter, EntryRecord, Membership, translated

log = structlog.get_logger(__name__)

OLDEST_MS = 946_684_800_000
"""The year 2000. The ids of a stream begin with its clock, unless somebody made them up."""

Records: TypeAlias = Iterator[Record | DeadLetter]

_ID = re.compile(r"\d+-\d+")


class RedisSource(CellOptions, TimeOptions, Source):
    """Takes what others put into a Redis list or stream, or say on a channel.

    A list: each element is moved to a list of ours, and removed there once it is published; it is on our list once. A
    stream: read on from the id of the last entry that is on our list, each is there once; or in a consumer group, which
    producers share, and in which an entry is acknowledged once it is published: it may come again, and dedupe, on by
    default then, leaves it out. A channel: at most once, for Redis keeps nothing of what is said while nobody listens.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    about: ClassVar[str] = "other queues"
    acknowledges_data: ClassVar[bool] = False

    url: SecretStr = Field(description="The server, as in REDIS_URL: redis://user:password@host:6379/0.")
    key: str = Field(min_length=1, description="Name of the list, stream or channel; of channels also a pattern.")
    kind: Literal["list", "stream", "channel"] = Field(default="list", description="What it is.")
    end: Literal["right", "left"] = Field(
        default="right", description="List: the end to take from. right is the oldest where others use LPUSH."
    )
    reader: str = Field(
        default="millrace",
        pattern=r"^[\w.-]+$",
        description="List: a name for whoever reads it. Flows that share a list need one each.",
    )
    group: str | None = Field(
        default=None, min_length=1, description="Stream: the consumer group in which producers share the entries."
    )
    idle: Annotated[Duration, Field(ge=0.1)] = Field(
        default=60, description="Stream with a group: entries whose consumer was silent for so long are taken over."
    )
    start: Literal["earliest", "latest"] = Field(
        default="earliest", description="Stream: where to begin where there is no checkpoint, or no such group."
    )
    field: str | None = Field(
        default=None,
        min_length=1,
        description="Stream: the field with the data. Default: an object of all fields.",
    )
    format: Literal["json", "text"] = Field(
        default="json",
        description="json: what is taken is JSON, what is not becomes a dead letter. text: it becomes a JSON string.",
    )
    record_key: str | None = Field(
        default=None,
        description="What names a record: a field of its data, or a JSON pointer such as /id. Default, and where it "
        "holds none: the number in the list, or the id of the entry.",
    )
    until_empty: bool = Field(
        default=False, description="List, stream: come to an end when there is nothing more now, rather than wait."
    )
    _lists: list[ExternalList] = PrivateAttr(default_factory=list)
    _members: list[Membership] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def _options_fit(self) -> RedisSource:
        for name, kinds in {
            "end": "list",
            "reader": "list",
            "group": "stream",
            "start": "stream",
            "field": "stream",
            "idle": "stream",
            "until_empty": "list or stream",
        }.items():
            if name in self.model_fields_set and self.kind not in kinds:
                raise ValueError(f"{name} is for a {kinds}")
        if self.null is not None and (self.kind != "stream" or self.field):
            raise ValueError("null is for a stream whose entries' fields are the record, without `field`")
        if self.format == "text" and (self.record_key or self.time) and not (self.kind == "stream" and not self.field):
            raise ValueError("record_key and time point into JSON, and format is text")
        with _refusing():
            ExternalChannel(self.url.get_secret_value(), self.key)
        return self

    @property
    def exclusive(self) -> bool:  # type: ignore[override]
        """A group shares the entries among its members; otherwise two producers would both read all."""
        return self.group is None

    @property
    def redelivers(self) -> bool:  # type: ignore[override]
        """What is acknowledged after it was published may come again between the two."""
        return self.group is not None

    @property
    def ends(self) -> bool:
        """See `Source.ends`."""
        return self.until_empty

    def probe(self) -> str | None:
        """See `Source.probe`."""
        with translated(), closing(RemoteRedis(self.url.get_secret_value(), self.key)) as server:
            found = server.kind()
        if self.kind != "channel" and found not in (self.kind, "none"):
            raise SourceRefused(f"key {self.key} is a {found} there, not a {self.kind}")
        return f"it answers; {self.key} is {'not there yet' if found == 'none' else f'a {found}'}"

    @property
    def ordered(self) -> bool:
        """See `Source.ordered`."""
        return self.kind == "stream" and self.group is None

    def is_behind(self, position: Position, checkpoint: Position) -> bool:
        """See `Source.is_behind`."""
        at, up_to = ([*map(int, str(id).split("-"))] for id in (position, checkpoint))
        return at <= up_to

    def describe(self, position: Position) -> str:
        """See `Source.describe`. Of a stream it is an entry's id; a list, and a group, keep their place themselves."""
        if self.kind != "stream" or self.group is not None:
            raise SourceRefused("only a stream that is read without a group is read from a position")
        if not (isinstance(position, str) and _ID.fullmatch(position)):
            raise SourceRefused("a position is the id of a stream's entry, such as 1763692800000-0")
        return f"after the entry {position} of the stream {self.key}"

    def read(self, resume_from: Position | None) -> Records:
        """See `Source.read`. Positions are `numbering:number` in a list, ids of a stream; others have none."""
        self._give_back()
        with translated():
            if self.kind == "channel":
                yield from self._heard()
            elif self.kind == "list":
                yield from self._taken(resume_from)
            elif self.group is None:
                yield from self._followed(resume_from)
            else:
                yield from self._shared()

    def published(self, records: Sequence[Record | DeadLetter]) -> None:
        """Removes from our list, acknowledges to the group."""
        with translated():
            for taken in self._lists:
                numbering, number = _number(records[-1].position)
                taken.remove(numbering, number)
        for member in self._members:
            member.acknowledge(records)

    def close(self) -> None:
        """Lets the group's others have at once what we hold."""
        self._give_back()

    def _give_back(self) -> None:
        lists, self._lists[:] = self._lists[:], []
        members, self._members[:] = self._members[:], []
        for taken in lists:
            taken.close_removing()
        for member in members:
            member.close()

    def _taken(self, resume_from: Position | None) -> Records:
        external = ExternalList(self.url.get_secret_value(), self.key, self.reader)
        self._lists.append(external)
        end = self.end.upper()
        fields = self._fields()
        try:
            numbering, number = self._place(external, resume_from)
            while True:
                found = external.fetch(BATCH, end, number)
                trouble.over()
                if found.numbering != numbering or found.done > number:
                    raise SourceUnavailable(f"somebody else reads the list {self.key} as {self.reader}")
                for element in found.elements:
                    record = fields.record(element, position=f"{numbering}:{number + 1}")
                    if isinstance(record, Record):
                        record.key = record.key or f"{numbering}:{number}"
                    number += 1
                    yield record
                if not found.elements:
                    if self.until_empty:
                        return
                    external.wait(end, WAIT_SECONDS)
        finally:
            external.close()

    def _place(self, external: ExternalList, resume_from: Position | None) -> tuple[str, int]:
        """Where to go on: what was published and not removed before the kill is behind us."""
        found = external.fetch(0, "RIGHT", 0)
        if resume_from is None:
            return found.numbering, found.done
        numbering, number = _number(resume_from)
        if numbering == found.numbering and found.done <= number <= found.moved:
            external.remove(numbering, number)
            return numbering, number
        # That Redis has forgotten what it told us, or it is another one.
        log.warning("redis_list_numbered_anew", key=self.key, resume_from=resume_from)
        external.number_anew()
        found = external.fetch(0, "RIGHT", 0)
        return found.numbering, found.done

    def _followed(self, resume_from: Position | None) -> Records:
        if resume_from is not None and not (isinstance(resume_from, str) and _ID.fullmatch(resume_from)):
            raise SourceRefused("the checkpoint is not the id of a stream's entry, but of another source")
        external = ExternalStream(self.url.get_secret_value(), self.key)
        try:
            last = resume_from or ("0-0" if self.start == "earliest" else external.last_id())
            while True:
                entries = external.behind(last, BATCH, 0 if self.until_empty else WAIT_SECONDS)
                trouble.over()
                for entry in entries:
                    last = entry[0]
                    yield self._record(entry, last)
                if not entries and self.until_empty:
                    return
        finally:
            external.close()

    def _shared(self) -> Records:
        assert self.group is not None
        member = Membership(self.url.get_secret_value(), self.key, self.group, self.idle)
        self._members.append(member)
        for entry in member.entries(self.start, until_empty=self.until_empty):
            yield self._record(entry, None)

    def _heard(self) -> Records:
        external, fields = ExternalChannel(self.url.get_secret_value(), self.key), self._fields()
        try:
            external.subscribe()
            trouble.over()
            while True:
                if (said := external.listen(WAIT_SECONDS)) is not None:
                    yield fields.record(said[1], type=said[0])
        finally:
            external.close()

    def _record(self, entry: Entry, position: str | None) -> Record | DeadLetter:
        id, fields = entry
        values = [value for name, value in fields if self.field is not None and name == self.field.encode()]
        if len(values) == 1:
            record = self._fields_of_entries.record(values[0], position=position)
        else:
            reason = f"no field {self.field!r}" if not values else f"{len(values)} fields {self.field!r}"
            record = self._of_all(fields, position, reason)
        if isinstance(record, DeadLetter):
            return EntryLetter(record.original, f"entry {id}: {record.reason}", position, id)
        ms = int(id.partition("-")[0])
        time = datetime.fromtimestamp(ms / 1000, UTC) if OLDEST_MS <= ms < 100 * OLDEST_MS else None
        key, happened = record.key or id, record.time or time
        return EntryRecord(record.data, key, position, time=happened, checked=record.checked, entry=id)

    def pointers(self) -> tuple[str | None, str | None]:
        """See `Source.pointers`."""
        return self.record_key, self.time

    def _fields(self) -> Fields:
        return Fields(self.format, *self.pointers(), self.time_unit)

    @cached_property
    def _fields_of_entries(self) -> Fields:
        return self._fields()

    @cached_property
    def _cells(self) -> Cells:
        return self.cells

    def _of_all(self, fields: Sequence[tuple[bytes, bytes]], position: str | None, reason: str) -> Record | DeadLetter:
        if self.field is None:
            try:
                text = encode_json(self._cells.valued(_as_object(fields)))
                named, happened = self._fields_of_entries.names(text)
                return Record(text, named, time=happened, checked=True)
            except UnicodeDecodeError:
                reason = "a field that is not UTF-8"
        return DeadLetter(b"\n".join(name + b": " + value for name, value in fields), reason, position)


def _as_object(fields: Sequence[tuple[bytes, bytes]]) -> dict[str, str | list[str]]:
    """The fields as an object; of several of one name a list of their values. Raises UnicodeDecodeError."""
    found: dict[str, list[str]] = {}
    for name, value in fields:
        found.setdefault(name.decode(), []).append(value.decode())
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _number(position: Any) -> tuple[str, int]:
    numbering, _, number = position.partition(":") if isinstance(position, str) else ("", "", "")
    if not number.isdecimal():
        raise SourceRefused("the checkpoint is not a number in a list of Redis, but of another source")
    return numbering, int(number)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except QueueError as error:
        raise ValueError(str(error).replace("REDIS_URL", "url")) from None
