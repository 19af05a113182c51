"""What a model's fields are as columns of a table, before any database gives that a name of its own.

| the model says | the column holds |
|---|---|
| str, URLs, paths, addresses | text |
| int, float, bool, bytes | integers, floats, booleans, bytes |
| Decimal | decimals: of its `max_digits` and `decimal_places`, where it has both |
| datetime, date, time, timedelta | instants (a naive one is taken as UTC), dates, times of day, durations |
| UUID | UUIDs |
| Enum, Literal | what their values are, if all are of one kind |
| Optional[T] | T, or null; of any other type but Any the column holds no null |
| another model, lists, mappings, unions, Any, all else | JSON |
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from pydantic import BaseModel, RootModel

from millrace_consumer.modeltypes import Kind, shapes_of
from millrace_pipeline.errors import ConfigError

_NESTED = {Kind.LIST, Kind.MAP, Kind.STRUCT, Kind.ROOT}


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


@lru_cache(maxsize=64)
def columns_of(model: type[BaseModel]) -> dict[str, SqlColumn]:
    """The column of each field, by its name. Raises ConfigError where the model has no named fields."""
    shapes = shapes_of(model)
    if not shapes or issubclass(model, RootModel):
        raise ConfigError(f"model {model.__name__} has no named fields to make columns of")
    return {
        name: SqlColumn(Kind.JSON if shape.kind in _NESTED else shape.kind, shape.nullable, shape.digits)
        for name, shape in shapes.items()
    }
