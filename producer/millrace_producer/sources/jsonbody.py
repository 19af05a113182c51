"""JSON bodies: what a JSON pointer finds in one, and the parts of a list, byte for byte as they stand there.

Where a body is no JSON for one thing that many servers write all the same (NaN, Infinity, a line break within a text),
it is taken apart in spite of it, so that only the record that holds it is set aside.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import msgspec

from millrace_pipeline.errors import EnvelopeError, RecordError
from millrace_pipeline.jsontext import decode_json
from millrace_pipeline.pointer import place_of, steps_of
from millrace_producer.sources.base import DeadLetter

_Object: TypeAlias = dict[str, msgspec.Raw]
_Array: TypeAlias = list[msgspec.Raw]

_BLANKS = re.compile(r"[ \t\n\r]*")
_LENIENT = json.JSONDecoder(strict=False, parse_int=str, parse_float=str)


class NotJson(ValueError):
    """These bytes are not JSON, and say no records. Its text says why."""


def dig(pointer: str, text: bytes) -> bytes | None:
    """What a JSON pointer finds in a JSON text, as it stands there; None where there is nothing. Raises NotJson."""
    for step in pointer.removeprefix("/").split("/") if pointer else ():
        name = step.replace("~1", "/").replace("~0", "~")
        found: bytes | None = None
        if _begins(text) == b"[":
            elements = _elements(text)
            found = elements[place] if (place := place_of(name)) < len(elements) else None
        elif _begins(text) == b"{":
            found = _member(text, name)
        else:
            _checked(text)
        if found is None:
            return None
        text = found
    return text


def records_in(text: bytes, map_key: str | None = None) -> Iterable[bytes | DeadLetter]:
    """The records that a JSON text holds: those of a list, none for null, anything else is one.

    With `map_key` those of an object are its values, each with its name in a field of that name. Raises NotJson.
    """
    first = _begins(text)
    if first == b"[":
        return _elements(text)
    if first == b"{" and map_key is not None:
        return [_named(value, map_key, name) for name, value in _members(text)]
    if text.strip(b" \t\n\r") == b"null":
        return []
    _checked(text)
    return [text]


def with_field(record: bytes, name: str, value: str) -> bytes:
    """The record with a further field, its first. What is no object stands in a field `value` beside it.

    Raises RecordError where the field is there and holds something else.
    """
    field = json.dumps({name: value}, ensure_ascii=not _is_text(value), separators=(",", ":")).encode()[1:-1]
    if _begins(record) != b"{":
        return b'{%b,"value":%b}' % (field, record)
    inner = record.lstrip(b" \t\n\r")[1:].lstrip(b" \t\n\r")
    if inner.startswith(b"}"):
        return b"{%b%b" % (field, inner)
    with contextlib.suppress(NotJson):
        there = _member(record, name)
        if there is not None:
            if value_of(there) == value:
                return record
            raise RecordError(f"has a field {name} already, which is to hold {value[:60]!r}")
    return b"{%b,%b" % (field, inner)


def value_of(text: bytes) -> Any:
    """The value of a JSON text as Python has it, also of one with a NaN; None where it is none."""
    try:
        return decode_json(text)
    except EnvelopeError:
        pass
    try:
        return json.loads(text.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None


def put(body: Any, pointer: str, value: Any) -> None:
    """Put a value where a JSON pointer says; objects that aren't there on the way are made. Raises ValueError."""
    *way, last = steps_of(pointer)
    for step in way:
        if isinstance(body, dict):
            if body.get(step) is None:
                body[step] = {}
            body = body[step]
        elif isinstance(body, list) and place_of(step) < len(body):
            body = body[place_of(step)]
        else:
            raise ValueError(f"{pointer} leads nowhere in the body")
    if isinstance(body, dict):
        body[last] = value
    elif isinstance(body, list) and place_of(last) < len(body):
        body[place_of(last)] = value
    else:
        raise ValueError(f"{pointer} leads nowhere in the body")


def _named(record: bytes, field: str, name: str) -> bytes | DeadLetter:
    try:
        return with_field(record, field, name)
    except RecordError as error:
        return DeadLetter(record, str(error))


def _is_text(value: str) -> bool:
    """Whether it can be written in UTF-8: half a surrogate pair can't, and stays the escape that it is."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _begins(text: bytes) -> bytes:
    return text[:100].lstrip(b" \t\n\r")[:1] or text.lstrip(b" \t\n\r")[:1]


def _checked(text: bytes) -> None:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        lenient = _Lenient(text)
        if not lenient.whole():
            raise NotJson(str(error)) from None


def _elements(text: bytes) -> list[bytes]:
    try:
        return [bytes(part) for part in msgspec.json.decode(text, type=_Array)]
    except msgspec.DecodeError as error:
        found = _Lenient(text).parts()
        if found is None:
            raise NotJson(str(error)) from None
        return [value for _, value in found]


def _member(text: bytes, name: str) -> bytes | None:
    try:
        found = msgspec.json.decode(text, type=_Object).get(name)
        if found is None:
            return None
        value, quoted = bytes(found), b'"%b"' % name.encode("utf-8", "surrogatepass")
        if text.count(quoted) - value.count(quoted) <= 1:
            return value
        parts = _Lenient(text).parts() or []
    except msgspec.DecodeError as error:
        found_parts = _Lenient(text).parts()
        if found_parts is None:
            raise NotJson(str(error)) from None
        parts = found_parts
    values = [value for known, value in parts if known == name]
    if len(values) > 1:
        raise NotJson(f"{name[:60]!r} stands twice in one object, and nobody knows which of them is meant")
    return values[0] if values else None


def _members(text: bytes) -> list[tuple[str, bytes]]:
    """Every member of an object, those of one name too."""
    found = _Lenient(text).parts()
    if found is None:
        raise NotJson("it is malformed")
    return found


class _Lenient:
    """A JSON text that is taken apart by a decoder which puts up with what JSON doesn't have."""

    def __init__(self, text: bytes) -> None:
        self._text = text.decode("utf-8", "surrogateescape")  # each byte comes back as it was

    def whole(self) -> bool:
        """Whether it is one value."""
        try:
            _, end = self._value(0)
        except (ValueError, RecursionError):
            return False
        return self._after_blanks(end) == len(self._text)

    def parts(self) -> list[tuple[str, bytes]] | None:
        """The elements of a list, or the members of an object with their names; None where it isn't even that."""
        try:
            return list(self._parts())
        except (ValueError, IndexError, RecursionError):
            return None

    def _parts(self) -> Iterator[tuple[str, bytes]]:
        text, at = self._text, self._after_blanks(0)
        close = {"[": "]", "{": "}"}[text[at]] if text[at] in "[{" else ""
        if not close:
            raise ValueError
        at = self._after_blanks(at + 1)
        if text[at] != close:
            while True:
                name = ""
                if close == "}":
                    name, at = self._value(at)
                    at = self._after_blanks(at)
                    if not isinstance(name, str) or text[at] != ":":
                        raise ValueError
                    at += 1
                begin = self._after_blanks(at)
                _, end = self._value(begin)
                yield name, text[begin:end].encode("utf-8", "surrogateescape")
                at = self._after_blanks(end)
                if text[at] == close:
                    break
                if text[at] != ",":
                    raise ValueError
                at = self._after_blanks(at + 1)
        if self._after_blanks(at + 1) != len(text):
            raise ValueError

    def _value(self, at: int) -> tuple[Any, int]:
        return _LENIENT.raw_decode(self._text, self._after_blanks(at))

    def _after_blanks(self, at: int) -> int:
        found = _BLANKS.match(self._text, at)
        return found.end() if found else at
