"""Transforms of which fields a record has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from millrace_consumer.transforms.base import Transform, an_object
from millrace_consumer.transforms.naming import Conflict, NamingTransform, twice
from millrace_consumer.transforms.places import Absent, found_at, name_at_end, place_in, say_absent

NAMES_LETTERS = 16_000_000
"""The most characters of all names of a flattened record: each repeats those above it, once a level."""


class Select(NamingTransform):
    """Keeps these fields and no others, in this order; one that a record lacks is null."""

    fields: list[str] | dict[str, str] = Field(
        min_length=1,
        description="Names or JSON pointers (/meta/domain becomes `domain`); or a mapping of new name: pointer.",
    )
    absent: Literal["null", "omit"] = Field(
        "null", description="A field that a record lacks: null, or omit to leave it out."
    )

    @model_validator(mode="after")
    def _each_has_a_name(self) -> Self:
        if again := twice(name for name, _ in self._named()):
            _refuse_many(self, again, "a mapping of new name: pointer gives each its own")
        return self

    def __call__(self, record: Any) -> dict[str, Any]:
        record, selected = an_object(record), dict[str, Any]()
        for name, pointer in self._named():
            if not isinstance(value := found_at(record, pointer, "select"), Absent):
                self.put(selected, name, value)
        if self.absent == "null":
            return {name: selected.get(name) for name, _ in self._named()}
        return selected

    def names_after(self, names: frozenset[str]) -> frozenset[str]:
        """See `Transform.names_after`."""
        kept = frozenset(name for name, _ in self._named())
        return kept if self.absent == "null" else frozenset(name for name, pointer in self._named() if pointer in names)

    def _named(self) -> list[tuple[str, str]]:
        if isinstance(self.fields, dict):
            return list(self.fields.items())
        return [(name_at_end(pointer), pointer) for pointer in self.fields]


class Rename(NamingTransform):
    """Gives fields other names; the rest stays as it is."""

    fields: dict[str, str] = Field(min_length=1, description="old: new. Names, not pointers: `select` takes those.")

    @model_validator(mode="after")
    def _each_has_a_name(self) -> Self:
        for old in self.fields:
            if old.startswith("/"):
                raise ValueError(f"rename takes names, not pointers: select and unnest reach what is nested, as {old}")
        if again := twice(self.fields.values()):
            _refuse_many(self, again, "give each another")
        return self

    def __call__(self, record: Any) -> dict[str, Any]:
        data = an_object(record)
        for name in self.fields:
            if name not in data:
                say_absent(name, data, "rename")
        renamed = [self.fields.get(name, name) for name in data]
        if len(set(renamed)) == len(renamed):
            return dict(zip(renamed, data.values(), strict=True))
        # What keeps its name is there first, wherever it stands.
        made = {name: value for name, value in data.items() if self.fields.get(name, name) == name}
        for name, value in data.items():
            if (new := self.fields.get(name, name)) != name:
                self.put(made, new, value)
        return {name: made[name] for name in renamed}

    def names_after(self, names: frozenset[str]) -> frozenset[str]:
        """See `Transform.names_after`."""
        kept = {name for name in names if self.fields.get(name, name) == name}
        for name in sorted(names - kept):
            if self.fields[name] in kept and self.on_conflict == "error":
                raise Conflict(self.fields[name])
            kept.add(self.fields[name])
        return frozenset(kept)


class Drop(Transform):
    """Takes fields out. One that isn't there is said once and counted."""

    fields: list[str] = Field(min_length=1, description="Their names, or JSON pointers.")

    def __call__(self, record: Any) -> dict[str, Any]:
        data = an_object(record)
        found = [place for pointer in self.fields if (place := place_in(data, pointer, "drop"))]
        for place in found:
            if isinstance(place.holder, list):
                raise ValueError("drop takes out fields of objects, and a pointer leads into a list")
        for place in found:
            place.holder.pop(place.at, None)
        return data

    def names_after(self, names: frozenset[str]) -> frozenset[str]:
        """See `Transform.names_after`."""
        return names - set(self.fields)


class Flatten(NamingTransform):
    """Makes fields of nested objects fields of the record: {"user": {"name": 1}} becomes {"user_name": 1}."""

    separator: str = Field("_", description="What stands between the names.")
    depth: int = Field(100, ge=1, description="So many levels; what is deeper stays nested.")

    def __call__(self, record: Any) -> dict[str, Any]:
        found: list[tuple[tuple[str, ...], str, Any]] = []
        size = 0
        for path, name, value in self._flat((), "", an_object(record), self.depth):
            size += len(name)
            if size > NAMES_LETTERS:
                raise ValueError(f"flattened, the names of its fields have more than {NAMES_LETTERS:,} characters")
            found.append((path, name, value))
        flat = {name: value for _, name, value in found}
        if len(flat) == len(found):
            return flat
        # Objects have no order: of two that get one name, the less nested is there first.
        made: dict[str, Any] = {}
        for _, name, value in sorted(found, key=lambda one: (len(one[0]), one[0])):
            self.put(made, name, value)
        return {name: made[name] for name in flat}

    def _flat(
        self, above: tuple[str, ...], before: str, value: dict[str, Any], depth: int
    ) -> Iterator[tuple[tuple[str, ...], str, Any]]:
        for name, inner in value.items():
            if isinstance(inner, dict) and inner and depth:
                yield from self._flat((*above, name), f"{before}{name}{self.separator}", inner, depth - 1)
            else:
                yield (*above, name), f"{before}{name}", inner


def _refuse_many(transform: NamingTransform, names: list[str], mend: str) -> None:
    if transform.on_conflict == "error":
        said = ", ".join(names)
        raise ValueError(f"more than one field becomes {said}: {mend}, or say which stays by on_conflict")
