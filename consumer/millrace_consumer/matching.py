"""Matching: which field of a record goes to which column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

REMEMBERED = 200
"""So many sets of fields are remembered with their columns."""

_SHOWN = 8
_LETTERS = 60


class Match(NamedTuple):
    """Of one record the field that each column is filled by, and the fields that fill none."""

    fields: Mapping[str, str]
    left: tuple[str, ...]


class Matching:
    """Matches the names of fields with those of columns: by the letter, else without regard to case.

    A name in other letters is taken where it can mean one column and no other field does. What records have the same
    fields is looked at once.
    """

    def __init__(self, columns: Iterable[str]) -> None:
        self.columns = list(columns)
        self._names = set(self.columns)
        self._alike: dict[str, list[str]] = {}
        for column in self.columns:
            self._alike.setdefault(column.casefold(), []).append(column)
        self._known: dict[tuple[str, ...], Match | str] = {}

    def of(self, fields: Iterable[str]) -> Match | str:
        """Return which of the fields goes where, or why nobody can tell."""
        names = tuple(fields)
        known = self._known.get(names)
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[names] = self._matched(names)
        return known

    def _matched(self, fields: tuple[str, ...]) -> Match | str:
        by_column = {field: field for field in fields if field in self._names}
        others: dict[str, list[str]] = {}
        left = []
        for field in fields:
            alike = self._alike.get(field.casefold(), ())
            if field in by_column:
                continue
            if all(column in by_column for column in alike):
                left.append(field)
            else:
                others.setdefault(field.casefold(), []).append(field)
        for folded, rivals in others.items():
            alike = self._alike[folded]
            if len(rivals) > 1:
                return f"fields {listed(rivals)} could all be column {listed(alike)}: drop or rename all but one"
            if len(alike) > 1:
                return f"field {shown(rivals[0])} could be column {listed(alike)}: spell it as one of them"
            by_column[alike[0]] = rivals[0]
        return Match(by_column, tuple(left))


def alike(names: Iterable[str]) -> list[str]:
    """Return those of the names that only capital letters tell from another."""
    all_names = list(names)
    folded = Counter(map(str.casefold, all_names))
    return [name for name in all_names if folded[name.casefold()] > 1]


def no_column(fields: Iterable[str], columns: Iterable[str]) -> str:
    """Return the reason why a record none of whose fields has a column can't be written."""
    return f"none of its fields has a column: it has {listed(fields)}, and there are {listed(columns)}"


def listed(names: Iterable[str]) -> str:
    """Return names for a message, the first few of many."""
    all_names = list(names)
    first = ", ".join(map(shown, all_names[:_SHOWN]))
    return f"{first} and {len(all_names) - _SHOWN} more" if len(all_names) > _SHOWN else first


def shown(name: str) -> str:
    """Return a name for a message: cut where it is long, quoted where it is none that one could read."""
    name = name if len(name) <= _LETTERS else f"{name[:_LETTERS]}…"
    return name if name.isprintable() and name.strip() == name != "" else repr(name)
