"""The records of a batch as cells of a table: a list of values for each column, as a database's client takes them.

What a client knows by itself (numbers, text, times) stays as it is. What is nested becomes JSON text, in a JSON column
anything does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from types import NoneType
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from millrace_consumer.batch import Batch
from millrace_consumer.exactjson import exact_text, exact_values, text_of_model
from millrace_consumer.matching import Match
from millrace_consumer.sinks.holds import ZONE, Hold
from millrace_consumer.sinks.upserting import Absent
from millrace_consumer.when import moment_said
from millrace_pipeline.errors import RecordsRejected
from millrace_pipeline.moment import in_utc

AS_THEY_ARE = frozenset({NoneType, str, int, float, bool, bytes, Decimal, datetime, date, timedelta, UUID})

_OF_JSON = frozenset({str, int, Decimal, bool, list, dict})
"""What `exact_values` makes."""

_NO_CELL = (ValueError, TypeError, OverflowError, RecursionError, PydanticSerializationError, msgspec.MsgspecError)


def plain_cells(batch: Batch) -> dict[str, list[Any]]:
    """Of records without a model: `id`, `time` and `data`, by these names."""
    return {
        "id": batch.ids,
        "time": [moment_said(envelope.time) for envelope in batch.envelopes],
        "data": [line.decode() for line in batch.unicode_lines],
    }


class Columns(NamedTuple):
    """The columns to be filled, and of which kind they are.

    `json` hold JSON, in `arrays` a list stays a list, `holds` say what a column takes. In `sparse` it counts whether a
    record has a value: where it has none there stands `Absent`, with a model's default only where the row that is there
    `keeps` what it has.
    """

    names: Sequence[str]
    json: Collection[str] = ()
    arrays: Collection[str] = ()
    holds: Mapping[str, Hold] = {}
    sparse: Collection[str] = ()
    keeps: bool = False


def cells_of_models(batch: Batch, fields: Mapping[str, str], columns: Columns) -> dict[str, list[Any]]:
    """Return each column's values, by its name: those of the flow's model; `fields` says of which field they are.

    Raises RecordsRejected naming the records of which something can't be said in a table.
    """
    models = batch.models or []
    found = {name: [getattr(model, fields[name]) for model in models] for name in columns.names}
    known = batch.model.model_fields if batch.model is not None else {}
    for name in columns.sparse:
        if fields[name] in known:  # a computed field is always there
            found[name] = [
                value if fields[name] in given or not (columns.keeps or value is None) else Absent(value)
                for value, given in zip(found[name], batch.given or [], strict=True)
            ]
    return _in_cells(found, columns, text_of_model)


def cells_of_records(
    records: Sequence[dict[str, Any]], matches: Sequence[Match], columns: Columns
) -> dict[str, list[Any]]:
    """Return each column's values, by its name: those of the records' fields that are matched with it.

    Null where a record has no such field. Raises RecordsRejected as `cells_of_models` does.
    """
    found = {}
    for name in columns.names:
        absent = Absent() if name in columns.sparse else None
        found[name] = [
            record[match.fields[name]] if name in match.fields else absent
            for record, match in zip(records, matches, strict=True)
        ]
    return _in_cells(found, columns, exact_text)


def _in_cells(found: dict[str, list[Any]], columns: Columns, to_json: Callable[[Any], str]) -> dict[str, list[Any]]:
    rejected: dict[int, str] = {}
    for name, values in found.items():
        kinds = set(map(type, values))
        in_json, hold = name in columns.json, columns.holds.get(name)
        to_cell = to_json if in_json else partial(_array if name in columns.arrays else _cell, to_json)
        if hold is not None and not kinds <= set(hold.plain):
            if not in_json and Absent not in kinds and (held := _held_at_once(hold, values)) is not None:
                found[name] = held
                continue
            found[name] = _converted(name, values, partial(_held, hold, to_cell, in_json), rejected)
        elif in_json or not kinds <= AS_THEY_ARE - {datetime}:
            found[name] = _converted(name, values, to_cell, rejected)
    if rejected:
        raise RecordsRejected(dict(sorted(rejected.items())))
    return found


def _converted(name: str, values: list[Any], to_cell: Any, rejected: dict[int, str]) -> list[Any]:
    try:
        return [None if value is None else _there(value, to_cell) for value in values]
    except _NO_CELL:
        for index, value in enumerate(values):
            try:
                if value is not None:
                    _there(value, to_cell)
            except _NO_CELL as error:
                rejected.setdefault(index, f"{name}: {error}"[:200])
        return values


def _held_at_once(hold: Hold, values: list[Any]) -> list[Any] | None:
    """The values as the column holds them, where none of them needs more than that; else None."""
    try:
        held = [None if value is None else hold.of(value) for value in values]
    except _NO_CELL:
        return None
    return held if set(map(type, held)) <= AS_THEY_ARE else None


def _held(hold: Hold, to_cell: Callable[[Any], Any], in_json: bool, value: Any) -> Any:
    """A value as the column holds it; in what becomes JSON what stands there."""
    if not in_json:
        held = hold.of(value)  # a time in UTC, if it is one
        return held if type(held) in AS_THEY_ARE else to_cell(held)
    return exact_text(hold.of(value if type(value) in _OF_JSON else exact_values(to_cell(value).encode())))


def _there(value: Any, to_cell: Any) -> Any:
    if type(value) is Absent:
        return value if value.default is None else Absent(to_cell(value.default))
    return to_cell(value)


def objects(batch: Batch) -> list[dict[str, Any]]:
    """Return the records as Python values, with all digits. Raises RecordsRejected naming those that are no objects."""
    records = []
    rejected = {}
    for index, line in enumerate(batch.unicode_lines):
        try:
            record = exact_values(line)
        except _NO_CELL as error:
            rejected[index] = f"not JSON that a table can hold: {error}"
            continue
        records.append(record)
        if not isinstance(record, dict):
            rejected[index] = "not an object, so it has no fields for the table's columns"
    if rejected:
        raise RecordsRejected(rejected)
    return records


def _cell(to_json: Callable[[Any], str], value: Any) -> Any:
    """A value of a column that holds no JSON."""
    if isinstance(value, datetime):
        in_utc(value)  # as which databases keep it: what is none is said here, and of which record
    if type(value) in AS_THEY_ARE:
        return value
    if isinstance(value, Enum):
        return _cell(to_json, value.value)
    if isinstance(value, time):
        if value.tzinfo is not None:
            raise ValueError(ZONE)
        return value
    if isinstance(value, BaseModel | Set):
        return text_of_model(value)
    if isinstance(value, dict | list | tuple):
        return to_json(value)
    value = to_jsonable_python(value)
    return value if isinstance(value, str | int | float) else text_of_model(value)


def _array(to_json: Callable[[Any], str], value: Any) -> Any:
    """A list, of any depth, with cells of one type, since an array has one."""
    if not isinstance(value, list | tuple | Set):
        return _cell(to_json, value)
    cells = _items(to_json, value)
    return cells if len(_types_in(cells)) < 2 else _as_text(cells)


def _items(to_json: Callable[[Any], str], values: Any) -> list[Any]:
    return [_items(to_json, item) if isinstance(item, list | tuple) else _cell(to_json, item) for item in values]


def _types_in(cells: list[Any]) -> set[type]:
    return set().union(*(_types_in(cell) if isinstance(cell, list) else {type(cell)} for cell in cells)) - {NoneType}


def _as_text(cells: list[Any]) -> list[Any]:
    return [_as_text(cell) if isinstance(cell, list) else None if cell is None else str(cell) for cell in cells]
