"""Transforms of what a record's fields hold."""

from __future__ import annotations

import hashlib
import hmac
import math
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field, SecretStr

from millrace_consumer.transforms.base import Transform, an_object
from millrace_pipeline.envelope import encode_json, timestamp
from millrace_pipeline.number import OutOfBounds, bounded, exact, whole

TIME_LETTERS = 200
"""The longest text that is read as a time: a format can make the work grow with a power of the length."""

Kind = Literal["int", "float", "str", "bool", "decimal"]


class Cast(Transform):
    """Makes numbers of text, text of numbers, and so on. Null stays null; what can't be cast fails the record."""

    fields: dict[str, Kind] = Field(
        min_length=1, description="name: int, float, str, bool or decimal (exact, as text that keeps every digit)."
    )

    def __call__(self, record: Any) -> dict[str, Any]:
        data = an_object(record)
        for name, kind in self.fields.items():
            if (value := data.get(name)) is not None:
                try:
                    data[name] = _CASTS[kind](value)
                except OutOfBounds as error:
                    raise ValueError(f"field {name} can't be cast to {kind}: {error}") from None
                except (ValueError, TypeError, OverflowError) as error:
                    raise ValueError(f"field {name} can't be cast to {kind}") from error
        return data


def _float(value: Any) -> float:
    number = float(bounded(value))
    if not math.isfinite(number):
        raise ValueError("JSON has no such number")
    return number


def _bool(value: Any) -> bool:
    word = str(bounded(value)).strip().lower()
    if word not in _WORDS:
        raise ValueError("neither true nor false")
    return _WORDS[word]


_WORDS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else encode_json(value).decode()


def _decimal(value: Any) -> str:
    return str(exact(value))


_CASTS: dict[Kind, Any] = {"int": whole, "float": _float, "str": _text, "bool": _bool, "decimal": _decimal}


class ParseTime(Transform):
    """Makes RFC 3339 times in UTC of times in another form. Null stays null; what is no such time fails the record."""

    fields: list[str] = Field(min_length=1, description="Their names.")
    format: str = Field(
        "iso", description="`iso` (ISO 8601), `unix` (seconds), `unix_ms`, or a strptime format such as %d/%m/%Y %H:%M."
    )

    def __call__(self, record: Any) -> dict[str, Any]:
        data = an_object(record)
        for name in self.fields:
            if (value := data.get(name)) is not None:
                try:
                    data[name] = timestamp(self._moment(value))
                except _TooLong:
                    raise ValueError(f"field {name} is no time: it has more than {TIME_LETTERS} characters") from None
                except (ValueError, TypeError, OverflowError, OSError) as error:
                    raise ValueError(f"field {name} is no time of the form {self.format}") from error
        return data

    def _moment(self, value: Any) -> datetime:
        if isinstance(value, str) and len(value) > TIME_LETTERS:
            raise _TooLong
        if self.format in ("unix", "unix_ms"):
            return datetime.fromtimestamp(float(value) / (1000 if self.format == "unix_ms" else 1), UTC)
        if not isinstance(value, str):
            raise TypeError("expected text")
        return datetime.fromisoformat(value) if self.format == "iso" else datetime.strptime(value, self.format)


class _TooLong(ValueError):
    """A text that is too long to be a time."""


class Redact(Transform):
    """Hides what fields hold: all of it, or a hash by which equal values can still be told."""

    fields: list[str] = Field(min_length=1, description="Their names. One that a record lacks is no mistake.")
    how: Literal["mask", "hash"] = Field("mask", description="`mask` writes `***`, `hash` an HMAC-SHA256 in hex.")
    key: SecretStr = Field(
        SecretStr(""), description="Secret of the hash: without one, whoever guesses a value can check the guess."
    )

    def __call__(self, record: Any) -> dict[str, Any]:
        data = an_object(record)
        for name in self.fields:
            if data.get(name) is not None:
                data[name] = self._hidden(data[name])
        return data

    def _hidden(self, value: Any) -> str:
        if self.how == "mask":
            return "***"
        text = value.encode() if isinstance(value, str) else encode_json(value)
        return hmac.new(self.key.get_secret_value().encode(), text, hashlib.sha256).hexdigest()


class IngestTime(Transform):
    """Adds the time at which the record came by here. A batch that is delivered again has a later one."""

    field: str = Field("ingested_at", min_length=1, description="The name of the field.")

    def __call__(self, record: Any) -> dict[str, Any]:
        return {**an_object(record), self.field: timestamp(datetime.now(UTC))}
