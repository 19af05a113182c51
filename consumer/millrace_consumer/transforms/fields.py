"""Transforms of which fields a record has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from millrace_consumer.transforms.base import Transform, an_object
from millrace_pipeline.envelope import resolve

NAMES_LETTERS = 16_000_000
"""The most characters of all names of a flattened record: each repeats those above it, once a level."""


class Select(Transform):
    """Keeps these fields and no others, in this order; one that a record lacks is null."""

    fields: list[str] | dict[str, str] = Field(
        min_length=1,
        description="Names or JSON pointers (/meta/domain becomes `domain`); or a mapping of new name: pointer.",
    )

    def __call__(self, record: Any) -> dict[str, Any]:
        record = an_object(record)
        named = self.fields if isinstance(self.fields, dict) else {_last(field): field for field in self.fields}
        return {name: resolve(pointer, record) for name, pointer in named.items()}


class Rename(Transform):
    """Gives fields other names; the rest stays as it is."""

    fields: dict[str, str] = Field(min_length=1, description="old: new.")

    def __call__(self, record: Any) -> dict[str, Any]:
        return {self.fields.get(name, name): value for name, value in an_object(record).items()}


class Drop(Transform):
    """Takes fields out; one that isn't there is no mistake."""

    fields: list[str] = Field(min_length=1, description="Their names.")

    def __call__(self, record: Any) -> dict[str, Any]:
        return {name: value for name, value in an_object(record).items() if name not in self.fields}


class Flatten(Transform):
    """Makes fields of nested objects fields of the record: {"user": {"name": 1}} becomes {"user_name": 1}."""

    separator: str = Field("_", description="What stands between the names.")
    depth: int = Field(100, ge=1, description="So many levels; what is deeper stays nested.")

    def __call__(self, record: Any) -> dict[str, Any]:
        flat: dict[str, Any] = {}
        size = 0
        for name, value in self._flat("", an_object(record), self.depth):
            size += len(name)
            if size > NAMES_LETTERS:
                raise ValueError(f"flattened, the names of its fields have more than {NAMES_LETTERS:,} characters")
            flat[name] = value
        return flat

    def _flat(self, before: str, value: dict[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
        for name, inner in value.items():
            if isinstance(inner, dict) and inner and depth:
                yield from self._flat(f"{before}{name}{self.separator}", inner, depth - 1)
            else:
                yield f"{before}{name}", inner


def _last(pointer: str) -> str:
    return pointer.rsplit("/", 1)[-1].replace("~1", "/").replace("~0", "~")
