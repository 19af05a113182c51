"""Fields: what the bytes that a source reads hold, and where in them a record's key and time are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from pipeline.envelope import checked_text, decode_json, resolve
from pipeline.errors import EnvelopeError, RecordError
from producer.sources.base import DeadLetter, Position, Record

Format = Literal["json", "text"]


class Fields(NamedTuple):
    """How to make a record of bytes.

    `json`: they are JSON and stay as they are; `key` and `time` are pointers into it. `text`: they become a string.
    """

    format: Format = "json"
    key: str | None = None
    time: str | None = None

    def record(self, raw: bytes, *, position: Position | None = None, type: str | None = None) -> Record | DeadLetter:
        """The record, or a dead letter where the bytes are not what `format` says."""
        try:
            if self.format == "text":
                return Record(_text(raw), position=position, type=type)
            value = self._value(raw)
        except RecordError as error:
            return DeadLetter(raw, str(error), position)
        return self.of(raw, value, position=position, type=type)

    def of(self, raw: bytes, value: Any, *, position: Position | None = None, type: str | None = None) -> Record:
        """The record of JSON bytes whose value is known."""
        return Record(
            raw,
            key=as_key(resolve(self.key, value)) if self.key else None,
            position=position,
            type=type,
            time=as_time(resolve(self.time, value)) if self.time else None,
        )

    def _value(self, raw: bytes) -> Any:
        """The data as far as it must be looked into. Raises RecordError where it is no JSON."""
        if self.key or self.time:
            try:
                return decode_json(raw)
            except EnvelopeError:
                pass  # a number too large for Python is JSON all the same; it only can't be looked into
        checked_text(raw)
        return None


def as_key(found: Any) -> str | None:
    """What a pointer found, as a key: text or a whole number; None for anything else."""
    if isinstance(found, str):
        return found or None
    return str(found) if isinstance(found, int) and not isinstance(found, bool) else None


def as_time(found: Any) -> datetime | None:
    """What a pointer found, as a time: ISO 8601 or Unix seconds; None for anything else."""
    try:
        if isinstance(found, str):
            return datetime.fromisoformat(found)
        if isinstance(found, int | float) and not isinstance(found, bool):
            return datetime.fromtimestamp(found, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise RecordError(f"not UTF-8: byte {raw[error.start]:#04x} at offset {error.start}") from error
