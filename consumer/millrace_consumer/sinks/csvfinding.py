"""Finding: what the columns of a CSV, names or JSON pointers, find in a record."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from millrace_consumer.matching import Match, Matching
from millrace_pipeline.pointer import resolve, steps_of

_NOTHING = object()


class Finding:
    """Names find the field of their name, or of the same in other letters; pointers are taken by the letter."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = columns
        self._matching = Matching(column for column in columns if not column.startswith("/"))
        self._pointers = {column: steps_of(column)[0] for column in columns if column.startswith("/")}
        self._pointed = set(self._pointers.values())
        self._names: tuple[str, ...] = ()
        self._left: tuple[str, ...] = ()

    def match(self, record: Any, given: Collection[str] | None = None) -> Match | str:
        """Return which field fills which column, or why the record can't be a row.

        `given` are the fields that it has; None for all.
        """
        if isinstance(record, list):
            fields = {column: column for column in self._pointers if resolve(column, record, _NOTHING) is not _NOTHING}
            if fields:
                return Match(
                    fields, tuple(f"/{place}" for place in range(len(record)) if str(place) not in self._pointed)
                )
            return Match(fields, (f"/0 to /{len(record) - 1}",) if record else ())
        if not isinstance(record, dict):
            return f"a {type(record).__name__} has no columns: only objects and lists can be written as CSV"
        names = record if given is None else [name for name in record if name in given or record[name] is not None]
        found = self._matching.of(names)
        if isinstance(found, str) or not self._pointers:
            return found
        fields = dict(found.fields)
        for column, first in self._pointers.items():
            if first in names and resolve(column, record, _NOTHING) is not _NOTHING:
                fields[column] = first
        return Match(fields, self._unpointed(found.left) if fields else found.left)

    def _unpointed(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the names that no pointer leads into; of the same names the same."""
        if names != self._names:
            self._names, self._left = names, tuple(name for name in names if name not in self._pointed)
        return self._left

    def values(self, record: Any, match: Match) -> list[Any]:
        """Return what a record has for each column; None where it has nothing."""
        return [
            None
            if column not in match.fields
            else resolve(column, record)
            if column in self._pointers
            else record[match.fields[column]]
            for column in self.columns
        ]
