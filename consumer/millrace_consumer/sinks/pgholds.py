"""What PostgreSQL's types hold, and don't say so where they round, cut, or read words of their own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
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


_HOLDS: dict[str, Callable[[str], Hold | None]] = {
    **dict.fromkeys(("int2", "int4", "int8"), whole_numbers),
    "float4": partial(floats, single=True),
    "float8": floats,
    "money": partial(decimals, places=_MONEY),
    "bool": truths,
    **dict.fromkeys(("text", "bpchar", "citext"), texts),
    "date": lambda _: days(),
    "time": lambda _: clocks(),
    "timetz": lambda _: clocks(zoned=True),
    **dict.fromkeys(("tsrange", "tsmultirange"), partial(ranges, bound=_naive)),
    **dict.fromkeys(("tstzrange", "tstzmultirange"), partial(ranges, bound=_instant)),
    **dict.fromkeys(("daterange", "datemultirange"), partial(ranges, bound=_day)),
}
