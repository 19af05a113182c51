"""A Python iterable of one's own, by its dotted path."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from typing import Any, ClassVar

import msgspec
from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from millrace_producer.sources.base import DeadLetter, Position, Record, Source, SourceRefused
from millrace_producer.sources.calling import as_record, check_arguments, each, found, takes

RESUME_FROM = "resume_from"


class PythonSource(Source):
    """Reads what a Python function yields or returns: a generator, or any other iterable.

    What it gives is a record's data, or a `Record` with a key, a time and a position of its own. A function that has
    a parameter `resume_from` is given the last position that is safely on the list, and None at the first start.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    about: ClassVar[str] = "yours: a function that yields"
    exclusive: ClassVar[bool] = True

    function: str = Field(
        description="The function or class that is called, as module:name; or the name of something to iterate itself."
    )
    arguments: dict[str, Any] = Field(default_factory=dict, repr=False, description="What it gets, by name.")
    counted: bool = Field(
        default=False,
        description="It gives the same records in the same order each time: their number is the position, and a "
        "restart passes over those that are on the list.",
    )

    _found: Any = PrivateAttr()
    _takes_position: bool = PrivateAttr(default=False)

    @model_validator(mode="after")
    def _it_can_be_read(self) -> PythonSource:
        self._found = found(self.function)
        if callable(self._found):
            self._takes_position = takes(self._found, RESUME_FROM)
            if self._takes_position and self.counted:
                raise ValueError(f"{self.function} has a parameter resume_from, so it isn't counted")
            check_arguments(self.function, self._found, self._offered(None))
        elif not isinstance(self._found, Iterable):
            raise ValueError(f"{self.function} is no function and nothing that can be iterated")
        elif isinstance(self._found, Iterator):
            raise ValueError(f"{self.function} can be iterated only once: expected a function that makes it")
        elif self.arguments:
            raise ValueError(f"{self.function} is no function: it takes no arguments")
        return self

    @property
    def ordered(self) -> bool:
        """See `Source.ordered`. What positions of the function's own mean only it knows."""
        return self.counted

    def is_behind(self, position: Position, checkpoint: Position) -> bool:
        """See `Source.is_behind`."""
        return bool(position <= checkpoint)

    def describe(self, position: Position) -> str:
        """See `Source.describe`."""
        if self._takes_position:
            return f"from what {self.function} gives for resume_from={json.dumps(position, ensure_ascii=False)}"
        if not self.counted:
            raise SourceRefused(f"{self.function} has no parameter resume_from and isn't counted: it has no positions")
        if not isinstance(position, int) or isinstance(position, bool) or position < 0:
            raise SourceRefused("a position is a number of records to pass over")
        return f"after the first {position:,} records"

    def read(self, resume_from: Position | None) -> Iterator[Record | DeadLetter]:
        """See `Source.read`. Positions are those of its records; with `counted`, how many have come."""
        if self.counted and not isinstance(resume_from, int | None):
            raise SourceRefused(f"the checkpoint is a {type(resume_from).__name__}, not a number of records")
        with closing(each(self._items(resume_from))) as items:
            if self.counted:
                begin = resume_from or 0
                for number, item in enumerate(islice(items, begin, None), begin + 1):
                    yield msgspec.structs.replace(as_record(item), position=number)
            else:
                for item in items:
                    record = as_record(item)
                    if record.position is not None and not self._takes_position:
                        lacks = "gives positions, but has no parameter resume_from to get the last one by"
                        raise SourceRefused(f"{self.function} {lacks}")
                    yield record

    def _items(self, resume_from: Position | None) -> Iterable[Any]:
        if not callable(self._found):
            return self._found  # type: ignore[no-any-return]
        given = self._found(**self._offered(resume_from))
        if not isinstance(given, Iterable) or isinstance(given, str | bytes | dict):
            raise SourceRefused(f"{self.function} gave a {type(given).__name__}: expected an iterable of records")
        return given

    def _offered(self, resume_from: Position | None) -> dict[str, Any]:
        return {**self.arguments, **({RESUME_FROM: resume_from} if self._takes_position else {})}
