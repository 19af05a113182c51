"""What SQLite's columns hold: numbers by the names of their types, of 64 bits, and what is read as a time later."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from types import NoneType
from typing import Any

from millrace_consumer.sinks.holds import Hold, as_float, clocks, instants, is_number, texts

_TEXT = ("CHAR", "CLOB", "TEXT")
_FLOATS = ("REAL", "FLOA", "DOUB")


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
        return _times(type, clocks() if words.strip() == "TIME" else instants())
    return (
        _numbers(type, all_floats="INT" not in words and any(part in words for part in _FLOATS))
        if is_numeric(type)
        else None
    )


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
