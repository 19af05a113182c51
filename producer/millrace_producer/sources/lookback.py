"""Look back: what an API shows late, below the highest value that has come, is asked for once more."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import Any

from millrace_pipeline.errors import SourceRefused
from millrace_pipeline.number import exact
from millrace_producer.sources.incremental import MOST_AT_ONE_VALUE, Incremental, Mark

MOST_REMEMBERED = MOST_AT_ONE_VALUE
"""So many records of the stretch stand in a position. Of more, those that are first may come again after a restart."""


class LookBack:
    """The records that have come of the last stretch below the highest value, so that none of them comes twice.

    A record is known by its identity and its value: one that was edited is another.
    """

    def __init__(self, incremental: Incremental, seen: Iterable[Any] = ()) -> None:
        assert incremental.overlap is not None
        self._overlap = incremental.overlap
        self._compare = incremental.compare
        self._lower: Any = None
        self._came: deque[tuple[str, Any]] = deque()
        self._names: set[tuple[str, str]] = set()
        for identity, value in seen:
            self.add(value, str(identity))

    def begin(self, mark: Mark) -> Any:
        """The value to ask from in this round; None where nothing has come yet."""
        self._lower = None if mark.value is None else earlier(mark.value, self._overlap)
        while self._lower is not None and self._came and self._compare(self._came[0][1], self._lower) < 0:
            identity, value = self._came.popleft()
            self._names.discard((identity, str(value)))
        return self._lower

    def has(self, value: Any, identity: str) -> bool:
        """Whether a record has come, or is from before the stretch."""
        return (self._lower is not None and self._compare(value, self._lower) < 0) or (
            identity,
            str(value),
        ) in self._names

    def add(self, value: Any, identity: str) -> None:
        """A record has come."""
        self._came.append((identity, value))
        self._names.add((identity, str(value)))

    def position(self) -> list[tuple[str, Any]]:
        """What stands of it in a position."""
        return list(self._came)[-MOST_REMEMBERED:] if len(self._came) > MOST_REMEMBERED else list(self._came)


def earlier(value: Any, overlap: float) -> Any:
    """A value so much before another: seconds before a time, in its form; that much below a number.

    Raises SourceRefused for what is neither, and for times in forms other than ISO 8601, in which none is written here.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value - ceil(overlap)
    if isinstance(value, float):
        return value - overlap
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return str(max(int(value) - ceil(overlap), 0))
    try:
        return format(exact(value) - Decimal(repr(overlap)), "f")
    except (ValueError, TypeError):
        pass
    try:
        moment = datetime.fromisoformat(value) - timedelta(seconds=overlap)
    except (ValueError, TypeError, OverflowError):
        raise SourceRefused("overlap is for a field that holds numbers, or times in ISO 8601") from None
    if len(value) == len("2026-03-01"):
        return moment.date().isoformat()
    text = moment.isoformat()
    return text.removesuffix("+00:00") + "Z" if value.endswith(("Z", "z")) else text
