"""Transforms of what a record's fields hold."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator

from millrace_consumer.transforms.base import KeepingTransform, an_object
from millrace_consumer.transforms.naming import Conflict, NamingTransform
from millrace_consumer.transforms.places import Place, place_in
from millrace_pipeline.jsontext import encode_json
from millrace_pipeline.moment import TimeUnit, in_utc, read_moment, timestamp
from millrace_pipeline.number import ExactFloat, OutOfBounds, bounded, exact, whole

TIME_LETTERS = 200
"""The longest text that is read as a time: a format can make the work grow with a power of the length."""

Kind = Literal["int", "float", "str", "bool", "decimal"]


class Cast(KeepingTransform):
    """Makes numbers of text, text of numbers, and so on. Null stays null; what can't be cast fails the record."""

    fields: dict[str, Kind] = Field(
        min_length=1,
        description="name or JSON pointer: int, float, str, bool or decimal (exact, as text that keeps every digit).",
    )

    def __call__(self, record: Any) -> dict[str, Any]:
        data = an_object(record)
        for name, kind in self.fields.items():
            if place := _filled(data, name, "cast"):
                try:
                    place.holder[place.at] = _CASTS[kind](place.value)
                except OutOfBounds as error:
                    raise ValueError(f"field {name} can't be cast to {kind}: {error}") from None
                except (ValueError, TypeError, OverflowError) as error:
                    raise ValueError(f"field {name} can't be cast to {kind}") from error
        return data


def _filled(data: dict[str, Any], pointer: str, transform: str) -> Place | None:
    """Where a name or pointer leads, unless nothing is there, or null."""
    place = place_in(data, pointer, transform)
    return place if place is not None and place.value is not None else None


def _int(value: Any) -> int:
    return whole(_plain(value))


def _float(value: Any) -> float:
    number = float(bounded(_plain(value)))
    if not math.isfinite(number):
        raise ValueError("JSON has no such number")
    if isinstance(value, int) and int(number) != value:
        raise ValueError("no float is this whole number")
    if number == 0 and isinstance(value, str | ExactFloat) and exact(str(value)) != 0:
        raise ValueError("no float is so small")
    return number


def _plain(value: Any) -> Any:
    """The value, unless it is text in which only Python sees a number: 1_000, and digits of other scripts."""
    if isinstance(value, str) and ("_" in value or not value.isascii()):
        raise ValueError("not a number")
    return value


def _bool(value: Any) -> bool:
    word = str(bounded(value)).strip().lower()
    if word not in _WORDS:
        raise ValueError("neither true nor false")
    return _WORDS[word]


_WORDS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else encode_json(value).decode()


def _decimal(value: Any) -> str:
    number = exact(_plain(value))
    if not number.is_finite():
        raise ValueError("neither NaN nor an infinity is a number to count with")
    return str(number)


_CASTS: dict[Kind, Any] = {"int": _int, "float": _float, "str": _text, "bool": _bool, "decimal": _decimal}


_UNITS: dict[str, TimeUnit] = {"unix": "s", "unix_ms": "ms", "unix_us": "us", "unix_ns": "ns"}
_NUMBER = re.compile(r"\s*[+-]?\d+(\.\d+)?\s*", re.ASCII)
_YEAR_FIRST = re.compile(r"\s*\d{4}[\dW-]", re.ASCII)
_HAS_YEAR = re.compile(r"%[YyGcxs]")
_NEEDED = (
    (re.compile("%p"), re.compile("%I"), "%p without %I: AM and PM would be one, since %H is of 24 hours"),
    (re.compile("%I"), re.compile("%p"), "%I without %p: ten at night would be ten in the morning; %H is of 24 hours"),
    (re.compile("%[UW]"), re.compile("%[aAwu]"), "%U or %W without a weekday such as %a: the week would be left out"),
)
"""Directives that strptime reads and forgets, in silence, where none of those that each needs stands beside it."""


class ParseTime(KeepingTransform):
    """Makes RFC 3339 times in UTC of times in another form. Null stays null; what is no such time fails the record."""

    fields: list[str] = Field(min_length=1, description="Their names, or JSON pointers.")
    format: str = Field(
        "iso",
        description="`iso` (ISO 8601), `rfc2822`, `unix` (seconds), `unix_ms`, `unix_us`, `unix_ns`, `auto` for any of "
        "these, or a strptime format such as %d/%m/%Y %H:%M.",
    )

    @field_validator("format")
    @classmethod
    def _says_a_day(cls, format: str) -> str:
        if format in _FORMS:
            return format
        directives = format.replace("%%", "")
        if "%" not in directives:
            raise ValueError(f"expected {', '.join(_FORMS)}, or a strptime format such as %d/%m/%Y %H:%M")
        if not _HAS_YEAR.search(directives):
            raise ValueError("a strptime format without a year: each time would be one of the year 1900")
        if "%Z" in directives:
            raise ValueError("%Z reads a zone's name and forgets it: expected %z, for +0100, or the name itself")
        for reads, needed, why in _NEEDED:
            if reads.search(directives) and not needed.search(directives):
                raise ValueError(why)
        return format

    def __call__(self, record: Any) -> dict[str, Any]:
        data = an_object(record)
        for name in self.fields:
            if place := _filled(data, name, "parse_time"):
                try:
                    place.holder[place.at] = timestamp(self._moment(place.value))
                except _TooLong:
                    raise ValueError(f"field {name} is no time: it has more than {TIME_LETTERS} characters") from None
                except (ValueError, TypeError, OverflowError, OSError) as error:
                    raise ValueError(f"field {name} is no time of the form {self.format}") from error
        return data

    def _moment(self, value: Any) -> datetime:
        if isinstance(value, str) and len(value) > TIME_LETTERS:
            raise _TooLong
        if self.format not in _FORMS:
            if not isinstance(value, str):
                raise TypeError("expected text")
            return in_utc(datetime.strptime(value, self.format))
        if not _has_form(value, self.format):
            raise ValueError("another form")
        moment = read_moment(value, _UNITS.get(self.format, "auto"))
        if moment is None:
            raise ValueError("no time")
        return moment


_FORMS = ("auto", "iso", "rfc2822", *_UNITS)


def _has_form(value: Any, format: str) -> bool:
    """True where a value looks like one of this form, and so can't be read as one of another."""
    if format == "auto":
        return True
    if not isinstance(value, str):
        return format in _UNITS
    if format in _UNITS:
        return bool(_NUMBER.fullmatch(value))
    of_digits = bool(_NUMBER.fullmatch(value)) and len(value.strip()) != len("20181010")
    return not of_digits and bool(_YEAR_FIRST.match(value)) == (format == "iso")


class _TooLong(ValueError):
    """A text that is too long to be a time."""


class Redact(KeepingTransform):
    """Hides what fields hold: all of it, or a hash by which equal values can still be told."""

    fields: list[str] = Field(
        min_length=1, description="Their names, or JSON pointers. One that a record lacks is said once and counted."
    )
    how: Literal["mask", "hash"] = Field("mask", description="`mask` writes `***`, `hash` an HMAC-SHA256 in hex.")
    key: SecretStr = Field(
        SecretStr(""), description="Secret of the hash: without one, whoever guesses a value can check the guess."
    )

    def __call__(self, record: Any) -> dict[str, Any]:
        data = an_object(record)
        for name in self.fields:
            if place := _filled(data, name, "redact"):
                place.holder[place.at] = self._hidden(place.value)
        return data

    def _hidden(self, value: Any) -> str:
        if self.how == "mask":
            return "***"
        # No text begins like what isn't text, so that 1 and "1" are two.
        text = value.encode() if isinstance(value, str) else b"\xff" + encode_json(value)
        return hmac.new(self.key.get_secret_value().encode(), text, hashlib.sha256).hexdigest()


class IngestTime(NamingTransform):
    """Adds the time at which the record came by here. A batch that is delivered again has a later one."""

    field: str = Field("ingested_at", min_length=1, description="The name of the field.")

    def __call__(self, record: Any) -> dict[str, Any]:
        data = an_object(record)
        self.put(data, self.field, timestamp(datetime.now(UTC)))
        return data

    def names_after(self, names: frozenset[str]) -> frozenset[str]:
        """See `Transform.names_after`."""
        if self.field in names and self.on_conflict == "error":
            raise Conflict(self.field)
        return names | {self.field}
