"""JSON text: Python values in and out, and what is wrong with a text that is none."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from numbers import Integral
from typing import Any

import msgspec
from pydantic import BaseModel

from millrace_pipeline.errors import EnvelopeError, RecordError
from millrace_pipeline.number import ExactFloat, read_float
from millrace_pipeline.surrogates import decode_surrogates, encode_surrogates, well_formed


def _other_types(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude=_absent(value))
    for kind, plain in _PLAIN:
        if isinstance(value, kind):
            return plain(value)
    raise TypeError(f"{type(value).__qualname__} is not something JSON can say")


def _builtin_types(value: Any) -> Any:
    return float(value) if isinstance(value, ExactFloat) else _other_types(value)


def _absent(value: BaseModel) -> set[str] | None:
    """Return the fields that nobody has set and that are null only by default: what isn't there is not null."""
    unset = type(value).model_fields.keys() - value.model_fields_set
    return {name for name in unset if getattr(value, name, None) is None} or None


def _day(value: date) -> date:
    return date(value.year, value.month, value.day)


def _clock(value: datetime) -> time:
    return time(value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold)


# What is one of these is written as one: text by BeautifulSoup or lxml, numbers by numpy, a time by pandas, a
# deque, a mapping.
_PLAIN: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__pos__),
    (ExactFloat, lambda value: msgspec.Raw(value.text.encode())),
    (float, float.__pos__),
    (Integral, int),
    (datetime, lambda value: datetime.combine(_day(value), _clock(value))),
    (date, _day),
    (Decimal, Decimal),
    (deque, list),
    (Mapping, dict),
)

encoder = msgspec.json.Encoder(enc_hook=_other_types)
_decoder = msgspec.json.Decoder(float_hook=read_float)
_LINE_BREAKS = re.compile(rb"[\r\n]+")


def encode_json(value: Any) -> bytes:
    """Compact UTF-8 JSON on one line.

    Datetimes become ISO 8601, Decimals strings, bytes base64 (`sayable` refuses them), NaN and infinities null, which
    are what JSON has for them; a number that was read from JSON keeps its digits; subclasses of text, numbers, times
    and mappings become what they are subclasses of. A pydantic model's field that nobody has set, and that is null by
    default, is left out. Raises RecordError naming what can't be said in JSON.
    """
    try:
        return encoder.encode(value)
    except UnicodeEncodeError:
        # Which of the two a number with more digits than a float has then loses: only its float is left.
        return encode_surrogates(msgspec.to_builtins(value, enc_hook=_builtin_types, str_keys=True))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise RecordError(f"not JSON: {error}") from error


def decode_json(text: bytes | msgspec.Raw) -> Any:
    """Python values of a JSON text. Raises EnvelopeError saying what is wrong with it."""
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        if (mended := well_formed(original := bytes(text))) is original:
            raise EnvelopeError(why_not(error)) from error
    decode_json(mended)  # raises where it isn't JSON otherwise
    return decode_surrogates(original)


def one_line(text: bytes) -> bytes:
    """Return the same JSON text on one line: a raw line break in JSON can only be white space between tokens."""
    return _LINE_BREAKS.sub(b" ", text) if b"\n" in text or b"\r" in text else text


def checked_text(text: bytes) -> None:
    """Raises RecordError unless the bytes are one JSON text in UTF-8. Lone surrogates may stand in it as escapes."""
    try:
        text.decode()
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        if (mended := well_formed(text)) is text:
            raise RecordError(why_not(error)) from error
        checked_text(mended)


def why_not(error: BaseException) -> str:
    """Return what is wrong with a text, by what decoding it raised."""
    if isinstance(error, RecursionError):
        return "not usable JSON: nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: byte {error.object[error.start]:#04x} at offset {error.start}"
    if isinstance(error, msgspec.ValidationError):
        return f"not a record: {error}"
    return f"not JSON: {error}"
