"""Moment: a time in UTC, read from whatever records have for one. docs/inputs.md has the rules as a table."""

from __future__ import annotations

import re
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

_SMALLEST: Final = 10_000_000
"""Smaller numbers (a year, a duration, a counter) are no time unless a unit says so; 0 is 1970."""

_NUMBER = re.compile(r"[+-]?\d{1,19}(?:\.\d{1,12})?")
_LEAP_SECOND = re.compile(r"(?<=[T ]\d\d:\d\d):60")  # which Python doesn't know
_ISO = re.compile(r"\d{4}-[\dW]|\d{4}W|\d{8}[Tt ]")
_ZONE_NAME = re.compile(r" ?(?:UTC|GMT|Z)$")
_COMMENT = re.compile(r" \([A-Za-z .]+\)$")
# RFC 2822 and HTTP. A zone must be one that is known: the parser would take any other for UTC.
_MAIL = re.compile(
    r"(?:[A-Z][a-z]{2,8},? )?\d{1,2}[ -][A-Z][a-z]{2}[ -]\d{2,4} \d\d:\d\d(?::\d\d)? "
    r"(?:[+-]\d{4}|GMT|UTC?|Z|[ECMP][SD]T)"
)
_CTIME = re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} {1,2}\d{1,2} \d\d:\d\d:\d\d(?: (?:[+-]\d{4}|GMT|UTC))? \d{4}")


def read_moment(value: Any, unit: TimeUnit = "auto") -> datetime | None:
    """Return a value as a time in UTC; None where it is none.

    Times are ISO 8601 and RFC 3339, RFC 2822 and HTTP dates, `date`'s and ctime's form (a time without a zone is in
    UTC), and numbers since 1970, as text too. With `auto` a number's size tells its unit: to 10 digits before the point
    seconds, to 13 milliseconds, to 16 microseconds, to 19 nanoseconds, each up to the year 2286; a number of 8 or 14
    digits that is a day (20181010) or a second (20181010235959) of the years 1900 to 2199 is that.
    """
    try:
        if isinstance(value, str):
            return _of_text(value.strip(), unit) if len(value) <= LETTERS else None
        if isinstance(value, bool):
            return None
        if isinstance(value, int | float | Decimal):
            return _of_number(value, unit)
        if isinstance(value, datetime):
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        if isinstance(value, date):
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
    except (ValueError, OverflowError, OSError, ArithmeticError):
        pass
    return None


def _of_text(text: str, unit: TimeUnit) -> datetime | None:
    if _NUMBER.fullmatch(text):
        return _of_number(Decimal(text) if "." in text else int(text), unit)
    if _ISO.match(text):
        return read_moment(_of_iso(text))
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
        if (written := _as_written(number)) is not None:
            return written
        size = abs(float(number))
        if size < _SMALLEST and size != 0:
            return None
        unit = "s" if size < 1e10 else "ms" if size < 1e13 else "us" if size < 1e16 else "ns"
        if size >= 1e19:
            return None
    exact = number if isinstance(number, int) else Decimal(repr(number)) if isinstance(number, float) else number
    microseconds = exact // 1000 if unit == "ns" else round(exact * MICROSECONDS[unit])
    return EPOCH + timedelta(microseconds=int(microseconds))


def _as_written(number: int | float | Decimal) -> datetime | None:
    """The day or second whose digits the number is, such as 20181010; None where it is none."""
    digits = str(number) if isinstance(number, int) else ""
    if len(digits) not in (8, 14) or not "1900" <= digits[:4] < "2200":
        return None
    try:
        return datetime.strptime(digits, "%Y%m%d" if len(digits) == 8 else "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


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
        raise OverflowError("a time that is none in UTC, where the years are 1 to 9999") from None


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
