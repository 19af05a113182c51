"""Why PostgreSQL has no room for a record: said by us where we can see it, else what the server says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg

from millrace_consumer.sinks.sqltable import Found

MISFITS = (
    psycopg.DataError,  # class 22, and what psycopg itself can't send
    psycopg.IntegrityError,  # class 23
    psycopg.errors.ProgramLimitExceeded,  # such as a text that is too long for an index
    psycopg.errors.RaiseException,  # a trigger of the user's
    psycopg.errors.WithCheckOptionViolation,
    UnicodeError,
    OverflowError,
)
"""Raised because of a record, as far as one can tell: it is narrowed down to the records that raise it again."""

JSON_TYPES = frozenset({"json", "jsonb"})

_BITS = {"int2": 16, "int4": 32, "int8": 64}
_NUL_IN_JSON = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_COLUMN = re.compile(r'COPY \S+, line \d+, column (".*?"|[^:,]+)')
_QUOTED = re.compile('"[^"]*"')

REASON_LIMIT = 300


def misfits(columns: Mapping[str, Found], names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[int, str]:
    """The rows that can't be written whatever the server says, by index, and why."""
    found: dict[int, str] = {}
    for place, name in enumerate(names):
        column = columns[name]
        check = _check_of(column.base)
        for index, row in enumerate(rows):
            if (reason := check(row[place])) is not None:
                found.setdefault(index, f"{name}: {reason.replace('{type}', column.type)}")
    return found


def why(error: Exception) -> str:
    """Why a row was refused, naming the column where it is known; never what it holds, for reasons are shown."""
    if not isinstance(error, psycopg.Error):
        return f"not something PostgreSQL can hold: {type(error).__name__}"
    column = error.diag.column_name
    if not column and (found := _COLUMN.search(error.diag.context or "")):
        column = found[1].strip('"')
    said = error.diag.message_primary or str(error)
    if isinstance(error, psycopg.DataError):  # what it quotes is what the record holds
        said = _QUOTED.sub("…", said.partition(': "')[0])
    said = said.replace('"', "")
    return f"{column}: {said}"[:REASON_LIMIT] if column else said[:REASON_LIMIT]


def _check_of(base: str) -> Callable[[Any], str | None]:
    if base in _BITS:
        return lambda value: _too_large(value, _BITS[base])
    return _no_json if base in JSON_TYPES else _no_text


def _too_large(value: Any, bits: int) -> str | None:
    if isinstance(value, int) and not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        return "too large for {type}, which holds " + f"{bits} bits"
    return _no_text(value)


def _no_json(value: Any) -> str | None:
    if isinstance(value, str) and "\\u0000" in value and _NUL_IN_JSON.search(value):
        return "holds the character NUL, which PostgreSQL can't"
    return _no_text(value)


def _no_text(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    if "\0" in value:
        return "holds the character NUL, which PostgreSQL can't"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "holds half a surrogate pair, which is no character"
    return None
