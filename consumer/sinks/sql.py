"""What all sinks that write to a table have in common: their options, and what is asked of a flow's model."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from consumer.batch import Batch
from consumer.sinks.base import RecordsRejected, Sink
from consumer.sinks.ledger import Refusals
from consumer.sinks.sqlcolumns import columns_of
from pipeline.errors import ConfigError
from pipeline.units import Duration

DAY = 86_400.0

TableName = Annotated[str, Field(pattern=r'^[^."\x00]+(\.[^."\x00]+)?$')]
ColumnName = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]
Wait = Annotated[Duration, Field(gt=0, le=DAY)]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class SqlSink(Sink):
    """One transaction a batch: its records, and its id in a ledger beside them."""

    model_config = ConfigDict(hide_input_in_errors=True)

    table: Annotated[
        TableName,
        Field(description="The table, or schema.table, as the database spells it; made where there is none."),
    ]
    mode: Annotated[
        Literal["append", "upsert", "replace"],
        Field(
            description="append: add the records. upsert: a record takes the place of the row with its key. replace: a "
            "batch takes the place of all rows."
        ),
    ] = "append"
    key: Annotated[
        list[ColumnName],
        BeforeValidator(_listed, json_schema_input_type=str | list[str]),
        Field(default_factory=list, description="For upsert: the column, or columns, that name a row."),
    ]
    version: Annotated[
        ColumnName | None,
        Field(
            description="For upsert: a column, such as a time or a revision; a row is never replaced by one with less."
        ),
    ] = None
    record_id: Annotated[
        ColumnName | None,
        Field(
            description="A further column, for the id of the record's envelope: `millrace verify --sink` goes by it."
        ),
    ] = None
    create: Annotated[bool, Field(description="Make the table where there is none.")] = True
    ledger: Annotated[
        ColumnName,
        Field(description="The table of the batches that are in, beside the table; made where there is none."),
    ] = "millrace_ledger"
    ledger_keep: Annotated[
        Duration,
        Field(
            ge=DAY,
            description="How long a batch is remembered: longer than any consumer may be away with a batch in hand.",
        ),
    ] = 30 * DAY

    longest_name: ClassVar[int]
    """Bytes of a column's or table's name that the database tells apart."""

    _refusals: Refusals = PrivateAttr(default_factory=Refusals)

    @model_validator(mode="after")
    def _upsert_goes_by_a_key(self) -> SqlSink:
        if self.mode == "upsert" and not self.key:
            raise ValueError("mode upsert needs to know what names a row: add `key: [...]`")
        if self.mode != "upsert" and (self.key or self.version):
            raise ValueError(f"key and version are for mode upsert, and mode is {self.mode}")
        if len(set(self.key)) < len(self.key):
            raise ValueError("key names a column twice")
        return self

    def check(self, model: type[BaseModel] | None) -> None:
        """Refuses a flow whose model lacks the columns that the options name, or has one too many."""
        fields = [] if model is None else list(columns_of(model))
        names = [*fields, *([self.record_id] if self.record_id else [])]
        for name in (*names, *self.table.split("."), self.ledger):
            if len(name.encode()) > self.longest_name:
                raise ConfigError(
                    f"the name {name[:20]}… is longer than {self.longest_name} bytes: choose a shorter one"
                )
        if model is None:
            return
        if missing := [name for name in (*self.key, *([self.version] if self.version else [])) if name not in names]:
            raise ConfigError(f"model {model.__name__} has no field {missing[0]}: name one of {', '.join(names)}")
        if self.record_id in fields:
            raise ConfigError(f"record_id: model {model.__name__} has a field {self.record_id}: name another column")

    def write(self, batch: Batch) -> None:
        """Writes the batch in one transaction, unless the ledger has it."""
        if not len(batch):
            return
        try:
            self.write_once(batch)
        except RecordsRejected as rejection:
            self._refusals.add(batch, rejection.reasons)
            raise

    @abstractmethod
    def write_once(self, batch: Batch) -> None:
        """As `write`, of a batch with records in it."""
