"""Event choice: which events of a stream are records, and what a record shows of its event."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from millrace_pipeline.errors import RecordError
from millrace_producer.sources.base import DeadLetter, Position, Record
from millrace_producer.sources.eventstream import StreamEvent
from millrace_producer.sources.fields import Fields
from millrace_producer.sources.jsonbody import NotJson, with_field


class SkippedEvent(BaseModel):
    """Events by their name, such as `{event: ping}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    event: str = Field(min_length=1, description="The event's name; message is one without.")


class EventChoice(BaseModel):
    """The options of a source of events that say which of them are records."""

    events: list[str] | None = Field(
        default=None,
        min_length=1,
        description="The names of the events that are records; message is one without. Default: all.",
    )
    skip: list[str | SkippedEvent] = Field(
        default_factory=list,
        description="What is no record: data, as it stands there, such as '[DONE]' or '' (nothing); or the name of an "
        "event, as in {event: ping}.",
    )
    event_field: str | None = Field(
        default=None,
        min_length=1,
        description="The field of a record that takes the event's name. Data that is no object stands in value beside "
        "it. Default: a record is its data alone, and the name its type.",
    )
    invalid_utf8: Literal["reject", "replace"] = Field(
        default="reject",
        description="reject: data that is not UTF-8 becomes a dead letter. replace: what is none becomes U+FFFD, as "
        "the standard of event streams has it.",
    )

    @model_validator(mode="after")
    def _a_name_can_be_put_in(self) -> EventChoice:
        if self.event_field and getattr(self, "format", "json") == "text":
            raise ValueError("event_field is put into JSON, and format is text")
        return self


class Chosen:
    """Makes records of the events that are some."""

    def __init__(self, choice: EventChoice, fields: Fields) -> None:
        self._fields = fields
        self._names = frozenset(choice.events) if choice.events is not None else None
        self._data = frozenset(said.encode() for said in choice.skip if isinstance(said, str))
        self._skipped = frozenset(said.event for said in choice.skip if isinstance(said, SkippedEvent))
        self._field = choice.event_field
        self._replace = choice.invalid_utf8 == "replace"

    def record(self, event: StreamEvent, position: Position | None) -> Record | DeadLetter | None:
        """The record of an event; None for one that is none."""
        name, raw = event.event, event.raw
        if (self._names is not None and name not in self._names) or name in self._skipped:
            return None
        if self._data and raw.strip(b" \t\r\n") in self._data:
            return None
        if self._replace and not _is_utf8(raw):
            raw = raw.decode("utf-8", "replace").encode()
        if self._field is None:
            return self._fields.record(raw, position=position, type=name)
        return self._named(self._field, name, raw, position)

    def _named(self, field: str, name: str, raw: bytes, position: Position | None) -> Record | DeadLetter:
        plain = Fields("json").record(raw, position=position)
        if isinstance(plain, DeadLetter):
            return plain  # as it came, with nothing put in
        try:
            return self._fields.record(with_field(raw, field, name), position=position, type=name)
        except (RecordError, NotJson) as error:
            return DeadLetter(raw, str(error), position)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
