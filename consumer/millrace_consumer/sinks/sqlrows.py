"""Rows of a batch on their way into a table, and which of their values the records didn't have."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any

from millrace_consumer.sinks.upserting import Absent


class Rows:
    """A batch's values by column; `Absent` stands where a record has none."""

    def __init__(self, cells: Mapping[str, list[Any]]) -> None:
        self.cells = cells

    @property
    def names(self) -> list[str]:
        """The columns."""
        return list(self.cells)

    @cached_property
    def rows(self) -> list[tuple[Any, ...]]:
        """The values row by row."""
        return list(zip(*self.cells.values(), strict=True))

    @cached_property
    def has(self) -> dict[str, list[bool]]:
        """Of each column that some record has nothing for, which of them have something."""
        return {
            name: [type(value) is not Absent for value in values]
            for name, values in self.cells.items()
            if Absent in set(map(type, values))
        }

    @cached_property
    def values(self) -> dict[str, list[Any]]:
        """The values by column, with the default of the flow's model where a record has none."""
        return {
            name: [value.default if type(value) is Absent else value for value in values]
            if name in self.has
            else values
            for name, values in self.cells.items()
        }

    def take(self, indices: Sequence[int]) -> Rows:
        """These of the rows."""
        return Rows({name: [values[index] for index in indices] for name, values in self.cells.items()})

    def rounds(self, names: Sequence[Hashable], *, merged: bool) -> list[Rows]:
        """Return what to put one after the other, so that of one key no two rows with different columns go in at once.

        `names` say which rows are of one key. Those with the same columns stay together: there the last one counts, or
        the newest. Where they may be `merged`, all of a key become one row, which has of each column the last value
        that there is.
        """
        if len(set(names)) == len(names):
            return [self]
        return [self._merged(names)] if merged else self._in_turn(names)

    def _merged(self, names: Sequence[Hashable]) -> Rows:
        places: dict[Hashable, int] = {}
        merged: list[list[Any]] = []
        for name, row in zip(names, self.rows, strict=True):
            if (place := places.setdefault(name, len(merged))) == len(merged):
                merged.append(list(row))
            else:
                kept = merged[place]
                kept[:] = [old if type(new) is Absent else new for old, new in zip(kept, row, strict=True)]
        return Rows(dict(zip(self.cells, map(list, zip(*merged, strict=True)), strict=True)))

    def _in_turn(self, names: Sequence[Hashable]) -> list[Rows]:
        turns: list[list[int]] = []
        last: dict[Hashable, tuple[tuple[bool, ...], int]] = {}
        columns = list(zip(*self.has.values(), strict=True))
        for index, (name, has) in enumerate(zip(names, columns, strict=True)):
            before, turn = last.get(name, (has, 0))
            turn += has != before
            last[name] = has, turn
            if turn == len(turns):
                turns.append([])
            turns[turn].append(index)
        return list(map(self.take, turns))
