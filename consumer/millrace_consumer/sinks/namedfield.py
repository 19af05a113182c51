"""The field of a record that an option of a sink names."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from millrace_consumer.batch import Batch
from millrace_consumer.when import moment_said
from millrace_pipeline.moment import read_moment
from millrace_pipeline.pointer import meant_by, place_of, steps_of
from millrace_pipeline.process.repeats import repeats

_ABSENT = object()
_SHOWN_LETTERS = 80


class NamedField:
    """Finds in records what a name or JSON pointer names: by the letter, else regardless of case where one is alike.

    A record without it has None there; that is said once for the option, and counted.
    """

    def __init__(self, option: str, pointer: str) -> None:
        self._pointer = pointer
        self._steps = steps_of(pointer)
        self._said: dict[str, Any] = {"option": option, "field": pointer}
        self._kind = f"{option} {pointer}"

    def of(self, record: Any) -> Any:
        """Return what the record has there."""
        found = record
        for step in self._steps:
            found = _inner(found, step)
        if found is not _ABSENT:
            return found
        nested = meant_by(self._pointer, record)
        mend: dict[str, Any] = {"mend": f"a nested field is named as {nested}"} if nested else {}
        repeats.warn("field_not_found", kind=self._kind, **self._said, **mend)
        return None

    def moment_of(self, record: Any) -> datetime | None:
        """Return the time that the record has there, read as any; None for what is none, said once and counted."""
        found = self.of(record)
        moment = read_moment(found)
        if found is not None and moment is None:
            shown = repr(found)[:_SHOWN_LETTERS]
            repeats.warn("time_not_understood", kind=self._kind, **self._said, found=shown)
        return moment


def moments_in(batch: Batch, time: str | None) -> Callable[[int], datetime | None]:
    """Return what tells when the record of an index happened: by the field that `time` names, else by its envelope."""
    if time is None:
        return lambda index: moment_said(batch.envelopes[index].time)
    field = NamedField("time", time)
    return lambda index: field.moment_of(batch.records[index])


def _inner(holder: Any, step: str) -> Any:
    if isinstance(holder, dict):
        if step in holder:
            return holder[step]
        folded = step.casefold()
        alike = [name for name in holder if isinstance(name, str) and name.casefold() == folded]
        return holder[alike[0]] if len(alike) == 1 else _ABSENT
    if isinstance(holder, list) and (place := place_of(step)) < len(holder):
        return holder[place]
    return _ABSENT
