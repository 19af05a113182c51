"""What SQLite's columns hold: numbers by the names of their types, of 64 bits, and what is read as a time later."""

from __future__ import annotations

import re
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any

from millrace_consumer.sinks.holds import Hold, as_float, clocks, instants, is_number, texts

_TEXT = ("CHAR", "CLOB", "TEXT")
_FLOATS = ("REAL", "FLOA", "DOUB")
_NAMED_NUMBERS = re.compile(r"\b(?:(?:TINY|SMALL|MEDIUM|BIG|HUGE)?INT(?:EGER)?\d*\b|REAL|FLOA|DOUB|NUM|DEC)")
"""The names of types that say numbers to people as well as to SQLite."""

_SPACE = "[ \\t\\n\\v\\f\\r]*"
_TAKEN_FOR_A_NUMBER = re.compile(rf"{_SPACE}[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?{_SPACE}")
_LONGEST = 25
"""More letters than a number has as SQLite spells it."""


def is_numeric(type: str) -> bool:
    """Return True where SQLite makes numbers of text in a column, by its rules for the names of types."""
    type = type.upper()
    return "INT" in type or (bool(type) and not any(part in type for part in (*_TEXT, "BLOB")))


def hold_of(type: str) -> Hold | None:
    """Return what a column of a type takes; None where it keeps all as it is."""
    words = type.upper()
    if "JSON" in words:
        return None
    if "INT" not in words and any(part in words for part in _TEXT):
        return texts(type)
    if "INT" not in words and ("DATE" in words or "TIME" in words):
        return _spelt_alike(type, _times(type, clocks() if words.strip() == "TIME" else instants()))
    if not is_numeric(type):
        return None
    numbers = _numbers(type, all_floats="INT" not in words and any(part in words for part in _FLOATS))
    return numbers if _NAMED_NUMBERS.search(words) else _spelt_alike(type, numbers)


def _spelt_alike(type: str, hold: Hold) -> Hold:
    """The same hold, but for text of which SQLite would make a number that is spelt otherwise: `007`, or `1e5`."""

    def of(value: Any) -> Any:
        text = value.value if isinstance(value, Enum) else value
        if isinstance(text, str) and _TAKEN_FOR_A_NUMBER.fullmatch(text) and text != _spelt(text):
            raise ValueError(f"text that SQLite makes a number of: {type} has numeric affinity, TEXT would keep it")
        return hold.of(value)

    return Hold(of, set(hold.plain) - {str})


def _spelt(number: str) -> str | None:
    """A number as SQLite spells it in such a column; None where that is sure to be otherwise."""
    if len(number) > _LONGEST or "e" in number.lower():
        return None
    exact = Decimal(number.strip())
    if -(2**63) <= exact < 2**63 and exact == exact.to_integral_value():
        return str(int(exact))
    return repr(float(exact))


def _times(type: str, hold: Hold) -> Hold:
    """Text that can be read as a time, and is kept as it is; numbers, of which only their reader knows the meaning."""

    def of(value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError(f"true or false, and {type} holds times")
        if isinstance(value, str | time):
            hold.of(value)
        return value

    return Hold(of, {NoneType, int, float, Decimal, date})


def _numbers(type: str, *, all_floats: bool) -> Hold:
    """Anything; a number only with all its digits, which SQLite has of whole ones of 64 bits and of floats."""

    def of(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
            return value
        if isinstance(value, str) and not is_number(value):
            return value
        number = Decimal(value)
        if not number.is_finite():
            return value
        if not all_floats and -(2**63) <= number < 2**63 and number == number.to_integral_value():
            return value
        found = as_float(number)
        if found is None or (not all_floats and Decimal(repr(found)) != number):
            raise ValueError(f"a number that {type} of SQLite can't hold exactly: make the column TEXT, or JSON TEXT")
        return value

    return Hold(of, {NoneType, bool, float, bytes, datetime, date} | (set() if all_floats else {int}))
