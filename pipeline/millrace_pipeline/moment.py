"""Moment: a time in UTC, read from whatever records have for one. docs/inputs.md has the rules as a table."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import lru_cache
from time import time_ns
from typing import Any, Final, Literal, TypeAlias

TimeUnit: TypeAlias = Literal["auto", "s", "ms", "us", "ns"]
"""What numbers count since 1970; `auto` tells it by their size."""

MICROSECONDS: Final = {"s": 1_000_000, "ms": 1_000, "us": 1}
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LETTERS: Final = 64
"""A longer text is no time."""
NOT_IN_UTC: Final = "a time that is none in UTC, where the years are 1 to 9999"

_SMALLEST: Final = 10_000_000
"""Smaller numbers (a year, a duration, a counter) are no time unless a unit says so; 0 is 1970."""

_WRITTEN: Final = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S", 17: "%Y%m%d%H%M%S%f"}
"""By their number the digits of which a time may be written."""

_AMBIGUOUS: Final = (10, 12)

_YEAR_2100: Final = 4_102_444_800


def _clock(first: int, per_second: int) -> tuple[int, int]:
    return first, first + _YEAR_2100 * per_second


_OTHER_CLOCKS: Final = (
    _clock(621_355_968_000_000_000, 10_000_000),  # .NET: since the year 1
    _clock(116_444_736_000_000_000, 10_000_000),  # Windows: since 1601
    _clock(11_644_473_600_000_000, 1_000_000),  # WebKit: since 1601
)
"""What others count up to 1970 and to 2100. As nanoseconds since 1970 they would be times of 1970 to 1990."""

_ENDS: Final = tuple(
    (first * per_second, (first + 86_400) * per_second)
    for first in (-62_135_596_800, 253_402_214_400)
    for per_second in (1, 1_000, 1_000_000)
)
"""The first day of the year 1 and the last of 9999, in each unit: what many write for "never" and "for ever".

By their size they would be times of 1968 and 1978 in the next smaller unit.
"""

_NO_TIMES: Final = (*_OTHER_CLOCKS, *_ENDS)
"""Numbers that are no time by their size alone: from each first one up to its end."""

_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d{0,18})(?:\.\d{1,12})?", re.ASCII)
_LEAP_SECOND = re.compile(r"(?<=[T ]\d\d:\d\d):60", re.ASCII)  # which Python doesn't know
# Python's parser would take any letter, a sign too, for what stands between day and time.
_DAY = r"(?:\d{4}-\d\d-\d\d|\d{4}-?W\d\d-?\d|\d{8})"
_HOURS = r"(?:T|[ _](?=\d\d:?\d\d))\d\d(?::?\d\d(?::?\d\d(?:[.,]\d+)?)?)?"
_ISO = re.compile(rf"{_DAY}{_HOURS}(?: ?(?:UTC|GMT|Z|[+-]\d\d(?::?\d\d(?::?\d\d)?)?))?", re.ASCII | re.IGNORECASE)
_ISO_DAY = re.compile(rf"({_DAY})((?: ?(?:UTC|GMT|Z)|[+-]\d\d:\d\d)?)", re.ASCII | re.IGNORECASE)
_ZONE_NAME = re.compile(r" ?(?:UTC|GMT|Z)$")
_COMMENT = re.compile(r" \([A-Za-z .]+\)$")
# RFC 2822 and HTTP. A zone must be one that is known: the parser would take any other for UTC.
_MAIL = re.compile(
    r"(?:[A-Z][a-z]{2,8},? )?\d{1,2}[ -][A-Z][a-z]{2}[ -]\d{2,4} \d\d:\d\d(?::\d\d)? "
    r"(?:[+-]\d{4}|GMT|UTC?|Z|[ECMP][SD]T)",
    re.ASCII,
)
_CTIME = re.compile(
    r"[A-Z][a-z]{2} [A-Z][a-z]{2} {1,2}\d{1,2} \d\d:\d\d:\d\d(?: (?:[+-]\d{4}|GMT|UTC))? \d{4}", re.ASCII
)


def read_moment(value: Any, unit: TimeUnit = "auto") -> datetime | None:
    """Return a value as a time in UTC; None where it is none.

    Times are ISO 8601 and RFC 3339, RFC 2822 and HTTP dates, `date`'s and ctime's form (a time without a zone is in
    UTC), and numbers since 1970, as text too. With `auto` a number's size tells its unit: to 10 digits before the point
    seconds, to 13 milliseconds, to 16 microseconds, to 19 nanoseconds, each up to the year 2286; a number of 8, 14 or
    17 digits that is a day (20181010), a second (20181010235959) or a millisecond of the years 1900 to 2199 is that.
    What may as well be something else is none: an hour or a minute in digits (2018101020), what counts from another
    year (.NET's ticks, Windows' and WebKit's times), and the first day of the year 1 and the last of 9999, which stand
    for no time at all (Go's and .NET's zero, "for ever").
    """
    try:
        if isinstance(value, str):
            return _of_text(value.strip(), unit) if len(value) <= LETTERS else None
        if isinstance(value, bool):
            return None
        if isinstance(value, int | float | Decimal):
            return _of_number(value, unit)
        if isinstance(value, datetime):
            return in_utc(value)
        if isinstance(value, date):
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
    except (ValueError, OverflowError, OSError, ArithmeticError):
        pass
    return None


def _of_text(text: str, unit: TimeUnit) -> datetime | None:
    if len(text) >= 20 and text[4] + text[10] + text[13] + text[16] + text[-1] == "-T::Z":  # as most are written
        with suppress(ValueError):
            return datetime.fromisoformat(text)
    if _NUMBER.fullmatch(text):
        return _of_number(Decimal(text) if "." in text else int(text), unit)
    if _ISO.fullmatch(text):
        return in_utc(_of_iso(text))
    if day := _ISO_DAY.fullmatch(text):  # with a zone, as XML has it, it begins at midnight there
        return read_moment(_of_iso(f"{day[1]}T00:00{day[2]}"))
    text = _COMMENT.sub("", text)
    if _MAIL.fullmatch(text) or _CTIME.fullmatch(text):
        return read_moment(parsedate_to_datetime(text))
    return None


def _of_iso(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        text = text.upper()  # RFC 3339 allows t and z
        return datetime.fromisoformat(_LEAP_SECOND.sub(":59", _ZONE_NAME.sub("+00:00", text)))


def _of_number(number: int | float | Decimal, unit: TimeUnit) -> datetime | None:
    if unit == "auto":
        size = abs(float(number))
        if not (_SMALLEST <= size < 1e19 or size == 0):
            return None
        if (written := _as_written(number)) is not None:
            return written if written.tzinfo else None
        if any(first <= number < end for first, end in _NO_TIMES):
            return None
        unit = "s" if size < 1e10 else "ms" if size < 1e13 else "us" if size < 1e16 else "ns"
    exact = number if isinstance(number, int) else Decimal(repr(number)) if isinstance(number, float) else number
    microseconds = exact // 1000 if unit == "ns" else round(exact * MICROSECONDS[unit])
    return EPOCH + timedelta(microseconds=int(microseconds))


def _as_written(number: int | float | Decimal) -> datetime | None:
    """The time whose digits the number is, such as 20181010; None where it is none.

    One without a zone may be that or not: so many digits have seconds and milliseconds, too.
    """
    digits = str(int(number)) if number == int(number) else ""
    if (form := _WRITTEN.get(len(digits))) is None or not "1900" <= digits[:4] < "2200":
        return None
    try:
        moment = datetime.strptime(digits, form)
    except ValueError:
        return None
    return moment if len(digits) in _AMBIGUOUS else moment.replace(tzinfo=UTC)


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with a Z, as CloudEvents wants it; a naive time is taken as UTC."""
    return f"{in_utc(moment).isoformat(timespec='microseconds')[:-6]}Z"


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC; a naive time is taken as UTC. Raises OverflowError for one outside of the years 1 to 9999."""
    if moment.tzinfo is UTC:
        return moment
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise OverflowError(NOT_IN_UTC) from None


def now() -> str:
    """This moment as a `timestamp`; the same one for a millisecond, since to format it is what costs."""
    global _now
    nanoseconds = time_ns()
    until, text = _now
    if not until - 1_000_000 <= nanoseconds < until:
        seconds, rest = divmod(nanoseconds, 1_000_000_000)
        text = f"{_to_the_second(seconds)}.{rest // 1000:06d}Z"
        _now = nanoseconds + 1_000_000, text
    return text


_now = (0, "")


@lru_cache(maxsize=1)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
