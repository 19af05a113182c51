"""The Arrow column of each type that a model's field can have.

| the model says | the column is |
|---|---|
| str, int, float, bool, bytes | string, int64, double, bool, binary |
| datetime, date, timedelta | timestamp[us, UTC] (a naive one is taken as UTC), date32, duration[us] |
| Decimal | decimal128 of its `max_digits` and `decimal_places`, else of 38 and 18 |
| time, UUID, URLs, paths, addresses | string |
| Enum, Literal | the type of their values |
| list[T], set[T], tuple[T, ...] | list of T |
| dict[str, T] | map of string to T |
| another model | struct |
| Optional[T] | T; every column may hold nulls |
| Any, unions, all else | string: JSON text |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from datetime import time
from decimal import Decimal
from enum import Enum
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic import BaseModel

from millrace_consumer.columnvalues import Check, check_of
from millrace_consumer.exactjson import text_of_model
from millrace_consumer.modeltypes import Kind, Shape, shapes_of

INSTANT = pa.timestamp("us", tz="UTC")

WIDEST_DECIMAL = (38, 18)
"""Digits and decimal places where the model sets no limits; what Spark takes too. More of either is rejected."""


class Column(NamedTuple):
    """An Arrow type, and what makes a value of the model's into one that Arrow takes as such; None where it is one.

    Of a struct `fields` are the columns by the attribute that each is made of: to make them one by one takes a fraction
    of the time that converting every value takes. `check` looks at values that nothing has validated.
    """

    type: pa.DataType
    convert: Callable[[Any], Any] | None = None
    fields: Mapping[str, Column] | None = None
    check: Check | None = None


JSON = Column(pa.string(), text_of_model)
_TEXT = Column(pa.string(), str)

_BY_KIND = {
    Kind.TEXT: Column(pa.string()),
    Kind.BOOLEAN: Column(pa.bool_()),
    Kind.INTEGER: Column(pa.int64()),
    Kind.FLOAT: Column(pa.float64()),
    Kind.BYTES: Column(pa.binary()),
    Kind.INSTANT: Column(INSTANT),
    Kind.DATE: Column(pa.date32()),
    Kind.DURATION: Column(pa.duration("us")),
    Kind.TIME: Column(pa.string(), time.isoformat),
    Kind.UUID: _TEXT,
    Kind.JSON: JSON,
}


def columns_of_fields(model: type[BaseModel]) -> dict[str, Column]:
    """The column of each field, by its name."""
    return {name: _column(shape)._replace(check=check_of(shape)) for name, shape in shapes_of(model).items()}


def _column(shape: Shape) -> Column:
    parts = list(map(_column, shape.parts))
    if shape.members:
        return JSON if shape.kind is Kind.JSON or shape.null_member else Column(_BY_KIND[shape.kind].type, _value)
    if shape.kind is Kind.DECIMAL:
        digits, places = shape.digits if shape.digits and 0 < shape.digits[0] <= 38 else WIDEST_DECIMAL
        return Column(pa.decimal128(digits, places), partial(_decimal, places=places))
    if shape.kind is Kind.LIST:
        return _list(*parts)
    if shape.kind is Kind.MAP:
        return _map(*parts)
    if shape.kind is Kind.ROOT:
        return _root(*parts)
    if shape.fields is not None:
        return _struct({name: _column(field) for name, field in shape.fields.items()})
    return _TEXT if shape.spoken else _BY_KIND[shape.kind]


def _decimal(value: Any, *, places: int) -> Any:
    """A number that Arrow can be given: one that is far too small ends the process in it, or silently becomes zero."""
    if not isinstance(value, Decimal):
        return value
    if not value.is_finite():
        raise ValueError("no finite number")
    if value and value.adjusted() < -places:
        raise ValueError(f"more than {places} decimal places")
    return value or Decimal(0)


def _value(member: Any) -> Any:
    return member.value if isinstance(member, Enum) else member


def _list(item: Column) -> Column:
    if item is JSON:
        return JSON
    convert = item.convert

    def converted(values: Any) -> list[Any]:
        values = sorted(values, key=repr) if isinstance(values, Set) else values
        return list(values) if convert is None else [None if v is None else convert(v) for v in values]

    return Column(pa.list_(item.type), converted)


def _map(name: Column, item: Column) -> Column:
    if name != Column(pa.string()) or item is JSON:
        return JSON
    convert = item.convert or _value
    return Column(
        pa.map_(pa.string(), item.type),
        lambda mapping: [(k, None if v is None else convert(v)) for k, v in mapping.items()],
    )


def _root(root: Column) -> Column:
    if root is JSON:
        return JSON
    convert = root.convert or _value
    return Column(root.type, lambda value: None if value.root is None else convert(value.root))


def _struct(fields: dict[str, Column]) -> Column:
    converts = [(name, attrgetter(name), column.convert or _value) for name, column in fields.items()]

    def converted(value: Any) -> dict[str, Any]:
        return {name: None if (field := get(value)) is None else convert(field) for name, get, convert in converts}

    return Column(pa.struct([(name, column.type) for name, column in fields.items()]), converted, fields)
