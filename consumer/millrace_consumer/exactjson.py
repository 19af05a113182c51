"""JSON text in columns: of records as they came, with all their digits, and of a model's values."""

from __future__ import annotations

import json
from collections.abc import Set
from decimal import Decimal
from typing import Any

import msgspec
from pydantic_core import to_json

_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")


def exact_values(text: bytes) -> Any:
    """Return the Python values of a JSON text; a number that is no integer is a Decimal of all its digits."""
    return _decoder.decode(text)


def exact_text(value: Any) -> str:
    """Return such values as JSON text."""
    return _encoder.encode(value).decode()


def text_of_model(value: Any) -> str:
    """Return a value as pydantic says it in JSON; a set in an order that doesn't change from one process to the next.

    NaN is null. Raises ValueError for an infinity: a number that no float holds has become one, and null it is not.
    """
    if isinstance(value, Set):
        value = sorted(value, key=repr)
    text = to_json(value, inf_nan_mode="constants")
    if b"Infinity" not in text and b"NaN" not in text:
        return text.decode()
    json.loads(text, parse_constant=_refuse_infinity)
    return to_json(value, inf_nan_mode="null").decode()


def _refuse_infinity(name: str) -> None:
    if name != "NaN":
        raise ValueError("a number that no float can hold, in what is nested")
