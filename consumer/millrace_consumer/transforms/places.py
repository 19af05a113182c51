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


def place_in(record: Any, pointer: str, transform: str) -> Place | None:
    """Return where a name or pointer leads in a record; None where nothing is.

    That is said once for the transform, and counted, with what there is instead: a name in other letters, or a nested
    field whose names the dots are between.
    """
    *above, last = steps_of(pointer)
    holder = record
    for step in above:
        holder = _inner(holder, step)
    if isinstance(_inner(holder, last), Absent):
        say_absent(pointer, record, transform)
        return None
    return Place(holder, last if isinstance(holder, dict) else place_of(last))


def found_at(record: Any, pointer: str, transform: str) -> Any:
    """Return what a name or pointer finds in a record, or ABSENT. See `place_in`."""
    place = place_in(record, pointer, transform)
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


def say_absent(pointer: str, record: Any, place: str) -> None:
    """Say once and count that a record has nothing at a name or pointer, by which a part of the flow looks for it."""
    if nested := meant_by(pointer, record):
        mend = f"a nested field is named as {nested}"
    elif alike := _alike(pointer, record):
        mend = f"there is {alike}, in other letters"
    else:
        mend = "is it the right name, or pointer?"
    repeats.warn("field_not_found", kind="", of=f"{place} {pointer}", place=place, field=pointer, mend=mend)


def _alike(pointer: str, record: Any) -> str | None:
    """The name or pointer that is there, and differs from this in the case of letters alone."""
    holder, found = record, list[str]()
    for step in steps_of(pointer):
        if isinstance(holder, dict) and step not in holder:
            folded = step.casefold()
            step = next((name for name in holder if isinstance(name, str) and name.casefold() == folded), step)
        holder = _inner(holder, step)
        found.append(step)
    if isinstance(holder, Absent):
        return None
    return "".join(f"/{step}" for step in found) if pointer.startswith("/") else found[0]
