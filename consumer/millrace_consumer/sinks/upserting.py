"""What all sinks have in common that put a record in the place of the row with its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from millrace_consumer.modeltypes import Kind
from millrace_consumer.sinks.columned import ColumnedSink
from millrace_pipeline.errors import ConfigError

ColumnName = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]


BY_LETTERS = 'goes by its letters, "9" after "10": make it a number or a time'
"""What is wrong with text as a version, and how to mend it."""


WITHOUT_MODEL = (
    "mode upsert has no model, and a table that is made without one has the envelope's columns, id, time and data: its "
    "key would be no field of the records, and no row ever replaced. Add a model"
)
"""What is wrong with an upsert into a table of whole records, and how to mend it."""

A_TABLE_THAT_IS_THERE = f"{WITHOUT_MODEL}, or a table that is there with the records' columns"


class Absent(NamedTuple):
    """In the place of a value that a record doesn't have; `default` is what its model says then."""

    default: Any = None


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class UpsertingSink(ColumnedSink):
    """Upserts where its `mode` says so."""

    by_letters: ClassVar[frozenset[Kind]] = frozenset({Kind.TEXT, Kind.JSON, Kind.LIST, Kind.MAP, Kind.STRUCT})
    """What is compared by its letters here, whatever it says."""

    key: Annotated[
        list[ColumnName],
        BeforeValidator(_listed, json_schema_input_type=str | list[str]),
        Field(default_factory=list, description="For upsert: the column, or columns, that name a row."),
    ]
    version: Annotated[
        ColumnName | None,
        Field(
            description="For upsert: a column of numbers or times, such as a revision; a row is never replaced by one "
            "with less."
        ),
    ] = None
    absent: Annotated[
        Literal["keep", "null"],
        Field(
            description="For upsert: a field that a record lacks. keep: the row keeps what it has there. null: it "
            "becomes null, or what the flow's model says by default."
        ),
    ] = "keep"

    @model_validator(mode="after")
    def _upsert_goes_by_a_key(self) -> Self:
        if self.upserts and not self.key:
            raise ValueError("mode upsert needs to know what names a row: add `key: [...]`")
        if not self.upserts and (self.key or self.version):
            raise ValueError(f"key and version are for mode upsert, and mode is {getattr(self, 'mode', 'append')}")
        if not self.upserts and "absent" in self.model_fields_set:
            raise ValueError(f"absent is for mode upsert, and mode is {getattr(self, 'mode', 'append')}")
        if len(set(self.key)) < len(self.key):
            raise ValueError("key names a column twice")
        return self

    def check_version(self, kinds: Mapping[str, Kind], place: str) -> None:
        """Refuse a version whose order isn't that of its letters. `kinds` say what each field of a place holds."""
        if (kind := kinds.get(self.version or "")) in self.by_letters:
            raise ConfigError(f"version: {self.version} holds {kind} in {place}, which {BY_LETTERS}")

    @property
    def upserts(self) -> bool:
        """Return True where it does."""
        return getattr(self, "mode", "append") == "upsert"

    @property
    def keeps(self) -> bool:
        """Return True where a row keeps what the record that takes its place doesn't have."""
        return self.upserts and self.absent == "keep"
