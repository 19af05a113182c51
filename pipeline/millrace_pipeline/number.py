"""Numbers out of records: text as an exact number, within bounds.

What `1e999999999` says fits in eleven characters; as a whole number it has a billion digits, which are made in C, with
the interpreter's lock held, so that nothing else of the process runs meanwhile. So whoever makes an exact number of a
record's value makes it here.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

DIGITS = 4300
"""The most digits of a number that is written out, before and after the point together: as many as Python's own `int`
takes from text."""

_LETTERS = DIGITS + 100  # a sign, a point, an exponent, and white space around them
_TOO_LARGE = 10**DIGITS


_SAFE_LETTERS = 16
"""A number of so many letters, one of which is the point, has at most 15 digits, which every float keeps."""


class ExactFloat(float):
    """A float that remembers how it was written, since it can't hold all of it: 95000.123456789012345, or 1e-999.

    It counts as any float does; `str` of it, and JSON, have all its digits again.
    """

    __slots__ = ("text",)
    text: str

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        return read_float, (self.text,)


def read_float(text: str) -> float:
    """Return the float that a JSON text says, as an ExactFloat where that holds less than the text.

    Raises ValueError for one beyond all floats: as infinity, which JSON hasn't, it would be lost.
    """
    value = float(text)
    if value - value:  # NaN, which is true, for an infinity
        raise ValueError("number out of range")
    if len(text) <= _SAFE_LETTERS and value:
        return value
    if Decimal(repr(value)) == Decimal(text):
        return value
    found = ExactFloat(text)
    found.text = text
    return found


class OutOfBounds(ValueError):
    """A number that is too long to be worked with. The message names the bound, and nothing of the number."""

    def __init__(self) -> None:
        super().__init__(f"it has more than {DIGITS:,} digits when it is written out")


def exact(value: Any) -> Decimal:
    """The number that a text, or a number, says. Raises OutOfBounds, and ValueError or TypeError for what is none.

    NaN and the infinities are numbers here.
    """
    if isinstance(value, Decimal):
        number = value
    elif isinstance(value, str):
        number = _read(value)
    elif isinstance(value, ExactFloat):
        number = _read(value.text)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = _read(repr(bounded(value)))
    else:
        raise TypeError(f"expected a number, not {type(value).__name__}")
    if number.is_finite():
        # Written out it has the digits before the point, or a 0, and those behind it.
        behind = number.as_tuple().exponent
        assert isinstance(behind, int)
        if max(number.adjusted() + 1, 1) + max(-behind, 0) > DIGITS:
            raise OutOfBounds
    return number


def whole(value: Any) -> int:
    """The whole number that a text, or a number, says.

    Raises OutOfBounds, and ValueError, TypeError or OverflowError for what is none.
    """
    number = bounded(value) if isinstance(value, int) else exact(value)  # 1e23 is that, not the float beside it
    if number != (found := int(number)):
        raise ValueError("not a whole number")
    return found


def bounded(value: Any) -> Any:
    """The value itself, unless it is a number in Python's hands, or a text, that is too long. Raises OutOfBounds."""
    if isinstance(value, int) and not -_TOO_LARGE < value < _TOO_LARGE:
        raise OutOfBounds
    if isinstance(value, str) and len(value) > _LETTERS:
        raise OutOfBounds
    return value


def _read(text: str) -> Decimal:
    try:
        return Decimal(bounded(text.strip()))
    except InvalidOperation:
        raise ValueError("not a number") from None
