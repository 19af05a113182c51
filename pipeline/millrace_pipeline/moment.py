"""Moment: a time in UTC, read from what records have for one."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any

_MILLISECONDS_FROM = 1e11
_LEAP_SECOND = re.compile(r"(?<=T\d\d:\d\d):60")  # which Python doesn't know


def moment(value: Any) -> datetime | None:
    """A time in UTC: of RFC 3339 text, or of seconds (from 1e11 on milliseconds) since 1970. None where it is none."""
    try:
        if isinstance(value, bool):
            return None
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value / 1000 if abs(value) >= _MILLISECONDS_FROM else value, UTC)
        if isinstance(value, str):
            value = _parsed(value)
        if not isinstance(value, datetime):
            return datetime(value.year, value.month, value.day, tzinfo=UTC) if isinstance(value, date) else None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _parsed(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromisoformat(_LEAP_SECOND.sub(":59", text.upper()))  # RFC 3339 allows t and z
