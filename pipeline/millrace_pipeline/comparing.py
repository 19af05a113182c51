"""Comparing: values of different kinds, of which no comparison holds, whatever they say."""

from __future__ import annotations

from typing import Any

from millrace_pipeline.process.repeats import repeats

_LETTERS = 40

_KINDS: dict[type, str] = {bool: "true or false", str: "text", list: "a list", dict: "an object", type(None): "null"}


def kind_of(value: Any) -> str:
    """Return which of JSON's kinds a value is of, in words."""
    for kind, words in _KINDS.items():
        if isinstance(value, kind):
            return words
    return "a number"


def are_same(one: Any, other: Any) -> bool:
    """Return True for values of one kind that say the same, all the way down: to Python 1 and true are equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(are_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(are_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def say_kinds_differ(found: Any, other: Any, *, place: str, mend: str = "cast one of them before") -> None:
    """Say once and count that two values which are there are of different kinds, so that they never are the same.

    Null is the same as nothing of another kind by anybody's will, and nothing is said of it.
    """
    one, another = kind_of(found), kind_of(other)
    if one != another and found is not None and other is not None:
        repeats.warn(
            "kinds_differ",
            kind=f"{one}, {another}",
            of=place,
            place=place,
            found=f"{one}: {found!r}"[:_LETTERS],
            compared_with=f"{another}: {other!r}"[:_LETTERS],
            mend=f"they never are the same: {mend}",
        )
