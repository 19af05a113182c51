"""Options of all sinks that write to a table, and what they ask of a flow's model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from millrace_consumer.batch import Batch
from millrace_consumer.matching import Match, alike, listed
from millrace_consumer.modeltypes import Kind
from millrace_consumer.sinks.base import RecordsRejected
from millrace_consumer.sinks.sqlcells import Columns, cells_of_models, cells_of_records, objects, plain_cells
from millrace_consumer.sinks.sqlcolumns import PLAIN, SqlColumn, columns_of
from millrace_consumer.sinks.sqltable import SqlTable, Upsert
from millrace_consumer.sinks.upserting import A_TABLE_THAT_IS_THERE, Absent, ColumnName, UpsertingSink
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.units import Duration

DAY = 86_400.0

TableName = Annotated[str, Field(pattern=r'^[^."\x00]+(\.[^."\x00]+)?$')]
Wait = Annotated[Duration, Field(gt=0, le=DAY)]


class SqlOptions(UpsertingSink):
    """Which table, how records become its rows, and where the ledger is."""

    model_config = ConfigDict(hide_input_in_errors=True)

    about: ClassVar[str] = "tables: append, upsert, replace"
    guarantee: ClassVar[str] = "exactly once"
    guaranteed_by: ClassVar[str] = "the batch's id is in the transaction of its rows"

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

    folds_case: ClassVar[bool] = True
    """Whether the database takes `userId` and `userid` for one column."""

    longest_name: ClassVar[int]
    """Bytes of a column's or table's name that the database tells apart."""

    @property
    def prefetch(self) -> Sequence[str]:
        """See `Sink.prefetch`."""
        return ("models",)

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
        if self.folds_case and (twice := alike(names)):
            raise ConfigError(f"the database tells no columns apart by capital letters: {listed(twice)}")
        if missing := [name for name in (*self.key, *([self.version] if self.version else [])) if name not in names]:
            raise ConfigError(f"model {model.__name__} has no field {missing[0]}: name one of {', '.join(names)}")
        self.check_version({name: column.kind for name, column in self.columns(model).items()}, model.__name__)
        if self.record_id in fields:
            raise ConfigError(f"record_id: model {model.__name__} has a field {self.record_id}: name another column")

    def columns(self, model: type[BaseModel] | None) -> dict[str, SqlColumn]:
        """The columns that a table is made with."""
        columns = dict(PLAIN if model is None else columns_of(model))
        return columns | ({self.record_id: SqlColumn(Kind.TEXT, nullable=False)} if self.record_id else {})

    def drift(self, table: SqlTable, model: type[BaseModel] | None) -> str | None:
        """What must be mended before the flow's records can be written to this table; None where nothing must."""
        wanted: dict[str, SqlColumn | None] = dict(self.columns(model))
        is_plain = model is None and table.is_plain(self.record_id)
        if is_plain and self.upserts:
            return f"has the columns of the envelope, and {A_TABLE_THAT_IS_THERE}"
        if model is None and not is_plain:
            wanted = dict.fromkeys(table.fillable()) | ({self.record_id: wanted["id"]} if self.record_id else {})
        if found := table.drift(wanted, self.key):
            return found
        return table.misordered(self.upsert_in(table, model)) if self.version else None

    def upsert_in(self, table: SqlTable, model: type[BaseModel] | None) -> Upsert:
        """Return what names a row, and which of two is newer, by the columns of this table."""
        key, version = [table.spelled(name) for name in self.key], self.version and table.spelled(self.version)
        known = self.columns(model) if model is not None or table.is_plain(self.record_id) else {}
        kinds = {table.spelled(name): column.kind for name, column in known.items()}
        return Upsert(key, version, kinds.get(version or ""))

    def cells(self, batch: Batch, table: SqlTable) -> dict[str, list[Any]]:
        """The values of each column of the table that is filled, by its name. Raises RecordsRejected."""
        record_id = self.record_id and table.spelled(self.record_id)
        upsert = self.upsert_in(table, batch.model)
        if batch.model is not None:
            found = self._cells_of_models(batch, table)
        elif table.is_plain(record_id):
            found = plain_cells(batch)
        else:
            names = [name for name in table.fillable() if name != record_id]
            records = objects(batch)
            matches = self.matched(records, table.matching(names))
            found = cells_of_records(records, matches, self._columns(table, names))
            self.say_left(batch, matches, f"table {self.table}")
        for name in (*upsert.key, upsert.version):
            if name in found:
                found[name] = [value.default if type(value) is Absent else value for value in found[name]]
        if record_id:
            found[record_id] = batch.ids
        nameless = {
            index: f"{name}: null, and an upsert needs it to name the row"
            for name in upsert.key
            for index, value in enumerate(found[name])
            if value is None
        }
        unordered = table.unordered(upsert, found.get(upsert.version, ())) if upsert.version else {}
        if rejected := nameless | unordered:
            raise RecordsRejected(dict(sorted(rejected.items())))
        return found

    def _cells_of_models(self, batch: Batch, table: SqlTable) -> dict[str, list[Any]]:
        assert batch.model is not None
        self.hold_to_model(batch)
        match = table.matching(list(table.columns)).of(columns_of(batch.model))
        assert isinstance(match, Match)  # else the table had been refused
        found = cells_of_models(batch, match.fields, self._columns(table, list(match.fields)))
        self.say_dropped(batch)
        return found

    def _columns(self, table: SqlTable, names: list[str]) -> Columns:
        sparse = table.sparse(names, keeps=self.keeps)
        return Columns(names, table.json, table.arrays, table.holds, sparse, keeps=self.keeps)
