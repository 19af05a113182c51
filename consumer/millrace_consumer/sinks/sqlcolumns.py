"""What a model's fields are as columns of a table, before any database gives that a name of its own.

| the model says | the column holds |
|---|---|
| str, URLs, paths, addresses | text |
| int, float, bool, bytes | integers, floats, booleans, bytes |
| Decimal | decimals: of its `max_digits` and `decimal_places`, where it has both |
| datetime, date, time, timedelta | instants (a naive one is taken as UTC), dates, times of day, durations |
| UUID | UUIDs |
| Enum, Literal | what their values are, if all are of one kind |
| Optional[T] | T, or null; of any other type the column holds no null |
| another model, lists, mappings, unions, Any, all else | JSON |
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from typing import Annotated, Any, Literal, NamedTuple, NewType, Union, get_args, get_origin
from uuid import UUID

import pydantic
from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo
from pydantic_core import Url

from millrace_consumer.modelfields import field_names
from millrace_pipeline.errors import ConfigError


class Kind(StrEnum):
    """What a column holds."""

    TEXT = "text"
    INTEGER = "integers"
    FLOAT = "floats"
    BOOLEAN = "booleans"
    BYTES = "bytes"
    DECIMAL = "decimals"
    INSTANT = "instants"
    DATE = "dates"
    TIME = "times of day"
    DURATION = "durations"
    UUID = "UUIDs"
    JSON = "JSON"


class SqlColumn(NamedTuple):
    """One column. `digits` are those of a decimal, in all and after the point, where the model limits both."""

    kind: Kind
    nullable: bool = True
    digits: tuple[int, int] | None = None


PLAIN = {
    "id": SqlColumn(Kind.TEXT, nullable=False),
    "time": SqlColumn(Kind.INSTANT),
    "data": SqlColumn(Kind.JSON, nullable=False),
}
"""The columns without a model: the envelope's id, its time (null where it is none), and the record."""

_BY_CLASS: list[tuple[Any, Kind]] = [
    (str, Kind.TEXT),
    (bool, Kind.BOOLEAN),
    (int, Kind.INTEGER),
    (float, Kind.FLOAT),
    (bytes, Kind.BYTES),
    (Decimal, Kind.DECIMAL),
    ((datetime, pydantic.AwareDatetime, pydantic.NaiveDatetime), Kind.INSTANT),
    ((pydantic.PastDatetime, pydantic.FutureDatetime), Kind.INSTANT),
    ((date, pydantic.PastDate, pydantic.FutureDate), Kind.DATE),
    (timedelta, Kind.DURATION),
    (time, Kind.TIME),
    (UUID, Kind.UUID),
    ((PurePath, Url, pydantic.AnyUrl, pydantic.EmailStr), Kind.TEXT),
    ((IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network), Kind.TEXT),
    ((pydantic.IPvAnyAddress, pydantic.IPvAnyInterface, pydantic.IPvAnyNetwork), Kind.TEXT),
]


@lru_cache(maxsize=64)
def columns_of(model: type[BaseModel]) -> dict[str, SqlColumn]:
    """The column of each field, by its name. Raises ConfigError where the model has no named fields."""
    columns = {}
    for name in field_names(model):
        field = model.model_fields.get(name)
        if field is not None:
            columns[name] = _column(field.annotation, field.metadata)
        else:
            columns[name] = _column(model.model_computed_fields[name].return_type, [])
    if not columns or issubclass(model, RootModel):
        raise ConfigError(f"model {model.__name__} has no named fields to make columns of")
    return columns


def _column(annotation: Any, metadata: Sequence[Any]) -> SqlColumn:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _column(arguments[0], [*metadata, *arguments[1:]])
    if isinstance(annotation, NewType):
        return _column(annotation.__supertype__, metadata)
    if hasattr(annotation, "__value__"):  # `type X = …`
        return _column(annotation.__value__, metadata)
    if origin in (Union, types.UnionType):
        others = [argument for argument in arguments if argument is not type(None)]
        column = _column(others[0], metadata) if len(others) == 1 else SqlColumn(Kind.JSON, nullable=False)
        return column._replace(nullable=column.nullable or len(others) < len(arguments))
    if origin is Literal:
        return _of_values(arguments)
    if isinstance(annotation, type) and origin is None:
        if issubclass(annotation, Enum):
            return _of_values(list(annotation))
        kind = next((kind for classes, kind in _BY_CLASS if issubclass(annotation, classes)), Kind.JSON)
        return SqlColumn(kind, nullable=False, digits=_digits(metadata) if kind is Kind.DECIMAL else None)
    return SqlColumn(Kind.JSON, nullable=annotation is Any or annotation is None)


def _of_values(members: Iterable[Any]) -> SqlColumn:
    values = [member.value if isinstance(member, Enum) else member for member in members]
    classes = {type(value) for value in values if value is not None}
    kind = next((kind for known, kind in _BY_CLASS[:4] if classes == {known}), Kind.JSON)
    return SqlColumn(kind, nullable=None in values)


def _digits(metadata: Sequence[Any]) -> tuple[int, int] | None:
    """`max_digits` and `decimal_places`, wherever pydantic keeps them."""
    found: dict[str, int] = {}
    for entry in metadata:
        for part in entry.metadata if isinstance(entry, FieldInfo) else (entry,):
            for limit in ("max_digits", "decimal_places"):
                value = getattr(part, limit, None)
                if isinstance(value, int):
                    found[limit] = value
    digits, places = found.get("max_digits"), found.get("decimal_places")
    return None if digits is None or places is None or not 0 <= places <= digits else (digits, places)
