"""Transforms of what is nested in a record."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Literal

from pydantic import Field

from millrace_consumer.transforms.base import an_object
from millrace_consumer.transforms.naming import NamingTransform
from millrace_consumer.transforms.places import Place, name_at_end, place_in
from millrace_consumer.transforms.stage import Elements


class Explode(NamingTransform):
    """Makes a record of each element of a list: {"n": 1, "tags": ["a", "b"]} becomes two, with "tags": "a" and "b"."""

    field: str = Field(min_length=1, description="The field that holds the list, or a JSON pointer to it.")
    alone: bool = Field(False, description="The element is the whole record; what stood around it is left out.")
    index: str | None = Field(None, min_length=1, description="A field for the element's number in the list, from 0.")
    empty: Literal["keep", "drop"] | None = Field(
        None,
        description="A record whose list is empty, null or not there: keep it as it is, or drop it. Default: keep; "
        "with `alone` one whose list is empty or null is dropped.",
    )

    def __call__(self, record: Any) -> list[Any]:
        place = place_in(record, self.field, "explode")
        elements = None if place is None else place.value
        if elements is not None and not isinstance(elements, list):
            raise TypeError(f"field {self.field} is no list")
        if place is None or not elements:
            drops = self.empty == "drop" or (self.empty is None and self.alone and place is not None)
            return [] if drops else [record]
        return Elements(self._of(record, place, number, element) for number, element in enumerate(elements))

    def _of(self, record: Any, place: Place, number: int, element: Any) -> Any:
        if self.alone:
            made = element
        else:
            place.holder[place.at] = None  # not to be copied with the record
            made = deepcopy(record)
            copied = place_in(made, self.field, "explode")
            assert copied is not None
            copied.holder[copied.at] = element
        if self.index is not None:
            self.put(an_object(made), self.index, number)
        return made


class Unnest(NamingTransform):
    """Makes the fields of a nested object fields of the record: {"user": {"name": 1}} becomes {"name": 1}."""

    field: str = Field(min_length=1, description="The field that holds the object, or a JSON pointer to it.")
    prefix: str = Field("", description="What the names of its fields begin with then.")

    def __call__(self, record: Any) -> dict[str, Any]:
        data = an_object(record)
        place = place_in(data, self.field, "unnest")
        if place is None or place.value is None:
            return data
        inner = place.value
        if not isinstance(inner, dict):
            raise TypeError(f"field {self.field} is no object")
        if not isinstance(place.holder, dict):
            raise TypeError(f"field {name_at_end(self.field)} is an element of a list: explode it before")
        if place.holder is data:  # the others keep their order
            return self._in_place(data, place.at, inner)
        del place.holder[place.at]
        for name, value in inner.items():
            self.put(data, self.prefix + name, value)
        return data

    def _in_place(self, data: dict[str, Any], at: str, inner: dict[str, Any]) -> dict[str, Any]:
        others = {name: value for name, value in data.items() if name != at}
        for name, value in inner.items():
            self.put(others, self.prefix + name, value)
        return others
