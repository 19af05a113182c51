"""Places in a record: what a name or a JSON pointer leads to, to be read, changed or taken out."""

from __future__ import annotations

from typing import Any, NamedTuple

from millrace_pipeline.pointer import meant_by, place_of, steps_of
from millrace_pipeline.process.repeats import repeats


class Absent:
    """What is found where there is nothing; null is something."""


ABSENT = Absent()


class Place(NamedTuple):
    """A value where it stands: `holder[at]`."""

    holder: Any
    at: Any

    @property
    def value(self) -> Any:
        """What stands there."""
        return self.holder[self.at]


def place_in(record: Any, pointer: str) -> Place | None:
    """Return where a name or pointer leads in a record; None where nothing is.

    Where a name with dots isn't there, and a nested field of those names is, that is said once.
    """
    *above, last = steps_of(pointer)
    holder = record
    for step in above:
        holder = _inner(holder, step)
    if isinstance(_inner(holder, last), Absent):
        _say_dots(pointer, record)
        return None
    return Place(holder, last if isinstance(holder, dict) else place_of(last))


def found_at(record: Any, pointer: str) -> Any:
    """Return what a name or pointer finds in a record, or ABSENT. See `place_in`."""
    place = place_in(record, pointer)
    return ABSENT if place is None else place.value


def name_at_end(pointer: str) -> str:
    """Return the last name that a pointer leads through."""
    return steps_of(pointer)[-1]


def _inner(holder: Any, step: str) -> Any:
    if isinstance(holder, dict):
        return holder.get(step, ABSENT)
    if isinstance(holder, list) and (place := place_of(step)) < len(holder):
        return holder[place]
    return ABSENT


def _say_dots(pointer: str, record: Any) -> None:
    if nested := meant_by(pointer, record):
        repeats.warn("field_not_found", kind=pointer, field=pointer, mend=f"a nested field is named as {nested}")
