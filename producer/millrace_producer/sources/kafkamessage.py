"""What a Kafka message is as a record."""

from __future__ import annotations

from base64 import b64encode
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import msgspec
from confluent_kafka import Message

from millrace_pipeline.errors import RecordError
from millrace_pipeline.jsontext import checked_text, encode_json
from millrace_producer.sources.base import DeadLetter, Record
from millrace_producer.sources.fields import BYTE_ORDER_MARK, Fields, plain_text

Place: TypeAlias = tuple[str, int]
"""Topic and partition."""


class KafkaRecord(Record):
    """A record that knows its message."""

    place: Place = ("", 0)
    offset: int = 0


class KafkaLetter(DeadLetter):
    """A dead letter that knows its message."""

    place: Place = ("", 0)
    offset: int = 0


def name_of(place: Place) -> str:
    """`topic:partition`"""
    return f"{place[0]}:{place[1]}"


def record_of(
    message: Message,
    place: Place,
    position: dict[str, int] | None,
    fields: Fields,
    data: Literal["value", "message"],
) -> Record | DeadLetter:
    """A message as a record; a dead letter where its value is not of that form."""
    offset = message.offset() or 0
    key = f"{name_of(place)}:{offset}"
    value = message.value()
    try:
        text = _json(value, fields.format)
    except RecordError as error:
        return KafkaLetter(value or b"", f"message {key}: {error}", position, place, offset)
    time = _time(message)
    if data == "message":
        text = _whole(message, place, time, text)
    named, happened = fields.names(text)
    return KafkaRecord(text, named or key, position, place[0], happened or time, True, place, offset)


def _json(value: bytes | None, form: Literal["json", "text"]) -> bytes:
    """Raises RecordError where the value is not of this form."""
    if value is None:
        return b"null"  # a tombstone
    if form == "json":
        value = value.removeprefix(BYTE_ORDER_MARK)
        checked_text(value)
        return value
    return encode_json(plain_text(value))


def _whole(message: Message, place: Place, time: datetime | None, text: bytes) -> bytes:
    headers: Any = message.headers() or ()
    return encode_json(
        {
            "topic": place[0],
            "partition": place[1],
            "offset": message.offset(),
            "timestamp": time,
            "key": _text(message.key()),
            "headers": [[name, _text(value)] for name, value in headers],
            "value": msgspec.Raw(text),
        }
    )


def _time(message: Message) -> datetime | None:
    kind, ms = message.timestamp()
    if kind:
        with suppress(ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(ms / 1000, UTC)
    return None


def _text(value: bytes | str | None) -> Any:
    """A key or a header's value: text, or what is none as `{"base64": …}`."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}
