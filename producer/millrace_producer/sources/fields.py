"""Fields: what the bytes that a source reads hold, and where in them a record's key and time are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Literal, TypeAlias

import msgspec

from millrace_pipeline.errors import EnvelopeError, RecordError
from millrace_pipeline.jsontext import checked_text, decode_json
from millrace_pipeline.moment import TimeUnit
from millrace_pipeline.pointer import resolve_alike, steps_of
from millrace_pipeline.process.repeats import repeats
from millrace_pipeline.surrogates import in_utf8
from millrace_producer.sources.base import DeadLetter, Position, Record
from millrace_producer.sources.encodings import HEAD, unmarked
from millrace_producer.sources.jsonbody import NotJson, dig
from millrace_producer.times import shown, time_of

Format = Literal["json", "text"]


BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What some write before a text in UTF-8. It is no part of it, and JSON has no place for it."""


class Fields:
    """How to make a record of bytes.

    `json`: they are JSON and stay as they are, without a byte order mark; `key` and `time` are pointers into it.
    `text`: they become a string.
    """

    def __init__(
        self,
        format: Format = "json",
        key: str | None = None,
        time: str | None = None,
        time_unit: TimeUnit = "auto",
    ) -> None:
        self.format = format
        self.time_unit = time_unit
        self.key = key
        self.time = time
        self._look = _lookup(key, time) if key or time else None

    def record(self, raw: bytes, *, position: Position | None = None, type: str | None = None) -> Record | DeadLetter:
        """The record, or a dead letter where the bytes are not what `format` says."""
        given = raw
        try:
            if self.format == "text":
                return Record(plain_text(raw), position=position, type=type)
            raw = raw.removeprefix(BYTE_ORDER_MARK)
            if self._look is None:
                checked_text(raw)
                return Record(raw, position=position, type=type, checked=True)
            _text(raw)  # what is skipped of JSON isn't looked at, whether it is UTF-8
            key, time = self._look(raw)
        except RecordError as error:
            return DeadLetter(given, str(error), position)
        except EnvelopeError:
            # A number too large for Python is JSON all the same; it only can't be looked into as a whole.
            plain = Fields().record(raw, position=position, type=type)
            if isinstance(plain, Record):
                plain.key, plain.time = self.names(raw)
            return plain
        return Record(raw, self.as_key(key), position, type, self.as_time(time), checked=True)

    def of(self, raw: bytes, value: Any, *, position: Position | None = None, type: str | None = None) -> Record:
        """The record of JSON bytes whose value is known."""
        return Record(
            raw,
            key=self.as_key(resolve_alike(self.key, value)) if self.key else None,
            position=position,
            type=type,
            time=self.as_time(resolve_alike(self.time, value)) if self.time else None,
        )

    def names(self, text: bytes) -> tuple[str | None, datetime | None]:
        """Return the key and the time that a JSON text holds, where they are looked for."""
        if self._look is None:
            return None, None
        try:
            key, time = self._look(text)
        except EnvelopeError:  # JSON that Python can't hold, or not there
            key, time = (_found_alone(pointer, text) for pointer in (self.key, self.time))
        return self.as_key(key), self.as_time(time)

    def key_in(self, text: bytes) -> str | None:
        """Return the key that a JSON text holds, or None; nothing is said of it."""
        try:
            return as_key(self._look(text)[0]) if self._look else None
        except EnvelopeError:
            return as_key(_found_alone(self.key, text))

    def as_key(self, found: Any) -> str | None:
        """Return what the pointer found as a key. Where it found none that is said, once, and counted."""
        if self.key is None:
            return None
        key = as_key(found)
        if key is None:
            repeats.warn(
                "record_without_key",
                kind="",
                of=self.key,
                key=self.key,
                found=shown(found),
                mend="it can't be known again: is the pointer right? A record's key is text or a whole number",
            )
        return key

    def as_time(self, found: Any) -> datetime | None:
        """Return what the pointer found as a time. Where it found none that is said, once, and counted."""
        return None if self.time is None else time_of(self.time, found, self.time_unit)


def _found_alone(pointer: str | None, text: bytes) -> Any:
    """Return what a pointer finds in a JSON text of which Python can't hold something, be it this or another part."""
    if pointer is None:
        return None
    try:
        found = dig("/".join(["", *(step.replace("~", "~0").replace("/", "~1") for step in steps_of(pointer))]), text)
        return None if found is None else decode_json(found)
    except NotJson:
        return None
    except EnvelopeError:
        return NoValue(found)


class NoValue:
    """JSON that Python can't hold, such as 1e999: neither a key nor a time."""

    def __init__(self, text: bytes | None) -> None:
        self._text = text or b""

    def __repr__(self) -> str:
        return self._text.decode("utf-8", "replace")


Lookup: TypeAlias = Callable[[bytes], tuple[Any, Any]]


def _lookup(key: str | None, time: str | None) -> Lookup:
    """What finds the values at two pointers in a JSON text. Raises EnvelopeError where it is none that Python can hold.

    Where all that they lead through are objects, nothing else of the text is made into a value.
    """

    def by_value(text: bytes) -> tuple[Any, Any]:
        value = decode_json(text)
        return (resolve_alike(key, value) if key else None), (resolve_alike(time, value) if time else None)

    paths = [steps_of(pointer) for pointer in (key, time) if pointer]
    if len(paths) == 2 and any(long[: len(short)] == short != long for long, short in (paths, paths[::-1])):
        return by_value  # one leads into the other
    found: dict[str, Any] = {}
    for path in paths:
        inner = found
        for step in path[:-1]:
            inner = inner.setdefault(step, {})
        inner[path[-1]] = None
    decode = msgspec.json.Decoder(_struct(found)).decode
    key_of, time_of = (_getter(found, steps_of(pointer)) if pointer else None for pointer in (key, time))

    def by_struct(text: bytes) -> tuple[Any, Any]:
        try:
            parts = decode(text)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return by_value(text)
        found_key, found_time = (key_of(parts) if key_of else None), (time_of(parts) if time_of else None)
        if (key_of and found_key is None) or (time_of and found_time is None):
            return by_value(text)  # it may be there in other letters
        return found_key, found_time

    return by_struct


def _struct(found: Mapping[str, Any]) -> type[msgspec.Struct]:
    """A struct of what is looked for: its fields are numbered, since a step of a pointer may be no name."""
    fields: list[Any] = []
    for number, (step, inner) in enumerate(found.items()):
        if inner is None:
            fields.append((f"f{number}", Any, msgspec.field(default=None, name=step)))
        else:
            struct = _struct(inner)
            fields.append((f"f{number}", struct, msgspec.field(default_factory=struct, name=step)))
    return msgspec.defstruct("Found", fields, gc=False)


def _getter(found: Mapping[str, Any], path: Sequence[str]) -> Callable[[Any], Any]:
    """What gets the value at the end of a path out of the struct."""
    names = []
    for step in path:
        names.append(f"f{list(found).index(step)}")
        found = found[step]
    return attrgetter(".".join(names))


def as_key(found: Any) -> str | None:
    """What a pointer found, as a key: text or a whole number; None for anything else."""
    if isinstance(found, str):
        return in_utf8(found) or None
    return str(found) if isinstance(found, int) and not isinstance(found, bool) else None


def plain_text(raw: bytes) -> str:
    """Return bytes as text. Raises RecordError for what isn't UTF-8, also where it could be read as such."""
    if b"\0" in raw[:HEAD] and (looks_like := unmarked(raw)):
        raise RecordError(f"not UTF-8: it looks like {looks_like.upper()}")
    return _text(raw)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise RecordError(f"not UTF-8: byte {raw[error.start]:#04x} at offset {error.start}") from error
