"""Holds: what a column of a type takes without losing any of it. What would be rounded, cut or guessed is refused.

Databases round `1.239` into two decimal places, make `4` of `3.5` and infinity of `1e50`, and read `01/02/2026` and
`now` by rules of their own. So what goes into a column of theirs is looked at here first.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from math import isfinite, isinf
from types import NoneType
from typing import Any, NamedTuple

from millrace_pipeline.moment import NOT_IN_UTC, in_utc, read_moment
from millrace_pipeline.number import DIGITS

ZONE = "a time of day with a time zone: make it a datetime"
NO_CLOCK = "no time of day: expected one such as 12:30:00"
NO_TIME = "no time that is known: expected ISO 8601, RFC 2822 or a number since 1970"

_CLOCK = re.compile(r"T?\d\d?(:\d\d){1,2}([.,]\d+)?", re.ASCII | re.IGNORECASE)
_CLOCK_WITH_ZONE = re.compile(r"\d\d?(:\d\d){1,2}([.,]\d+)? ?([+-]\d\d?(:?\d\d)*|[A-Za-z]{3,5}|[Zz]|\w+/[\w/]+)")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,9})?", re.ASCII)
_NANOSECONDS = re.compile(r".*:\d\d[.,]\d{7,}(?:\D.*)?", re.ASCII)
_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})

_BOUND = r'(?:"(?:[^"\\]|\\.|"")*"|[^,()\[\]"{}]*)'
_RANGE = re.compile(rf"\s*([\[(])\s*({_BOUND})\s*,\s*({_BOUND})\s*([\])])\s*")
_RANGES = re.compile(rf"\s*\{{({_RANGE.pattern}(?:,{_RANGE.pattern})*)?\s*\}}\s*")


class Hold(NamedTuple):
    """Makes a value of what the column takes; raises ValueError, which says why, for what it can't hold.

    Values of the `plain` types needn't be asked.
    """

    of: Callable[[Any], Any]
    plain: Collection[type] = ()


def whole_numbers(type: str) -> Hold:
    """Whole numbers; whether one is too large is for the database to say."""

    def of(value: Any) -> Any:
        number = _number(value, type)
        if not isinstance(number, int):
            if number != number.to_integral_value() or number.adjusted() >= DIGITS:
                raise ValueError(f"no whole number, and {type} holds nothing else")
            number = int(number)
        return number

    return Hold(of, {NoneType, int})


def floats(type: str, *, single: bool = False) -> Hold:
    """Floats: what is behind the point is as near as a float comes to it, what stands before it is kept."""

    def of(value: Any) -> Any:
        if isinstance(value, float) and not (single and isfinite(value)):
            return value  # infinity and NaN are what a model says
        if isinstance(value, Decimal) and not value.is_finite():
            return float(value)
        number = _number(value, type)
        if (found := as_float(number, single=single)) is None:
            raise ValueError(f"a number that {type} can't hold exactly")
        return found

    return Hold(of, {NoneType} if single else {NoneType, float})


def as_float(number: float | Decimal, *, single: bool = False) -> float | None:
    """Return a number as a float, without what is behind the point and too fine for it; None where more would go.

    It is kept where as many digits as it has can be read back, as with 1e23. Infinity and zero are no other number.
    """
    try:
        found = float(number)
        if not single and -(2**53) < found < 2**53:
            return found if found or not number else None
        if single:
            found = struct.unpack("f", struct.pack("f", found))[0]
    except OverflowError:
        return None
    if isinf(found) or (not found and number):
        return None
    exact = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
    if exact.copy_abs() < (2**24 if single else 2**53) and exact != exact.to_integral_value():
        return found
    if Decimal(found) == exact or Decimal(f"{found:.6g}" if single else repr(found)) == exact:
        return found
    return None


def decimals(type: str, places: int | None) -> Hold:
    """Decimals of so many places; None for any. How many digits there may be is for the database to say."""

    def of(value: Any) -> Any:
        if not (value.is_finite() if isinstance(value, Decimal) else not isinstance(value, float) or isfinite(value)):
            return value  # infinity and NaN are what a model says
        number = _number(value, type)
        if isinstance(number, Decimal) and places is not None and not _has_places(number, places):
            raise ValueError(f"more than the {places} decimal places of {type}")
        if isinstance(number, int) and places is not None and places < 0 and number % 10**-places:
            raise ValueError(f"a number that {type} can't hold exactly")
        return number

    return Hold(of, {NoneType, int} if places is None or places >= 0 else {NoneType})


def _has_places(number: Decimal, places: int) -> bool:
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    behind = -exponent
    if behind <= places or not number:
        return True
    for digit in reversed(digits):
        if behind <= places or digit:
            break
        behind -= 1
    return behind <= places


def truths(type: str) -> Hold:
    """True and false, also as 1 and 0, and by the words that a model's `bool` knows."""

    def of(value: Any) -> Any:
        if isinstance(value, bool):
            return value
        word = value.strip().lower() if isinstance(value, str) else str(value)
        if word not in _TRUE | _FALSE:
            raise ValueError(f"neither true nor false, and {type} holds nothing else")
        return word in _TRUE

    return Hold(of, {NoneType, bool})


def texts(type: str, limit: int | None = None) -> Hold:
    """Text; true and false are these words, as in JSON. Of a `limit` of letters blanks aren't cut off."""

    def of(value: Any) -> Any:
        if isinstance(value, bool):
            return "true" if value else "false"
        if limit is not None and isinstance(value, str) and len(value) > limit:
            raise ValueError(f"value too long for type {type}")
        return value

    return Hold(of, {NoneType, int, Decimal, datetime} | ({str} if limit is None else set()))


def instants(places: int = 6) -> Hold:
    """Times, read as all of Millrace's are, in UTC. What is finer than so many places of a second is cut off."""
    finest = 10 ** max(6 - places, 0)

    def of(value: Any) -> Any:
        moment = in_utc(value) if isinstance(value, datetime) else _moment(value)
        if places > 6 and isinstance(value, str) and _NANOSECONDS.fullmatch(value):
            return value
        return moment if finest == 1 else moment.replace(microsecond=moment.microsecond // finest * finest)

    return Hold(of, {NoneType})


def days() -> Hold:
    """Days: of an instant that in UTC."""

    def of(value: Any) -> Any:
        if type(value) is date:
            return value
        if type(value) is str and len(value) == 10 and value[4] == value[7] == "-":
            with suppress(ValueError):
                return date.fromisoformat(value)  # as most are written
        return _moment(value).date()

    return Hold(of, {NoneType, date})


def clocks(type: str = "time", places: int | None = None, *, zoned: bool = False) -> Hold:
    """Times of day: of an instant that in UTC. With a zone only where the column keeps it.

    Text stays as it is, unless the column has so many `places` of a second, and would round.
    """

    def of(value: Any) -> Any:
        found = value
        if not isinstance(value, time):
            text = value.strip() if isinstance(value, str) else ""
            if _CLOCK_WITH_ZONE.fullmatch(text):
                if not zoned:
                    raise ValueError(ZONE)
                found = _clock(text.replace(" ", ""))
            elif _CLOCK.fullmatch(text):
                found = _clock(text)
                if places is None:
                    return value
            else:
                moment = read_moment(value) if isinstance(value, datetime) or ":" in text else None
                if moment is None:
                    raise ValueError(NO_CLOCK)
                found = moment.timetz() if zoned else moment.time()
        if found.tzinfo is not None and not zoned:
            raise ValueError(ZONE)
        if places is not None and found.microsecond % 10 ** (6 - places):
            raise ValueError(f"more than the {places} decimal places of {type}")
        return found.isoformat() if zoned else found  # as text each database takes the zone

    return Hold(of, {NoneType})


def _clock(text: str) -> time:
    try:
        return time.fromisoformat(text if text[1:2] != ":" else f"0{text}")
    except ValueError:
        raise ValueError(NO_CLOCK) from None  # Python's own says the value


def ranges(type: str, bound: Callable[[datetime], str]) -> Hold:
    """Ranges of times as text, several in braces: each end is read as all times are, and written by `bound`."""

    def end(text: str) -> str:
        text = re.sub(r'\\(.)|""', lambda found: found[1] or '"', text[1:-1]) if text.startswith('"') else text.strip()
        return f'"{bound(_moment(text))}"' if text else ""

    def one(found: re.Match[str]) -> str:
        return f"{found[1]}{end(found[2])},{end(found[3])}{found[4]}"

    def of(value: Any) -> Any:
        text = value if isinstance(value, str) else ""
        if text.strip() == "empty":
            return "empty"
        if found := _RANGE.fullmatch(text):
            return one(found)
        if _RANGES.fullmatch(text):
            return "{" + ",".join(map(one, _RANGE.finditer(text))) + "}"
        raise ValueError(f"no {type}: expected text such as [2026-01-01T00:00Z,2026-02-01T00:00Z)")

    return Hold(of, {NoneType})


def lists(item: Hold) -> Hold:
    """Lists, and lists of lists, of what each item is."""
    plain = set(item.plain)

    def of(value: Any) -> Any:
        if isinstance(value, list) and plain.issuperset(map(type, value)):
            return value
        if isinstance(value, list | tuple | set | frozenset):
            return [None if part is None else of(part) for part in value]
        return item.of(value)

    return Hold(lambda value: of(value) if isinstance(value, list | tuple | set | frozenset) else value)


def mappings(item: Hold | None, key: Hold | None = None) -> Hold:
    """Objects of any names, of what each value is; and each name, where a `key` holds it."""

    def of(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if item is not None:
            value = {k: None if v is None else item.of(v) for k, v in value.items()}
        return value if key is None else _with_keys(key, value)

    return Hold(of)


def _with_keys(key: Hold, value: dict[str, Any]) -> dict[str, Any]:
    """The object with its names as the column holds them, written as JSON has names."""
    found: dict[Any, Any] = {}
    for name, part in value.items():
        try:
            held = key.of(name)
        except ValueError as error:
            raise ValueError(f"a key: {error}") from None
        if held in found:
            raise ValueError("two keys that are one to the column")
        found[held] = part
    return {_name(held): part for held, part in found.items()}


def _name(held: Any) -> str:
    if isinstance(held, bool):
        return "true" if held else "false"
    if isinstance(held, Decimal) and abs(held.adjusted()) < DIGITS:
        return f"{held:f}"
    return held.isoformat() if isinstance(held, date | time) else str(held)


def structs(fields: Mapping[str, Hold]) -> Hold:
    """Objects of these fields, whose names are taken without regard to case."""
    known = {name.casefold(): hold for name, hold in fields.items()}

    def of(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: _within(hold, k, v) if (hold := known.get(k.casefold())) else v for k, v in value.items()}

    return Hold(of)


def _within(hold: Hold, name: str, value: Any) -> Any:
    """A field's value; what it can't hold is said with the name, which is the table's and none of the record's."""
    try:
        return None if value is None else hold.of(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def is_number(text: str) -> bool:
    """Return True for a text that is a number, as JSON writes those, or databases."""
    return _number_in(text) is not None


def _number_in(text: str) -> Decimal | None:
    text = text.strip() if len(text) <= DIGITS else ""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _moment(value: Any) -> datetime:
    moment = None if isinstance(value, time) else read_moment(value.value if isinstance(value, Enum) else value)
    if moment is None:
        raise ValueError(NOT_IN_UTC if isinstance(value, datetime) else NO_TIME)
    return moment


def _number(value: Any, type: str) -> int | Decimal:
    if isinstance(value, float):
        value = Decimal(str(value))  # of an ExactFloat all digits
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"no finite number, and {type} holds nothing else")
        return value
    if isinstance(value, str) and (number := _number_in(value)) is not None:
        return number
    if isinstance(value, Enum) and not isinstance(value, int):
        return _number(value.value, type)
    if isinstance(value, bool):
        raise ValueError(f"true or false, and {type} holds numbers")
    if isinstance(value, int):
        return int(value)
    raise ValueError(f"no number, and {type} holds nothing else")
