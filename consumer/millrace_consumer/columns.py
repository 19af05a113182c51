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

import types
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from operator import attrgetter
from pathlib import PurePath
from typing import Annotated, Any, Literal, NamedTuple, NewType, Union, get_args, get_origin
from uuid import UUID

import pyarrow as pa
import pydantic
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import Url, to_json

from millrace_consumer.modelfields import field_names

INSTANT = pa.timestamp("us", tz="UTC")

WIDEST_DECIMAL = (38, 18)
"""Digits and decimal places where the model sets no limits; what Spark takes too. More of either is rejected."""


class Column(NamedTuple):
    """An Arrow type, and what makes a value of the model's into one that Arrow takes as such; None where it is one.

    Of a struct `fields` are the columns by the attribute that each is made of: to make them one by one takes a fraction
    of the time that converting every value takes.
    """

    type: pa.DataType
    convert: Callable[[Any], Any] | None = None
    fields: Mapping[str, Column] | None = None


def json_text(value: Any) -> str:
    """A value as pydantic says it in JSON; a set in an order that doesn't change from one process to the next."""
    if isinstance(value, Set):
        value = sorted(value, key=repr)
    return to_json(value, inf_nan_mode="null").decode()


JSON = Column(pa.string(), json_text)
_TEXT = Column(pa.string(), str)

_BY_CLASS: list[tuple[Any, Column]] = [
    (str, Column(pa.string())),
    (bool, Column(pa.bool_())),
    (int, Column(pa.int64())),
    (float, Column(pa.float64())),
    (bytes, Column(pa.binary())),
    ((datetime, pydantic.AwareDatetime, pydantic.NaiveDatetime), Column(INSTANT)),
    ((pydantic.PastDatetime, pydantic.FutureDatetime), Column(INSTANT)),
    ((date, pydantic.PastDate, pydantic.FutureDate), Column(pa.date32())),
    (timedelta, Column(pa.duration("us"))),
    (time, Column(pa.string(), time.isoformat)),
    ((UUID, PurePath, Url, pydantic.AnyUrl, pydantic.IPvAnyAddress), _TEXT),
    ((IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network), _TEXT),
    ((pydantic.IPvAnyInterface, pydantic.IPvAnyNetwork), _TEXT),
    (pydantic.EmailStr, Column(pa.string())),
]
_LISTS: tuple[Any, ...] = (list, set, frozenset, deque, Sequence, Set, Iterable)


def columns_of_fields(model: type[BaseModel], within: tuple[Any, ...] = ()) -> dict[str, Column]:
    """The column of each field, by its name. `within` are the types around it, for one that holds itself."""
    columns = {}
    for name in field_names(model):
        field = model.model_fields.get(name)
        if field is not None:
            columns[name] = _column(field.annotation, field.metadata, (*within, model))
        else:
            columns[name] = _column(model.model_computed_fields[name].return_type, [], (*within, model))
    return columns


def _column(annotation: Any, metadata: Sequence[Any], within: tuple[Any, ...]) -> Column:
    if any(annotation is outer for outer in within):
        return JSON  # a tree has no flat type
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _column(arguments[0], [*metadata, *arguments[1:]], within)
    if isinstance(annotation, NewType):
        return _column(annotation.__supertype__, metadata, within)
    if hasattr(annotation, "__value__"):  # `type X = …`
        return _column(annotation.__value__, metadata, (*within, annotation))
    if origin in (Union, types.UnionType):
        others = [argument for argument in arguments if argument is not type(None)]
        return _column(others[0], metadata, within) if len(others) == 1 else JSON
    if origin is Literal:
        return _of_values(arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is ...:
        return _list(arguments[0], within)
    if origin in _LISTS and len(arguments) == 1:
        return _list(arguments[0], within)
    if origin in (dict, Mapping) and len(arguments) == 2:
        return _map(arguments[0], arguments[1], within)
    return _of_class(annotation, metadata, within) if isinstance(annotation, type) and origin is None else JSON


def _of_class(annotation: type, metadata: Sequence[Any], within: tuple[Any, ...]) -> Column:
    if issubclass(annotation, Enum):
        return _of_values(list(annotation))
    if issubclass(annotation, BaseModel):
        return _struct(annotation, within)
    if issubclass(annotation, Decimal):
        digits, places = _digits(metadata)
        return Column(pa.decimal128(digits, places), partial(_decimal, places=places))
    return next((column for classes, column in _BY_CLASS if issubclass(annotation, classes)), JSON)


def _decimal(value: Any, *, places: int) -> Any:
    """A number that Arrow can be given: one that is far too small ends the process in it, or silently becomes zero."""
    if not isinstance(value, Decimal):
        return value
    if not value.is_finite():
        raise ValueError("no finite number")
    if value and value.adjusted() < -places:
        raise ValueError(f"more than {places} decimal places")
    return value or Decimal(0)


def _of_values(members: Iterable[Any]) -> Column:
    """Of an Enum or a Literal: what their values are, if they are all of one kind."""
    kinds = {type(_value(member)) for member in members}
    found = next((c.type for classes, c in _BY_CLASS[:4] if kinds == {classes}), None)
    return JSON if found is None else Column(found, _value)


def _value(member: Any) -> Any:
    return member.value if isinstance(member, Enum) else member


def _list(item: Any, within: tuple[Any, ...]) -> Column:
    column = _column(item, [], within)
    if column is JSON:
        return JSON
    convert = column.convert

    def converted(values: Any) -> list[Any]:
        values = sorted(values, key=repr) if isinstance(values, Set) else values
        return list(values) if convert is None else [None if v is None else convert(v) for v in values]

    return Column(pa.list_(column.type), converted)


def _map(key: Any, item: Any, within: tuple[Any, ...]) -> Column:
    name, column = _column(key, [], within), _column(item, [], within)
    if name != Column(pa.string()) or column is JSON:
        return JSON
    convert = column.convert or _value
    return Column(
        pa.map_(pa.string(), column.type),
        lambda mapping: [(k, None if v is None else convert(v)) for k, v in mapping.items()],
    )


def _struct(model: type[BaseModel], within: tuple[Any, ...]) -> Column:
    if issubclass(model, pydantic.RootModel):
        root = _column(model.model_fields["root"].annotation, model.model_fields["root"].metadata, (*within, model))
        convert = root.convert or _value
        return (
            JSON
            if root is JSON
            else Column(root.type, lambda value: None if value.root is None else convert(value.root))
        )
    fields = columns_of_fields(model, within)
    if not fields or model.model_config.get("extra") == "allow":
        return JSON  # so that what has no field isn't lost
    converts = [(name, attrgetter(name), column.convert or _value) for name, column in fields.items()]

    def converted(value: Any) -> dict[str, Any]:
        return {name: None if (field := get(value)) is None else convert(field) for name, get, convert in converts}

    return Column(pa.struct([(name, column.type) for name, column in fields.items()]), converted, fields)


def _digits(metadata: Sequence[Any]) -> tuple[int, int]:
    """`max_digits` and `decimal_places`, wherever pydantic keeps them."""
    found: dict[str, int] = {}
    for entry in metadata:
        for part in entry.metadata if isinstance(entry, FieldInfo) else (entry,):
            for limit in ("max_digits", "decimal_places"):
                value = getattr(part, limit, None)
                if isinstance(value, int):
                    found[limit] = value
    digits, places = found.get("max_digits"), found.get("decimal_places")
    if digits is None or places is None or not 0 < digits <= 38 or places > digits:
        return WIDEST_DECIMAL
    return digits, places
