"""Incremental: asking only for what is new since the last time, by a field that grows."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Annotated, Any, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from millrace_pipeline.errors import SourceRefused
from millrace_pipeline.flows.units import Duration
from millrace_pipeline.moment import read_moment
from millrace_pipeline.number import OutOfBounds, bounded, exact

MOST_AT_ONE_VALUE = 1000
"""So many records of the highest value are remembered. Of more, the rest may come again after a restart."""

_DECIMAL = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_FINER = re.compile(r"[.,][0-9]{6}([0-9]+)")  # what a time says beyond the microseconds that a datetime holds
_FIELD = "the field that this source goes by"


class Incremental(BaseModel):
    """Which field grows, and how the API is asked for what comes after a value of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    field: str = Field(min_length=1, description="JSON pointer to the field in a record, such as /updated_at or /id.")
    parameter: str = Field(
        min_length=1,
        description="The query parameter that takes the highest value so far; or a JSON pointer to its place in the "
        "request's body.",
    )
    start: str | int | float | None = Field(
        default=None, description="Its value the first time. Without one the parameter isn't sent then."
    )
    inclusive: bool = Field(
        default=True,
        description="The API also gives the records that have the very value that it is asked for; they are left out "
        "where they have been read. false: it gives only those beyond.",
    )
    ordered: bool = Field(
        default=True,
        description="The API gives the records in ascending order of the field: then every record is a place to go on "
        "from. false: they come in any order, and the highest value counts at the end of a round.",
    )

    by_letter: bool = Field(
        default=False,
        description="Text in the field is compared letter by letter, whatever it holds, such as ULIDs. Without it, "
        "text that is neither a number nor a time is refused: 12/31/2025 is behind 01/02/2026 by its letters.",
    )
    overlap: Annotated[Duration, Field(gt=0)] | None = Field(
        default=None,
        description="So far below the highest value each round begins, for what the API shows late: a duration where "
        "the field holds times, else a number. What has come of it is left out.",
    )

    def compare(self, one: Any, other: Any) -> int:
        """Return -1, 0 or 1. Raises SourceRefused for values that have no order, or not one and the same."""
        return compare(one, other, by_letter=self.by_letter)

    def check(self, value: Any) -> None:
        """Raise SourceRefused for a value that has no order."""
        _comparable(value, self.by_letter)

    def asked(self, mark: Mark) -> dict[str, Any]:
        """The parameter that asks for what comes after a mark."""
        return self.ask_for(mark.value if self.inclusive else mark.before)

    def ask_for(self, value: Any) -> dict[str, Any]:
        """The parameter that asks for what comes after a value; of None, for what comes after the start."""
        value = self.start if value is None else value
        return {} if value is None else {self.parameter: value}

    def position(self, mark: Mark) -> dict[str, Any]:
        """The mark as it stands in a position."""
        before = {} if self.inclusive else {"before": mark.before}
        return {"value": mark.value, "at": mark.at, **before}


Compare: TypeAlias = Callable[[Any, Any], int]


class Mark(NamedTuple):
    """How far has been read: the highest value, and which of the records with that value have come.

    `before` is the highest value of which it is certain that all records have come: an API that gives only what is
    beyond has to be asked for that one.
    """

    value: Any = None
    at: tuple[str, ...] = ()
    before: Any = None

    def has(self, value: Any, identity: str, compare: Compare) -> bool:
        """Whether a record was read before."""
        if self.value is None:
            return False
        order = compare(value, self.value)
        return identity in self.at if order == 0 else order < 0

    def raised(self, value: Any, identity: str, compare: Compare) -> Mark:
        """The mark after this record; one below changes nothing."""
        order = 1 if self.value is None else compare(value, self.value)
        if order > 0:
            return Mark(value, (identity,), self.value)
        return self.noted(identity) if order == 0 else self

    def noted(self, identity: str) -> Mark:
        """The mark after input that has no value, which will come again beside the highest."""
        return self._replace(at=(*self.at, identity)) if len(self.at) < MOST_AT_ONE_VALUE else self

    def settled(self) -> Mark:
        """The mark when all there is has come."""
        return self._replace(before=self.value)


def mark_of(position: Any) -> Mark:
    """The mark that a position holds. Raises SourceRefused for one of another source."""
    if position is None:
        return Mark()
    try:
        return Mark(position["value"], tuple(map(str, position["at"])), position.get("before"))
    except (AttributeError, KeyError, TypeError):
        raise SourceRefused("the checkpoint holds no value of the field that this source goes by") from None


def identity_of(record: bytes, key: str | None) -> str:
    """What a record is known by among those of the same value: its key, else a digest of its bytes."""
    return key or blake2b(record, digest_size=9).hexdigest()


def misfit_of(value: Any) -> str | None:
    """Why a value is no place to go on from, whatever the source goes by; None where it may be one."""
    try:
        bounded(value)
        if _is_number(value):
            exact(value)
    except OutOfBounds as error:
        return str(error)
    return None


def compare(one: Any, other: Any, *, by_letter: bool = False) -> int:
    """Return -1, 0 or 1: numbers are compared as such, also in text; times as times; text only `by_letter`.

    Raises SourceRefused for mixed kinds, and for what has no order.
    """
    kind, one = _comparable(one, by_letter)
    other_kind, other = _comparable(other, by_letter)
    if kind != other_kind:
        raise SourceRefused(f"{_FIELD} holds now a {other_kind}, now a {kind}")
    return int(one > other) - int(one < other)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return _DECIMAL.fullmatch(value.strip()) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _comparable(value: Any, by_letter: bool) -> tuple[str, int | Decimal | str | tuple[datetime, str]]:
    if isinstance(value, str) and by_letter:
        return "text", value
    if _is_number(value):
        return "number", value if isinstance(value, int) else exact(value)
    if not isinstance(value, str):
        raise SourceRefused(f"{_FIELD} holds a {type(value).__name__}")
    moment = read_moment(value) if value.isascii() else None
    if moment is None:
        raise SourceRefused(
            f"{_FIELD} holds the text {value[:40]!r}, which is neither a number nor a time that can be read: where the "
            "API orders it by its letters, set incremental.by_letter; else choose another field"
        )
    finer = _FINER.search(value)
    return "time", (moment, finer[1].rstrip("0") if finer else "")
