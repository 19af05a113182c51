"""Functions that are called with one record at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from millrace_consumer.transforms.stage import Failed, Row, Stage, failure_of, opened, several, written


class Each(Stage):
    """Functions of a record, in order. Each record goes through all of them before the next one begins."""

    def __init__(self, functions: Sequence[Callable[[Any], Any]]) -> None:
        self._functions = functions

    def run(self, rows: Sequence[Row], failed: dict[int, Failed]) -> list[Row]:
        """What the rows became."""
        came: list[Row] = []
        for row in rows:
            try:
                came += self._through(row)
            except Failed as failure:
                failed.setdefault(row.origin, failure)
        return came

    def _through(self, row: Row) -> list[Row]:
        value, before = opened(row.text)
        values = [value]
        try:
            for function in self._functions:
                values = [result for value in values for result in several(function(value))]
        except MemoryError:
            raise  # this machine's trouble, not the record's
        except Exception as error:
            raise failure_of(error) from error
        texts = written(values)
        return [row] if texts == [before] else [Row(row.origin, text) for text in texts]
