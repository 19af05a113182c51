"""Model types: what a model's fields say of their values. Every sink with columns of its own kind goes by this walk."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypeVar, Union, get_args, get_origin
from uuid import UUID

import pydantic
from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo
from pydantic_core import Url

from millrace_consumer.modelfields import field_names


class Kind(StrEnum):
    """What a field holds."""

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
    LIST = "lists"
    MAP = "mappings"
    STRUCT = "objects"
    ROOT = "a root model's values"
    JSON = "JSON"


class Shape(NamedTuple):
    """What one field holds, and whether null may stand there.

    `digits` are those of a decimal, in all and after the point, where the model limits both. `spoken` is true of text
    that values become by `str`, `members` of an Enum's or a Literal's, `null_member` where null is one of these.
    `parts` are the shapes within: a list's or root's item, a mapping's key and value; `fields` those of an object.
    """

    kind: Kind
    nullable: bool = False
    digits: tuple[int, int] | None = None
    spoken: bool = False
    members: bool = False
    null_member: bool = False
    parts: tuple[Shape, ...] = ()
    fields: Mapping[str, Shape] | None = None


_ANYTHING = (Any, object, None, type(None))
_LISTS: tuple[Any, ...] = (list, set, frozenset, deque, Sequence, Set, Iterable)
_PLAIN = {str: Kind.TEXT, bool: Kind.BOOLEAN, int: Kind.INTEGER, float: Kind.FLOAT}
_BY_CLASS: list[tuple[Any, Shape]] = [
    *((kind, Shape(name)) for kind, name in _PLAIN.items()),
    (bytes, Shape(Kind.BYTES)),
    ((datetime, pydantic.AwareDatetime, pydantic.NaiveDatetime), Shape(Kind.INSTANT)),
    ((pydantic.PastDatetime, pydantic.FutureDatetime), Shape(Kind.INSTANT)),
    ((date, pydantic.PastDate, pydantic.FutureDate), Shape(Kind.DATE)),
    (timedelta, Shape(Kind.DURATION)),
    (time, Shape(Kind.TIME)),
    (UUID, Shape(Kind.UUID)),
    (pydantic.EmailStr, Shape(Kind.TEXT)),
    ((PurePath, Url, pydantic.AnyUrl), Shape(Kind.TEXT, spoken=True)),
    (
        (IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network),
        Shape(Kind.TEXT, spoken=True),
    ),
    ((pydantic.IPvAnyAddress, pydantic.IPvAnyInterface, pydantic.IPvAnyNetwork), Shape(Kind.TEXT, spoken=True)),
]


def shapes_of(model: type[BaseModel], within: tuple[Any, ...] = ()) -> dict[str, Shape]:
    """The shape of each field, by its name. `within` are the types around it, for one that holds itself."""
    shapes = {}
    for name in field_names(model):
        field = model.model_fields.get(name)
        if field is not None:
            shapes[name] = _shape(field.annotation, field.metadata, (*within, model))
        else:
            shapes[name] = _shape(model.model_computed_fields[name].return_type, [], (*within, model))
    return shapes


def _shape(annotation: Any, metadata: Sequence[Any], within: tuple[Any, ...]) -> Shape:
    if any(annotation is outer for outer in within):
        return Shape(Kind.JSON)  # a tree has no flat type
    # Before classes: `Any` is one, from Python 3.11 on.
    if any(annotation is anything for anything in _ANYTHING) or isinstance(annotation, TypeVar):
        return Shape(Kind.JSON, nullable=True)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _shape(arguments[0], [*metadata, *arguments[1:]], within)
    if isinstance(annotation, NewType):
        return _shape(annotation.__supertype__, metadata, within)
    if hasattr(annotation, "__value__"):  # `type X = …`
        return _shape(annotation.__value__, metadata, (*within, annotation))
    if origin in (Union, types.UnionType):
        others = [argument for argument in arguments if argument is not type(None)]
        shapes = [_shape(other, metadata, within) for other in others]
        shape = shapes[0] if len(shapes) == 1 else Shape(Kind.JSON)
        null = len(others) < len(arguments) or any(shape.nullable for shape in shapes)
        return shape._replace(nullable=null)
    if origin is Literal:
        return _of_members(arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is ...:
        return Shape(Kind.LIST, parts=(_shape(arguments[0], [], within),))
    if origin in _LISTS and len(arguments) == 1:
        return Shape(Kind.LIST, parts=(_shape(arguments[0], [], within),))
    if origin in (dict, Mapping) and len(arguments) == 2:
        return Shape(Kind.MAP, parts=tuple(_shape(argument, [], within) for argument in arguments))
    return _of_class(annotation, metadata, within) if isinstance(annotation, type) and origin is None else _JSON


def _of_class(annotation: type, metadata: Sequence[Any], within: tuple[Any, ...]) -> Shape:
    if issubclass(annotation, Enum):
        return _of_members(list(annotation))
    if issubclass(annotation, RootModel):
        root = annotation.model_fields["root"]
        return Shape(Kind.ROOT, parts=(_shape(root.annotation, root.metadata, (*within, annotation)),))
    if issubclass(annotation, BaseModel):
        # One that takes more than its fields is kept whole, so that what has no field isn't lost.
        fields = {} if annotation.model_config.get("extra") == "allow" else shapes_of(annotation, within)
        return Shape(Kind.STRUCT, fields=fields) if fields else _JSON
    if issubclass(annotation, Decimal):
        return Shape(Kind.DECIMAL, digits=_digits(metadata))
    return next((shape for classes, shape in _BY_CLASS if issubclass(annotation, classes)), _JSON)


def _of_members(members: Iterable[Any]) -> Shape:
    """Of an Enum or a Literal: what their values are, if they are all of one kind."""
    values = [member.value if isinstance(member, Enum) else member for member in members]
    classes = {type(value) for value in values if value is not None}
    kind = _PLAIN.get(classes.pop(), Kind.JSON) if len(classes) == 1 else Kind.JSON
    return Shape(kind, nullable=None in values, members=True, null_member=None in values)


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


_JSON = Shape(Kind.JSON)
