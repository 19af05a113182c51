"""The field of a record that an option of a sink names."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from millrace_pipeline.moment import TimeUnit, read_moment
from millrace_pipeline.pointer import meant_by, resolve_alike
from millrace_pipeline.process.repeats import repeats

_ABSENT = object()
_SHOWN_LETTERS = 80


class NamedField:
    """Finds in records what a name or JSON pointer names: by the letter, else regardless of case where one is alike.

    A record without it has None there; that is said once for the option, and counted.
    """

    def __init__(self, option: str, pointer: str) -> None:
        self._pointer = pointer
        self._said: dict[str, Any] = {"option": option, "field": pointer}
        self._kind = f"{option} {pointer}"

    def of(self, record: Any) -> Any:
        """Return what the record has there."""
        found = resolve_alike(self._pointer, record, _ABSENT)
        if found is not _ABSENT:
            return found
        nested = meant_by(self._pointer, record)
        mend: dict[str, Any] = {"mend": f"a nested field is named as {nested}"} if nested else {}
        repeats.warn("field_not_found", kind="", of=self._kind, **self._said, **mend)
        return None

    def moment_of(self, record: Any, unit: TimeUnit = "auto") -> datetime | None:
        """Return the time that the record has there, read as any; None for what is none, said once and counted."""
        found = self.of(record)
        moment = read_moment(found, unit)
        if found is not None and moment is None:
            repeats.warn(
                "time_not_understood",
                kind="",
                of=self._kind,
                **self._said,
                found=repr(found)[:_SHOWN_LETTERS],
                mend="is it the right field, or is time_unit missing?",
            )
        return moment
