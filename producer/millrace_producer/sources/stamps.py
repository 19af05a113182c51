"""Stamps: what a server writes into its records anew for each answer, such as its time or the number of the request.

By them the same page looks like another each time. What may just as well be data is none: a value that differs from
record to record, and a time that is not that of the answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from millrace_pipeline.errors import EnvelopeError
from millrace_pipeline.jsontext import decode_json
from millrace_pipeline.moment import read_moment

CLOCKS = timedelta(seconds=2)
"""Clocks, and what is cut off of a time, may differ by so much."""

SHORTEST = 8
"""The letters that a header's value has at least, for it to be known again in a record by more than chance."""

_RANDOM = re.compile(
    r"(?=.*\d)(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16,64}|[0-9a-hjkmnp-tv-z]{26})", re.IGNORECASE
)
"""A UUID, a number in hexadecimal of 64 bits or more, or a ULID."""


class Answering(NamedTuple):
    """All that is known of an answer but its body: when it was asked for, when it came, and what its headers say."""

    asked: datetime
    came: datetime
    headers: frozenset[str] = frozenset()
    date: datetime | None = None
    """By the server's clock."""

    def at(self, moment: datetime) -> bool:
        """Return True for a time of this answer, by our clock or by the server's."""
        by_theirs = self.date is not None and abs(moment - self.date) <= CLOCKS
        return by_theirs or self.asked - CLOCKS <= moment <= self.came + CLOCKS


def answering(asked: datetime, headers: Mapping[str, str]) -> Answering:
    """Return what is known of an answer that has come just now."""
    said = frozenset(text.strip() for text in headers.values() if len(text) >= SHORTEST)
    return Answering(asked, datetime.now(UTC), said, read_moment(headers.get("date")))


def alike(texts: Sequence[bytes], at: Answering, others: Sequence[bytes], other_at: Answering) -> bool:
    """Return True for two pages of the same records but for stamps. The first that is another ends the comparison."""
    if not texts or len(texts) != len(others):
        return False
    random = Counter[tuple[Any, ...]]()
    for text, other in zip(texts, others, strict=True):
        try:
            found = [] if text == other else list(_differences(decode_json(text), decode_json(other), ()))
        except (EnvelopeError, _Other):
            return False
        for place, one, another in found:
            if _is_time(one, at) and _is_time(another, other_at):
                continue
            if one in at.headers and another in other_at.headers:
                continue
            if not (_is_random(one) and _is_random(another)):
                return False
            random[place, one, another] += 1
    # One that stands on every record is of the page. Of a page of one record nobody knows whose it is.
    return all(count == len(texts) > 1 for count in random.values())


class _Other(Exception):
    """The records differ in more than values."""


def _differences(one: Any, other: Any, place: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """The places at which two values differ, and what stands there. Raises _Other where they aren't of one form."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            raise _Other
        for name, value in one.items():
            yield from _differences(value, other[name], (*place, name))
    elif isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            raise _Other
        for number, (value, another) in enumerate(zip(one, other, strict=True)):
            yield from _differences(value, another, (*place, number))
    elif type(one) is not type(other):
        raise _Other
    elif one != other:
        yield place, one, other


def _is_time(value: Any, answering: Answering) -> bool:
    moment = read_moment(value) if isinstance(value, str | int | float) else None
    return moment is not None and answering.at(moment)


def _is_random(value: Any) -> bool:
    return isinstance(value, str) and _RANDOM.fullmatch(value) is not None
