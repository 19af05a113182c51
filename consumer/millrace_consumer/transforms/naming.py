"""Naming: putting a value under a name at which another may be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from millrace_consumer.transforms.base import Transform

OnConflict = Literal["error", "keep", "replace"]


class NamingTransform(Transform):
    """A transform that puts values under names, where another value may be already."""

    on_conflict: OnConflict = Field(
        "error",
        description="Where another value has the name: error sets the record aside, keep leaves the one that is there, "
        "replace puts the new one in its place.",
    )

    def put(self, record: dict[str, Any], name: str, value: Any) -> None:
        """Put the value under the name, as `on_conflict` says. Raises ValueError that names the field."""
        if name not in record or self.on_conflict == "replace":
            record[name] = value
        elif self.on_conflict == "error":
            raise Conflict(name)


class Conflict(ValueError):
    """Two values for one name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"field {name} is there already: on_conflict: keep or replace says which value stays")


def twice(names: Iterable[str]) -> list[str]:
    """Return the names that stand among these more than once."""
    seen: set[str] = set()
    return sorted({name for name in names if name in seen or seen.add(name)})  # type: ignore[func-returns-value]
