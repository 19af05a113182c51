"""What DuckDB's types hold, also within lists and structs, and don't say so where they round or guess."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import duckdb
from duckdb.sqltypes import DuckDBPyType

from millrace_consumer.sinks.holds import (
    Hold,
    clocks,
    days,
    decimals,
    floats,
    instants,
    lists,
    mappings,
    structs,
    texts,
    truths,
    whole_numbers,
)

_INTEGERS = re.compile(r"u?(?:tiny|small|big|huge)?int(?:eger)?|bignum")
_PLACES = {"timestamp_s": 0, "timestamp_ms": 3, "timestamp_ns": 9}

_SIMPLE: dict[str, Callable[[str], Hold]] = {
    "float": lambda type: floats(type, single=True),
    "double": floats,
    "boolean": truths,
    "varchar": texts,
    "date": lambda _: days(),
    "time": lambda _: clocks(),
    "time with time zone": lambda _: clocks(zoned=True),
    "timestamp": lambda _: instants(),
    "timestamp with time zone": lambda _: instants(),
}


@lru_cache(maxsize=1024)
def hold_of(type: str) -> Hold | None:
    """Return what a type takes; None where DuckDB refuses what doesn't fit, or the type is none of its own."""
    try:
        return _hold(duckdb.type(type))
    except duckdb.Error:
        return None


def _hold(type: DuckDBPyType) -> Hold | None:
    if str(type) == "JSON":
        return None
    if _INTEGERS.fullmatch(type.id):
        return whole_numbers(str(type))
    if type.id in _PLACES:
        return instants(_PLACES[type.id])
    if type.id in _SIMPLE:
        return _SIMPLE[type.id](str(type))
    if type.id not in ("decimal", "list", "array", "map", "struct"):
        return None
    parts: dict[str, Any] = dict(type.children)
    if type.id == "decimal":
        return decimals(str(type), parts["scale"])
    if type.id == "struct":
        held = {name: hold for name, part in parts.items() if (hold := _hold(part)) is not None}
        return structs(held) if held else None
    if type.id == "map":
        key, value = _hold(parts["key"]), _hold(parts["value"])
        return None if key is value is None else mappings(value, key)
    item = _hold(parts["child"])
    return None if item is None else lists(item)
