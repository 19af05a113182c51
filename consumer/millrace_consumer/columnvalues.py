"""Column values: what a column takes of a model's values, so that Arrow takes none of them for something else.

What a model has validated is what its field says, but not all is validated: defaults, what a model's own functions
return, what `model_construct` is given, and a record that doesn't fit a model that evolves. Of those Arrow makes 3 of
3.7, 1.0 of true, and five microseconds after 1970 of 5.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from itertools import chain
from operator import attrgetter
from types import NoneType
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from millrace_consumer.modeltypes import Kind, Shape
from millrace_pipeline.moment import EPOCH, NOT_IN_UTC

Check: TypeAlias = Callable[[Sequence[Any]], None]
"""Looks at the values of one field; raises ValueError, which says why, where a column of its kind can't hold one."""

_NO_TEXT = (bool, int, float, Decimal, bytes, bytearray, Mapping, list, tuple, set, frozenset)
_PLAIN_VALUES = (str, bytes, bool, int, float, Mapping, list, tuple)
_SECOND = 1_000_000
_FIRST = round((datetime.min.replace(tzinfo=EPOCH.tzinfo) - EPOCH).total_seconds()) * _SECOND
_LAST = round((datetime.max.replace(tzinfo=EPOCH.tzinfo, microsecond=0) - EPOCH).total_seconds() + 1) * _SECOND - 1


def check_of(shape: Shape) -> Check | None:
    """Return what looks at a field's values; None where Arrow itself refuses all that the field doesn't say."""
    if shape.kind is Kind.LIST:
        return _lists(check_of(shape.parts[0]))
    if shape.kind is Kind.MAP:
        return _within(check_of(shape.parts[1]), lambda mappings: chain.from_iterable(map(_values, mappings)))
    if shape.kind is Kind.ROOT:
        return _within(check_of(shape.parts[0]), lambda models: (model.root for model in models))
    if shape.fields is not None:
        return _objects({name: check for name, field in shape.fields.items() if (check := check_of(field))})
    if shape.spoken or shape.kind is Kind.UUID:
        return _each(_spoken)
    if (known := _BY_KIND.get(shape.kind)) is None:
        return None
    check = _each(*known)
    return _members(check) if shape.members else check


def refuse_other_years(array: pa.Array) -> None:
    """Raise OverflowError for a time that is none in UTC, wherever in the array: Arrow makes one, and none reads it."""
    if pa.types.is_timestamp(array.type):
        found = pc.min_max(array)
        first, last = found["min"].value, found["max"].value
        if first is not None and not _FIRST <= first <= last <= _LAST:
            raise OverflowError(NOT_IN_UTC)
    elif pa.types.is_map(array.type):
        refuse_other_years(array.items)
    elif pa.types.is_nested(array.type):
        for part in array.flatten() if pa.types.is_struct(array.type) else [array.flatten()]:
            refuse_other_years(part)


def _each(refuse: Callable[[Any], None], plain: Collection[type] = ()) -> Check:
    """Values one by one, where they aren't all of the `plain` types."""
    known = {NoneType, *plain}

    def check(values: Sequence[Any]) -> None:
        if not known.issuperset(map(type, values)):
            for value in values:
                if type(value) not in known:
                    refuse(value)

    return check


def _lists(item: Check | None) -> Check:
    def check(values: Sequence[Any]) -> None:
        there = _there(values, (str, bytes, bytearray, Mapping), "no list")
        if item is not None:
            item(list(chain.from_iterable(there)))

    return check


def _there(values: Sequence[Any], others: tuple[type, ...], why: str) -> list[Any]:
    """Return the values without nulls. Raises ValueError for one of the other types."""
    if any(issubclass(kind, others) for kind in set(map(type, values))):
        raise ValueError(why)
    return [value for value in values if value is not None]


def _objects(fields: Mapping[str, Check]) -> Check:
    def check(values: Sequence[Any]) -> None:
        there = _there(values, _PLAIN_VALUES, "not what the model says")
        for name, field in fields.items():
            try:
                field(list(map(attrgetter(name), there)))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None

    return check


def _within(inner: Check | None, parts: Callable[[Iterable[Any]], Iterable[Any]]) -> Check | None:
    if inner is None:
        return None
    return lambda values: inner(list(parts(value for value in values if value is not None)))


def _values(mapping: Any) -> Iterable[Any]:
    found: Iterable[Any] = mapping.values()
    return found


def _members(check: Check) -> Check:
    return lambda values: check([value.value if isinstance(value, Enum) else value for value in values])


def _whole(value: Any) -> None:
    if isinstance(value, bool):
        raise ValueError("true or false, and no number")
    if isinstance(value, int):
        return
    if not isinstance(value, float | Decimal) or (exact := Decimal(str(value))) != exact.to_integral_value():
        raise ValueError("no whole number")


def _float(value: Any) -> None:
    if isinstance(value, bool):
        raise ValueError("true or false, and no number")
    if isinstance(value, int) and float(value) != value:
        raise ValueError("a whole number that no float holds")


def _text(value: Any) -> None:
    if not isinstance(value, str):
        raise ValueError("no text")


def _spoken(value: Any) -> None:
    if isinstance(value, _NO_TEXT):
        raise ValueError("no text")


def _instant(value: Any) -> None:
    if not isinstance(value, datetime):
        raise ValueError("no time")


def _day(value: Any) -> None:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise ValueError("no day")


def _duration(value: Any) -> None:
    if not isinstance(value, timedelta):
        raise ValueError("no duration")


_BY_KIND: Mapping[Kind, tuple[Callable[[Any], None], Collection[type]]] = {
    Kind.TEXT: (_text, {str}),
    Kind.INTEGER: (_whole, {int}),
    Kind.FLOAT: (_float, {float}),
    Kind.INSTANT: (_instant, {datetime}),
    Kind.DATE: (_day, {date}),
    Kind.DURATION: (_duration, {timedelta}),
}
