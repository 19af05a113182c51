"""Records as an Arrow table, with the types of the flow's model where it has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, RootModel
from pydantic_core import PydanticSerializationError

from millrace_consumer.columns import INSTANT, Column, columns_of_fields
from millrace_consumer.columnvalues import refuse_other_years
from millrace_consumer.when import moment_said
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import ConfigError, RecordsRejected

PLAIN = pa.schema([("id", pa.string()), ("time", INSTANT), ("data", pa.string())])
"""The columns without a model: the envelope's id, its time (null where it is none), and the record as JSON text."""

# What pyarrow and the conversions raise for a value that doesn't fit a type.
_MISFITS = (pa.ArrowException, ValueError, TypeError, OverflowError, AttributeError, PydanticSerializationError)


def table_of_envelopes(envelopes: Sequence[Envelope], lines: Sequence[bytes]) -> pa.Table:
    """Return records without a model as a table of the columns `PLAIN`, in order; `lines` are their data as JSON."""
    columns = [
        _array("id", [envelope.id for envelope in envelopes], Column(pa.string())),
        _array("time", [envelope.time for envelope in envelopes], Column(INSTANT, moment_said)),
        _array("data", lines, Column(pa.string(), bytes.decode)),
    ]
    return _table(columns, PLAIN)


def table_of_rows(rows: Sequence[Any], model: type[BaseModel]) -> pa.Table:
    """Return objects that have the model's fields as a table of its columns, in order.

    Raises RecordsRejected naming those that don't fit the columns, ConfigError where the model makes none.
    """
    columns_there = columns_of(model)
    if not any(issubclass(kind, BaseModel) for kind in set(map(type, rows))):
        # A fast model's values are of its fields' own types.
        columns_there = {name: column._replace(check=None) for name, column in columns_there.items()}
    columns = [_array(name, list(map(attrgetter(name), rows)), column) for name, column in columns_there.items()]
    return _table(columns, schema_of(model))


def _table(columns: list[pa.Array | dict[int, str]], schema: pa.Schema) -> pa.Table:
    _raise_rejected(columns)
    return pa.table(columns, schema=schema)


def schema_of(model: type[BaseModel] | None) -> pa.Schema:
    """The columns that a flow's records make. Raises ConfigError where its model makes none."""
    if model is None:
        return PLAIN
    return pa.schema([(name, column.type) for name, column in columns_of(model).items()])


@lru_cache(maxsize=64)
def columns_of(model: type[BaseModel]) -> dict[str, Column]:
    """Each field's column, by name. Raises ConfigError where the model has no named fields."""
    columns = columns_of_fields(model)
    if not columns or issubclass(model, RootModel):
        raise ConfigError(f"model {model.__name__} has no named fields to make columns of")
    return columns


def _array(name: str, values: Sequence[Any], column: Column) -> pa.Array | dict[int, str]:
    """The column's values, or by index the reasons why they make no column."""
    try:
        return _converted(values, column)
    except _MISFITS:
        reasons = {}
        for index, value in enumerate(values):
            try:
                _converted([value], column)
            except _MISFITS as misfit:
                reasons[index] = f"{name}: does not fit {column.type}: {_brief(misfit)}"
        if not reasons:
            raise
        return reasons


def _converted(values: Sequence[Any], column: Column) -> pa.Array:
    if column.check is not None:
        column.check(values)
    if column.fields is not None:
        return _struct(values, column.type, column.fields)
    if column.convert is not None:
        convert = column.convert
        values = [None if value is None else convert(value) for value in values]
    array = pa.array(values, type=column.type)
    refuse_other_years(array)
    return array


def _struct(values: Sequence[Any], type: pa.StructType, fields: Mapping[str, Column]) -> pa.StructArray:
    """Values with attributes, as an array a field; None is a struct that is null."""
    arrays = []
    for name, column in fields.items():
        get = attrgetter(name)
        arrays.append(_converted([None if value is None else get(value) for value in values], column))
    missing = [value is None for value in values]
    return pa.StructArray.from_arrays(arrays, fields=list(type), mask=pa.array(missing) if any(missing) else None)


def _raise_rejected(columns: Sequence[pa.Array | dict[int, str]]) -> None:
    reasons: dict[int, str] = {}
    for column in columns:
        if isinstance(column, dict):
            reasons = column | reasons  # the first column's reason stands
    if reasons:
        raise RecordsRejected(dict(sorted(reasons.items())))


def _brief(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:200]
