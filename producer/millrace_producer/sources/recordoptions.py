"""Record options: where in what a source reads a record's key and time are, for all sources that read JSON."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field, model_validator

from millrace_pipeline.moment import TimeUnit
from millrace_producer.keys import CONTENT, content_key
from millrace_producer.sources.base import DeadLetter, Record
from millrace_producer.sources.fields import Fields, Format


class TimeOptions(BaseModel):
    """When a record happened."""

    time: str | None = Field(
        default=None,
        description="When a record happened: a field, or a JSON pointer such as /at. It holds ISO 8601, RFC 2822, or a "
        "number since 1970. Default, and where it holds no time: when it was published.",
    )
    time_unit: TimeUnit = Field(
        default="auto", description="What a number in `time` counts: s, ms, us or ns. auto: its size tells."
    )

    def sample(self, text: bytes) -> Record | DeadLetter:
        """See `Source.sample`."""
        format: Format = "text" if getattr(self, "format", None) == "text" else "json"
        return Fields(format, *self.pointers(), self.time_unit).record(text)

    def pointers(self) -> tuple[str | None, str | None]:
        """See `Source.pointers`."""
        return None, self.time


class RecordOptions(TimeOptions):
    """What names a record, and when it happened."""

    key: str | None = Field(
        default=None, description="What names a record: a field, or a JSON pointer such as /id. Default: nothing does."
    )

    @model_validator(mode="after")
    def _pointers_need_json(self) -> Self:
        is_text = getattr(self, "format", None) == "text" and getattr(self, "data", None) != "message"
        if is_text and (self.time or self.key not in (None, CONTENT)):
            raise ValueError("key and time point into JSON, and format is text")
        return self

    def sample(self, text: bytes) -> Record | DeadLetter:
        """See `Source.sample`."""
        record = super().sample(text)
        if self.key == CONTENT and isinstance(record, Record):
            content_key(record)
        return record

    def pointers(self) -> tuple[str | None, str | None]:
        """See `Source.pointers`."""
        return (None if self.key == CONTENT else self.key), self.time

    def fields(self, format: Format = "json") -> Fields:
        """Return what finds them."""
        return Fields(format, self.key, self.time, self.time_unit)


class MessageOptions(RecordOptions):
    """What names the record of a message, and when it happened, where it is not as the message itself says."""

    key: str | None = Field(
        default=None,
        description="What names a record: a field of its data, or a JSON pointer such as /id. Default, and where it "
        "holds none: what the message is known by.",
    )
    time: str | None = Field(
        default=None,
        description="When a record happened: a field of its data, or a JSON pointer such as /at. Default, and where it "
        "holds no time: when the message says.",
    )
