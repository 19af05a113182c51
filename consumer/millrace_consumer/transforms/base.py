"""What a built-in transform is: options in `flows.yaml`, and a call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["Transform"]


class Transform(BaseModel, ABC):
    """A transform with options. Its fields are its options in `flows.yaml`, its docstring their help.

    It is called as a function is: the type hint of the first parameter says with what.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __hash__(self) -> int:
        """Equal ones have the same, though their options may be lists."""
        return hash((type(self), self.model_dump_json()))

    @abstractmethod
    def __call__(self, record: Any) -> Any:
        """The record, a list of records, or None, which leaves it out."""

    def names_after(self, names: frozenset[str]) -> frozenset[str]:  # noqa: ARG002
        """Return the fields that each record is known to have afterwards, of those that it has before.

        Raises ValueError where no such record can pass.
        """
        return frozenset()


class KeepingTransform(Transform):
    """A transform that leaves each record the fields that it has."""

    def names_after(self, names: frozenset[str]) -> frozenset[str]:
        """See `Transform.names_after`."""
        return names


def an_object(record: Any) -> dict[str, Any]:
    """The record, if it is an object. Raises TypeError."""
    if not isinstance(record, dict):
        raise TypeError(f"expected an object, not {type(record).__name__}")
    return record
