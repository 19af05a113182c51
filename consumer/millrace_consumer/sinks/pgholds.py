"""What PostgreSQL's types hold, and don't say so where they round, cut, or read words of their own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import partial
from types import NoneType
from typing import Any

from millrace_consumer.exactjson import exact_text, text_of_model
from millrace_consumer.sinks.holds import (
    Hold,
    clocks,
    days,
    decimals,
    floats,
    instants,
    lists,
    ranges,
    texts,
    truths,
    whole_numbers,
)
from millrace_consumer.sinks.sqltable import Found

_HEADER = 4
"""What PostgreSQL adds to the length in a type's modifier."""

_MONEY = 2
_SCALAR = (str, int, float, Decimal, date, time)
_PLAIN = (str, int, bool, list, dict)


def hold_of(column: Found) -> Hold | None:
    """Return what a column takes; None where PostgreSQL refuses what doesn't fit."""
    base = column.base
    if not base.startswith("_"):
        return _hold(base, column.type, column.modifier)
    if base in ("_json", "_jsonb"):
        return Hold(lambda value: list(map(_json, value)) if isinstance(value, list | tuple) else value)
    item = _hold(base[1:], column.type, column.modifier)
    return None if item is None else lists(item)


def _hold(base: str, type: str, modifier: int) -> Hold | None:
    if base == "numeric":
        return decimals(type, None if modifier < _HEADER else _scale(modifier - _HEADER))
    if base == "varchar":
        return texts(type, None if modifier < _HEADER else modifier - _HEADER)
    if base in ("timestamp", "timestamptz"):
        return instants(6 if modifier < 0 else modifier)
    if base in ("time", "timetz"):
        return clocks(type, 6 if modifier < 0 else modifier, zoned=base == "timetz")
    make = _HOLDS.get(base)
    return make(type) if make else None


def _scale(modifier: int) -> int:
    """Decimal places, of eleven bits with a sign."""
    return ((modifier & 0x7FF) ^ 1024) - 1024


def _json(value: Any) -> str | None:
    if value is None:
        return None
    return exact_text(value) if isinstance(value, _PLAIN) else text_of_model(value)


def _instant(moment: datetime) -> str:
    return moment.isoformat()


def _naive(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat()


def _day(moment: datetime) -> str:
    return moment.date().isoformat()


def _texts_of_bytes(type: str, limit: int) -> Hold:
    """Text of so many bytes, and whatever becomes text."""
    inner = texts(type)

    def of(value: Any) -> Any:
        value = inner.of(value.value if isinstance(value, Enum) else value)
        text = str(value) if isinstance(value, _SCALAR) else _json(value)
        if len((text or "").encode(errors="replace")) > limit:
            raise ValueError(f"more than the {limit} bytes that {type} holds")
        return value

    return Hold(of, {NoneType})


def _unsigned(type: str) -> Hold:
    """Whole numbers of 32 bits without a sign: PostgreSQL makes others of negative ones."""
    inner = whole_numbers(type)

    def of(value: Any) -> Any:
        number = inner.of(value)
        if not 0 <= number < 2**32:
            raise ValueError(f"no number from 0 to {2**32 - 1}, and {type} holds nothing else")
        return number

    return Hold(of, {NoneType})


def _bytes(type: str) -> Hold:
    """Bytes, and text as PostgreSQL reads it; no numbers, of which it would take the digits."""

    def of(value: Any) -> Any:
        if isinstance(value, int | float | Decimal):
            raise ValueError(f"neither bytes nor text, and {type} holds nothing else")
        return value

    return Hold(of, {NoneType, bytes, str})


_HOLDS: dict[str, Callable[[str], Hold | None]] = {
    **dict.fromkeys(("int2", "int4", "int8"), whole_numbers),
    "float4": partial(floats, single=True),
    "float8": floats,
    "money": partial(decimals, places=_MONEY),
    "bool": truths,
    **dict.fromkeys(("text", "bpchar", "citext"), texts),
    "date": lambda _: days(),
    "name": partial(_texts_of_bytes, limit=63),
    "char": partial(_texts_of_bytes, limit=1),
    "bytea": _bytes,
    **dict.fromkeys(("oid", "xid", "cid"), _unsigned),
    **dict.fromkeys(("tsrange", "tsmultirange"), partial(ranges, bound=_naive)),
    **dict.fromkeys(("tstzrange", "tstzmultirange"), partial(ranges, bound=_instant)),
    **dict.fromkeys(("daterange", "datemultirange"), partial(ranges, bound=_day)),
}
