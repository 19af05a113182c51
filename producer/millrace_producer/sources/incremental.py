"""Incremental: asking only for what is new since the last time, by a field that grows."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from millrace_pipeline.errors import SourceRefused
from millrace_pipeline.flows.units import Duration
from millrace_pipeline.number import OutOfBounds, bounded, whole

MOST_AT_ONE_VALUE = 1000
"""So many records of the highest value are remembered. Of more, the rest may come again after a restart."""


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

    overlap: Annotated[Duration, Field(gt=0)] | None = Field(
        default=None,
        description="So far below the highest value each round begins, for what the API shows late: a duration where "
        "the field holds times, else a number. What has come of it is left out.",
    )

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


class Mark(NamedTuple):
    """How far has been read: the highest value, and which of the records with that value have come.

    `before` is the highest value of which it is certain that all records have come: an API that gives only what is
    beyond has to be asked for that one.
    """

    value: Any = None
    at: tuple[str, ...] = ()
    before: Any = None

    def has(self, value: Any, identity: str) -> bool:
        """Whether a record was read before."""
        if self.value is None:
            return False
        order = compare(value, self.value)
        return identity in self.at if order == 0 else order < 0

    def raised(self, value: Any, identity: str) -> Mark:
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
    except OutOfBounds as error:
        return str(error)
    return None


def compare(one: Any, other: Any) -> int:
    """-1, 0 or 1. Numbers are compared as such, also in text; times as times. Raises SourceRefused for mixed kinds."""
    kind, one = _comparable(one)
    other_kind, other = _comparable(other)
    if kind != other_kind:
        raise SourceRefused(f"the field that this source goes by holds now a {other_kind}, now a {kind}")
    return int(one > other) - int(one < other)


def _comparable(value: Any) -> tuple[str, Any]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number", value
    if isinstance(value, str):
        if value.isascii() and value.isdigit():
            return "number", whole(value)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return "text", value
        return "time", moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    raise SourceRefused(f"the field that this source goes by holds a {type(value).__name__}")
