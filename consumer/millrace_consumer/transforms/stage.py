"""Stage: a part of a flow's transforms that takes the records of a batch together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from millrace_pipeline.errors import EnvelopeError, RecordError, RetryLater
from millrace_pipeline.fitting import REASON_LIMIT, frames_of
from millrace_pipeline.jsontext import decode_json, encode_json
from millrace_pipeline.pythonvalues import sayable


class Row(NamedTuple):
    """One record on its way: the index of the envelope it came from, and its data as JSON text."""

    origin: int
    text: bytes


class Failed(Exception):
    """A record that can't be decoded, transformed or encoded. The message is its reason.

    `later` is what the transform raised, where it asks for the record to be tried again.
    """

    def __init__(self, reason: str, later: RetryLater | None = None) -> None:
        super().__init__(reason)
        self.later = later


class Stage(ABC):
    """Takes all rows and gives what they became, in order. `failed` gets why, for each origin that failed."""

    @abstractmethod
    def run(self, rows: Sequence[Row], failed: dict[int, Failed]) -> list[Row]:
        """What the rows became. A row whose text is the very object that came in was left as it was."""


def opened(text: bytes) -> tuple[Any, bytes]:
    """The values of a JSON text, a copy of its own, and the same as we would write them. Raises Failed."""
    try:
        value = decode_json(text)
        return value, encode_json(value)
    except (EnvelopeError, RecordError) as error:
        raise Failed(str(error)) from error


def written(values: Iterable[Any]) -> list[bytes]:
    """The JSON texts of what a function returned. Raises Failed."""
    try:
        return [encode_json(sayable(value)) for value in values]
    except RecordError as error:
        raise Failed(f"a transform returned something that cannot be a record: {error}") from error


class Elements(list[Any]):
    """Records of one that a transform took apart, where None is a record as well: null."""


def several(result: Any) -> Iterable[Any]:
    """The records in what a function returned for one: none, itself, or each of several."""
    if result is None:
        return ()
    if isinstance(result, Elements):
        return result
    if isinstance(result, list | tuple | Iterator):
        return (record for record in result if record is not None)
    return (result,)


def failure_of(error: Exception) -> Failed:
    """Return what a user's function raised as a dead letter's reason: the error, and by which of the user's lines."""
    told = f"{type(error).__qualname__}: {error} ({frames_of(error)})"[:REASON_LIMIT]
    return Failed(told, error if isinstance(error, RetryLater) else None)
