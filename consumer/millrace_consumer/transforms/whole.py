"""Functions that are called once, with all records of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from millrace_consumer.transforms.frames import Frame, origins
from millrace_consumer.transforms.stage import Failed, Row, Stage, failure_of, opened, written


class Whole(Stage):
    """One function of all records as a table, or a list.

    Where it raises, the records that make it do so are found by halves and rejected, and it is called again with the
    others. Where it asks to be called later, that is meant for all. Each call gets records of its own, so a call that
    fails halfway leaves nothing behind.
    """

    def __init__(self, function: Callable[[Any], Any], frame: Frame) -> None:
        self._function = function
        self._frame = frame

    def run(self, rows: Sequence[Row], failed: dict[int, Failed]) -> list[Row]:
        """What the rows became."""
        rows = self._held(self._readable(rows, failed), failed)
        while rows:
            try:
                return self._called(rows)
            except Failed as failure:
                blamed = self._narrowed(rows, failure)
                for row, why in blamed.items():
                    failed.setdefault(row.origin, why)
                rows = [row for row in rows if row not in blamed and row.origin not in failed]
        return []

    def _readable(self, rows: Sequence[Row], failed: dict[int, Failed]) -> list[Row]:
        readable = []
        for row in rows:
            try:
                opened(row.text)
            except Failed as failure:
                failed.setdefault(row.origin, failure)
            else:
                readable.append(row)
        return readable

    def _held(self, rows: Sequence[Row], failed: dict[int, Failed]) -> Sequence[Row]:
        """The rows whose values the table holds as they are."""
        try:
            reasons = self._frame.misfits([opened(row.text)[0] for row in rows])
        except TypeError:
            return rows  # to make the table says why
        for index, reason in reasons.items():
            failed.setdefault(rows[index].origin, Failed(reason))
        return [row for index, row in enumerate(rows) if index not in reasons]

    def _called(self, rows: Sequence[Row]) -> list[Row]:
        pairs = [opened(row.text) for row in rows]
        try:
            records, labels = self._frame.rows(self._function(self._frame.make([value for value, _ in pairs])))
        except MemoryError:
            raise  # this machine's trouble, not a record's
        except Exception as error:
            raise failure_of(error) from error
        places = origins(len(rows), labels, len(records))
        came = []
        for place, text in zip(places, written(records), strict=True):
            came.append(rows[place] if text == pairs[place][1] else Row(rows[place].origin, text))
        return came

    def _narrowed(self, rows: Sequence[Row], why: Failed) -> dict[Row, Failed]:
        """The fewest rows that halving finds the function to fail on, each with its reason.

        What asks to wait is not called again and again to find out for which of them.
        """
        if len(rows) == 1 or why.later:
            return dict.fromkeys(rows, why)
        middle = len(rows) // 2
        blamed: dict[Row, Failed] = {}
        for half in (rows[:middle], rows[middle:]):
            try:
                self._called(half)
            except Failed as failure:
                blamed |= self._narrowed(half, failure)
        return blamed or dict.fromkeys(rows, why)  # only together do they make it fail
