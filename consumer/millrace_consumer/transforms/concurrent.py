"""Functions that call out, an HTTP lookup say: several at once, within a bound, their order kept."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from millrace_consumer.transforms.stage import Failed, Row, Stage, failure_of, opened, several, written

F = TypeVar("F", bound=Callable[..., Any])

AT_ONCE = 10
"""Calls of an async function that are under way at once, where `concurrent` says nothing else."""

_MARK = "__millrace_at_once__"


def concurrent(at_once: int) -> Callable[[F], F]:
    """Mark a function of one record to be called for so many records at once.

    An async function shares one event loop; any other is called from so many threads, so it must be safe to. The
    records keep their order. Raises ValueError for less than 1.
    """
    if at_once < 1:
        raise ValueError(f"at_once: expected 1 or more, not {at_once}")

    def mark(function: F) -> F:
        setattr(function, _MARK, at_once)
        return function

    return mark


def at_once(function: Callable[..., Any]) -> int:
    """For how many records at once the function is to be called; 0 for one that is called as any other."""
    default = AT_ONCE if inspect.iscoroutinefunction(function) else 0
    return int(getattr(function, _MARK, default))


class Concurrent(Stage):
    """One function, called for several records at once."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        self._at_once = at_once(function)

    def run(self, rows: Sequence[Row], failed: dict[int, Failed]) -> list[Row]:
        """What the rows became."""
        if inspect.iscoroutinefunction(self._function):
            results = asyncio.run(self._gathered(rows))
        else:
            with ThreadPoolExecutor(self._at_once, thread_name_prefix="transform") as pool:
                results = list(pool.map(self._called, rows))
        came: list[Row] = []
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, Failed):
                failed.setdefault(row.origin, result)
            else:
                came += result
        return came

    async def _gathered(self, rows: Sequence[Row]) -> list[list[Row] | Failed]:
        bound = asyncio.Semaphore(self._at_once)

        async def call(row: Row) -> list[Row] | Failed:
            async with bound:
                try:
                    value, before = opened(row.text)
                    return _came(row, before, await self._function(value))
                except Exception as error:
                    return _failed(error)

        return await asyncio.gather(*map(call, rows))

    def _called(self, row: Row) -> list[Row] | Failed:
        try:
            value, before = opened(row.text)
            return _came(row, before, self._function(value))
        except Exception as error:
            return _failed(error)


def _came(row: Row, before: bytes, result: Any) -> list[Row]:
    texts = written(several(result))
    return [row] if texts == [before] else [Row(row.origin, text) for text in texts]


def _failed(error: Exception) -> Failed:
    if isinstance(error, MemoryError):
        raise error  # this machine's trouble, not the record's
    return error if isinstance(error, Failed) else failure_of(error)
