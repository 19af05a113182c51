"""Delta holds: values brought into the type that a column of a table has, each as exactly what it was.

Arrow makes infinity of 1e50 and 1 of true, takes 5 for five microseconds after 1970, and reads times by rules of its
own. So it casts only where nothing can be lost by that; elsewhere each value is looked at, by what tables of SQL go by.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as kinds

from millrace_consumer.sinks import holds

Taking: TypeAlias = Callable[[Any], Any]
"""Makes a value of what a column takes; raises ValueError, which says why, for what it can't hold."""

MISFITS = (pa.ArrowInvalid, pa.ArrowTypeError, ValueError, OverflowError)
"""What `brought_into` raises for values that the type can't hold."""


def brought_into(column: pa.ChunkedArray, type: pa.DataType) -> pa.ChunkedArray:
    """Return a column as one of another type, null where it is null, and every value what it was.

    Raises what is in MISFITS where some value isn't that of the type, ArrowNotImplementedError where none could be.
    """
    if not _are_akin(column.type, type):
        raise pa.ArrowNotImplementedError(f"{column.type} can't be made {type}")
    if _casts_exactly(column.type, type):
        try:
            return column.cast(type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass  # looked at one by one, it is said in our words, or is no loss
    elif kinds.is_float64(column.type) and kinds.is_float32(type) and (single := _as_single(column)) is not None:
        return single
    take = _taking(type)
    return pa.chunked_array([pa.array([_or_null(take, value) for value in column.to_pylist()], type)])


def _are_akin(have: pa.DataType, there: pa.DataType) -> bool:
    """Return False where no value of the one can be one of the other: of what is nested, and bytes."""
    if kinds.is_struct(have) and kinds.is_struct(there):
        fields = {field.name: field.type for field in have}
        return all(field.name not in fields or _are_akin(fields[field.name], field.type) for field in there)
    if kinds.is_list(have) and kinds.is_list(there):
        return _are_akin(have.value_type, there.value_type)
    if kinds.is_map(have) and kinds.is_map(there):
        return _are_akin(have.key_type, there.key_type) and _are_akin(have.item_type, there.item_type)
    if kinds.is_nested(have) or kinds.is_nested(there):
        return False
    if _is_binary(have) or _is_binary(there):
        return _is_letters(have) and _is_letters(there)
    return True


def _casts_exactly(have: pa.DataType, there: pa.DataType) -> bool:
    """Return True where Arrow's own cast loses nothing, or refuses to."""
    if have == there:
        return True
    if kinds.is_struct(have) and kinds.is_struct(there):
        fields = {field.name: field.type for field in have}
        return all(field.name not in fields or _casts_exactly(fields[field.name], field.type) for field in there)
    if kinds.is_list(have) and kinds.is_list(there):
        return _casts_exactly(have.value_type, there.value_type)
    if kinds.is_map(have) and kinds.is_map(there):
        return have.key_type == there.key_type and _casts_exactly(have.item_type, there.item_type)
    if kinds.is_integer(have):
        return bool(kinds.is_integer(there) or kinds.is_floating(there) or _is_letters(there))
    if kinds.is_temporal(have):
        return bool(kinds.is_timestamp(there) or _is_letters(there))
    if kinds.is_decimal(have) and kinds.is_decimal(there):
        return True
    return _is_letters(there)


def _as_single(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return doubles as floats; None where one of them may have lost more than what is behind the point."""
    single = column.cast(pa.float32())
    size = pc.abs(column)
    near = pc.and_(pc.less(size, 2**24), pc.and_(pc.not_equal(pc.floor(size), size), pc.not_equal(single, 0.0)))
    same = pc.or_(pc.equal(single.cast(pa.float64()), column), pc.is_nan(column))
    return single if pc.all(pc.or_(near, same)).as_py() is not False else None


@lru_cache(maxsize=200)
def _taking(type: pa.DataType) -> Taking:
    if kinds.is_struct(type):
        fields = {field.name: _taking(field.type) for field in type}
        return lambda value: {name: _within(name, take, value.get(name)) for name, take in fields.items()}
    if kinds.is_list(type):
        item = _taking(type.value_type)
        return lambda values: [_or_null(item, value) for value in values]
    if kinds.is_map(type):
        key, item = _taking(type.key_type), _taking(type.item_type)
        return lambda pairs: [(key(name), _within(str(name), item, value)) for name, value in pairs]
    return _taking_scalars(type)


def _taking_scalars(type: pa.DataType) -> Taking:
    if kinds.is_integer(type):
        return _integers(type)
    if kinds.is_floating(type):
        return holds.floats(str(type), single=kinds.is_float32(type)).of
    if kinds.is_decimal(type):
        return _decimals(type)
    if kinds.is_boolean(type):
        return holds.truths("boolean").of
    if kinds.is_timestamp(type):
        return holds.instants().of
    if kinds.is_date(type):
        return holds.days().of
    return lambda value: value


def _integers(type: pa.DataType) -> Taking:
    hold, limit = holds.whole_numbers(str(type)).of, 2 ** (type.bit_width - 1)

    def of(value: Any) -> Any:
        if isinstance(value, float) and not isfinite(value):
            raise ValueError(f"no finite number, and {type} holds nothing else")
        number = hold(value)
        if not -limit <= number < limit:
            raise ValueError(f"a larger number than {type} holds")
        return number

    return of


def _decimals(type: pa.Decimal128Type) -> Taking:
    hold = holds.decimals(str(type), type.scale).of

    def of(value: Any) -> Any:
        number = Decimal(hold(value))
        if not number.is_finite():
            raise ValueError(f"no finite number, and {type} holds nothing else")
        if number and number.adjusted() >= type.precision - type.scale:
            raise ValueError(f"more digits than {type} holds before the point")
        return number or Decimal(0)  # one with a huge exponent ends the process in Arrow

    return of


def _within(name: str, take: Taking, value: Any) -> Any:
    try:
        return _or_null(take, value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _or_null(take: Taking, value: Any) -> Any:
    return None if value is None else take(value)


def _is_letters(type: pa.DataType) -> bool:
    return bool(kinds.is_string(type) or kinds.is_large_string(type) or kinds.is_string_view(type) or _is_binary(type))


def _is_binary(type: pa.DataType) -> bool:
    return bool(kinds.is_binary(type) or kinds.is_large_binary(type) or kinds.is_binary_view(type))
