"""Python values: what programs hand over as a record, before it is JSON text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from millrace_pipeline.errors import RecordError
from millrace_pipeline.number import ExactFloat

_PLAIN = frozenset({str, int, float, bool, type(None), ExactFloat, datetime, date, time})


def sayable(value: Any) -> Any:
    """Return a value as the encoder of JSON can be given it; the very same where nothing has to change.

    Names that are no text become what JSON says for them; a Decimal that is no number becomes null. Raises RecordError
    for bytes, which are text only to whoever knows their encoding, and where two names are one in JSON.
    """
    try:
        return _sayable(value)
    except RecursionError as error:
        raise RecordError(f"not JSON: {error}") from error


def _sayable(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, Mapping):
        if kind is dict and all(type(name) is str and type(inner) in _PLAIN for name, inner in value.items()):
            return value
        said = {_name(name): _sayable(inner) for name, inner in value.items()}
        if len(said) < len(value):
            raise RecordError("two names of a dict are the same in JSON, such as 1 and '1'")
        return said
    if isinstance(value, list | tuple | set | frozenset):
        return [_sayable(inner) for inner in value]
    if isinstance(value, bytes | bytearray | memoryview):
        raise RecordError("bytes are not JSON: decode them to text first")
    if isinstance(value, Decimal):
        return (value if kind is Decimal else Decimal(value)) if value.is_finite() else None
    return value


def _name(name: Any) -> Any:
    if isinstance(name, str):
        return str.__str__(name)
    if isinstance(name, bytes | bytearray | memoryview):
        raise RecordError("bytes are not JSON: decode them to text first")
    if name is None or isinstance(name, bool):
        return {None: "null", True: "true", False: "false"}[name]
    if type(name) is int:
        return str(name)
    if isinstance(name, float) and math.isfinite(name):
        return repr(float(name))
    return name
