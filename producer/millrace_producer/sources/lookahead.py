"""Lookahead: which of them is the last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def mark_last(items: Iterable[T]) -> Iterator[tuple[T, bool]]:
    """Each of the items, and whether it is the last one: so each comes once the next is known.

    Where the items break off with an exception, none was the last, and all that came are given before it is raised.
    """
    held: list[T] = []
    try:
        for item in items:
            if held:
                yield held.pop(), False
            held.append(item)
    except Exception:
        if held:
            yield held.pop(), False
        raise
    if held:
        yield held.pop(), True
