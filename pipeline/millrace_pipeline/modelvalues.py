"""Model values: what a value of a record is for a field of a model, before pydantic looks at it.

Each function gets the part of the schema and the value, and returns the value, or what it says. What it raises is why
the record doesn't fit; it never names the value.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any

from pydantic_core import PydanticCustomError, SchemaValidator, ValidationError, core_schema

from millrace_pipeline.errors import EnvelopeError
from millrace_pipeline.jsontext import decode_json
from millrace_pipeline.moment import read_moment
from millrace_pipeline.number import ExactFloat

_NUMBER = re.compile(r"\s*[+-]?\d+(?:\.\d*)?\s*", re.ASCII)
_ISO_DATETIME = SchemaValidator(core_schema.datetime_schema()).validate_python
_TIME = SchemaValidator(core_schema.time_schema()).validate_python

_TIMES = frozenset({"datetime", "date", "time"})
_NUMBERS = frozenset({"int", "float", "decimal"})


def _refused(why: str) -> PydanticCustomError:
    return PydanticCustomError("not_meant", why)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _says_number(value: Any) -> bool:
    return _is_number(value) or (isinstance(value, str) and _NUMBER.fullmatch(value) is not None)


def _moment(value: Any) -> datetime:
    moment = read_moment(value)
    if moment is None:
        raise _refused("a number that is no time: expected s, ms, us or ns since 1970, or the eight digits of a day")
    return moment


def _day(value: Any) -> date:
    return _day_of(_moment(value))


def _day_of(moment: datetime) -> date:
    if moment.time() != time():
        raise _refused("a time within a day, and no day: expected one that begins at midnight in UTC")
    return moment.date()


def _as_datetime(_schema: Mapping[str, Any], value: Any) -> Any:
    if _says_number(value):
        return _moment(value)
    if not isinstance(value, str):
        return value
    try:
        return _ISO_DATETIME(value)
    except ValidationError:
        moment = read_moment(value)
        return value if moment is None else moment


def _as_date(_schema: Mapping[str, Any], value: Any) -> Any:
    if _says_number(value):
        return _day(value)
    if isinstance(value, str) and (moment := read_moment(value)) is not None:
        return _day_of(moment)
    return value


def _as_time(_schema: Mapping[str, Any], value: Any) -> Any:
    if _is_number(value):
        raise _refused("a number is no time of day: expected text such as 12:30:00")
    if not isinstance(value, str):
        return value
    try:
        return _TIME(value)
    except ValidationError:
        return value


def _as_number(_schema: Mapping[str, Any], value: Any) -> Any:
    if isinstance(value, bool):
        raise _refused("true and false are no numbers")
    if isinstance(value, str) and ("_" in value or not value.isascii()):
        raise _refused("no number: digits are 0 to 9, with nothing between them")
    return value


def _as_decimal(schema: Mapping[str, Any], value: Any) -> Any:
    value = _as_number(schema, value)
    if isinstance(value, ExactFloat):
        return Decimal(value.text)
    if isinstance(value, float):
        return Decimal(digits_of(value))
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, str):
        try:
            return Decimal(value.strip())
        except InvalidOperation:
            return value
    return value


def _as_member(schema: Mapping[str, Any], value: Any) -> Any:
    members = schema["members"] if schema["type"] == "enum" else schema["expected"]
    kinds = {type(member.value if isinstance(member, Enum) else member) for member in members}
    if isinstance(value, bool) and bool not in kinds:
        raise _refused("true and false are none of the values")
    if (
        _is_number(value)
        and not kinds & {int, float, Decimal}
        and not any(issubclass(kind, int) for kind in kinds - {bool})
    ):
        raise _refused("a number is none of the values")
    return value


BEFORE: Mapping[str, Callable[[Mapping[str, Any], Any], Any]] = {
    "datetime": _as_datetime,
    "date": _as_date,
    "time": _as_time,
    "int": _as_number,
    "float": _as_number,
    "decimal": _as_decimal,
    "enum": _as_member,
    "literal": _as_member,
}
"""By the type of the schema."""


def before_union(kinds: frozenset[str]) -> Callable[[Any], Any]:
    """Return what looks at a value for a union of these kinds, so that pydantic's choice among them stays as it is."""
    times, numbers, takes_all = kinds & _TIMES, kinds & _NUMBERS, bool(kinds & {"any", "literal", "enum"})

    def before(value: Any) -> Any:
        if takes_all:
            return value
        if isinstance(value, bool):
            if numbers and "bool" not in kinds:
                raise _refused("true and false are no numbers")
        elif times and not numbers and (_is_number(value) or ("str" not in kinds and _says_number(value))):
            if "datetime" in times:
                return _moment(value)
            return _day(value) if "date" in times else _as_time({}, value)
        elif numbers == {"decimal"} and isinstance(value, float):
            return _as_decimal({}, value)
        return value

    return before


def with_all_keys(value: Any, read: Callable[[Any], Any]) -> Any:
    """Read a mapping whose keys become something else. Raises where two of them become one: one value would be lost."""
    found = read(value)
    if isinstance(value, Mapping) and len(found) < len(value):
        raise _refused("two keys become one")
    return found


class _Current(threading.local):
    """The text that this thread reads now: a decimal has more digits there than the float that pydantic hands on."""

    text: bytes | None = None
    numbers: dict[float, str] | None = None


_current = _Current()


@contextmanager
def reading(text: bytes) -> Iterator[None]:
    """This JSON text is read while the block lasts."""
    before = _current.text, _current.numbers
    _current.text, _current.numbers = text, None
    try:
        yield
    finally:
        _current.text, _current.numbers = before


def digits_of(number: float) -> str:
    """Return a number as it is written in the text that is being read. Raises where that can't be told."""
    if _current.text is None:
        return repr(number)
    if _current.numbers is None:
        try:
            _current.numbers = dict(_written(decode_json(_current.text)))
        except EnvelopeError:
            raise _refused("a decimal beside a number that no float holds: write it as text") from None
    found = _current.numbers.get(number)
    if found == "":
        raise _refused("two numbers of the record differ in digits that no float has: write decimals as text")
    return found or repr(number)


def _written(value: Any) -> dict[float, str]:
    """Every number with a point, as it is written; nothing where two are one float."""
    found: dict[float, str] = {}
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)
        elif isinstance(one, float):
            text = one.text if isinstance(one, ExactFloat) else repr(float(one))
            if found.setdefault(float(one), text) != text:
                found[float(one)] = ""
    return found
