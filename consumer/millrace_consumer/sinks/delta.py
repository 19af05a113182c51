"""Records as rows of a Delta table."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, BeforeValidator, Field, PrivateAttr, model_validator

from millrace_consumer.arrow import schema_of
from millrace_consumer.batch import Batch
from millrace_consumer.matching import alike, listed
from millrace_consumer.modeltypes import shapes_of
from millrace_consumer.readback import ENVELOPE_ID, WHOLE, Readback
from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.dated import DatedSink
from millrace_consumer.sinks.deltafit import fitted, names_in
from millrace_consumer.sinks.deltaupsert import append, merged_by_key, upsert
from millrace_consumer.sinks.places.writable import check_folder
from millrace_consumer.sinks.upserting import BY_LETTERS, WITHOUT_MODEL, UpsertingSink
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.extras import Extra
from millrace_pipeline.killpoints import killpoint
from millrace_pipeline.objectstore import is_url

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable

    from millrace_consumer.sinks.deltatable import LakeTable

EVENT_TIME = {"date": pa.date32(), "hour": pa.int32()}
"""Columns that a table gets by being partitioned by them: day and hour (UTC) in which the event happened."""

NAME_MAX = 255
"""Bytes of a directory's name: what isn't plain is percent-encoded in it."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class DeltaSink(UpsertingSink, DatedSink):
    """Exactly once: each batch is one commit of the table, which carries the batch's id, so there is no second one.

    The columns are those of parquet: the fields of the flow's model, else `id`, `time` and `data` as JSON text. The
    table is made where there is none.
    """

    about: ClassVar[str] = "a lake's tables"
    guarantee: ClassVar[str] = "exactly once"
    guaranteed_by: ClassVar[str] = "the commit carries the batch's id"
    extra: ClassVar[Extra | None] = Extra("delta", module="deltalake")

    mode: Annotated[
        Literal["append", "upsert"],
        Field(description="append: add the records. upsert: a record takes the place of the row with its key."),
    ] = "append"
    partition: Annotated[
        list[str],
        BeforeValidator(_listed),
        Field(
            default_factory=list,
            description="Columns whose values part the table into directories, for a table that is made; `date` and "
            "`hour` (UTC, of the event) become columns where there are none.",
        ),
    ]
    add_columns: Annotated[
        bool,
        Field(
            description="Add a column that the table lacks to it; else a batch that has one waits until it is there."
        ),
    ] = True

    _table: LakeTable | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _options_go_together(self) -> DeltaSink:
        if self.store and not self.store.conditional_put:
            raise ValueError("a Delta table takes a store with conditional puts")
        if len(set(self.partition)) < len(self.partition) or "" in self.partition:
            raise ValueError("partition: expected different columns")
        return self

    @property
    def table(self) -> LakeTable:
        """The table."""
        if self._table is None:
            from millrace_consumer.sinks.deltatable import LakeTable

            self._table = LakeTable(self.path, self.store, self.partition)
        return self._table

    def check(self, model: type[BaseModel] | None) -> None:
        """Refuses columns that the table can't have, and options that name others than there are."""
        if self.upserts and model is None:
            raise ConfigError(WITHOUT_MODEL)
        if not is_url(self.path):
            check_folder(Path(self.path))
        schema = self.columns(model)
        if twice := alike(schema.names):
            raise ConfigError(f"a Delta table tells no columns apart by capital letters: {listed(twice)}")
        for field in schema:
            if odd := _odd(field.type):
                raise ConfigError(f"a Delta table has no {odd} for column {field.name}: make it a number or text")
        for option, names in (("key", self.key), ("version", [self.version]), ("partition", self.partition)):
            for name in filter(None, names):
                if name not in schema.names:
                    raise ConfigError(f"{option}: there is no column {name!r}; there are {', '.join(schema.names)}")
                if pa.types.is_nested(schema.field(name).type):
                    raise ConfigError(f"{option}: column {name!r} is no plain value")
        if model is not None:
            self.check_version({name: shape.kind for name, shape in shapes_of(model).items()}, model.__name__)

    def doubt(self, model: type[BaseModel] | None) -> str | None:  # noqa: ARG002
        """See `Sink.doubt`."""
        return self.doubt_of_time(self.partition)

    def columns(self, model: type[BaseModel] | None) -> pa.Schema:
        """The columns that a flow's records make. Raises ConfigError."""
        schema = schema_of(model)
        for name in self.partition:
            if name in EVENT_TIME and name not in schema.names:
                schema = schema.append(pa.field(name, EVENT_TIME[name]))
        return schema

    def probe(self) -> str | None:
        """See `Sink.probe`."""
        table = self.table.read()
        return "no table there yet: it will be made" if table is None else f"the table is at version {table.version()}"

    def has_batch(self, batch_id: str) -> bool:
        """Whether the batch is committed."""
        return self.table.has_batch(batch_id)

    def write(self, batch: Batch) -> None:
        """Commits the batch, unless the table has it."""
        if not len(batch):
            return
        if self.upserts and batch.model is None:
            raise SinkUnavailable(f"the table at {self.path}: {WITHOUT_MODEL}")
        killpoint("sink.before_write")
        self.hold_to_model(batch)
        rows = self._rows(batch)
        given = self._given(batch)

        def write(table: DeltaTable, properties: CommitProperties) -> None:
            there = pa.schema(table.schema().to_arrow())
            fitting = fitted(rows, there, self.path)
            if fitting.lacking and not self.add_columns:
                raise SinkUnavailable(
                    f"the table at {self.path} has no column {', '.join(fitting.lacking)}: add it, or say "
                    "`add_columns: true`"
                )
            if not self.upserts:
                append(table, fitting.rows, properties)
                return
            if fitting.lacking:
                # By itself, and before: where nested types grow, the library's merge empties the rows that are there.
                append(table, fitting.rows.slice(0, 0), None)
            names = names_in(there, rows.schema.names, self.path)
            key, version = [names[name] for name in self.key], self.version and names[self.version]
            if version in there.names and _is_text(there.field(version).type) and not _is_text(rows[self.version].type):
                kind = there.field(version).type
                raise SinkUnavailable(
                    f"column {version} of the table at {self.path}, its version, is {kind}, which {BY_LETTERS}"
                )
            # As the table has them: what two records call differently may be one key there.
            merged = merged_by_key(fitting.rows, {names[name]: has for name, has in given.items()}, key, version)
            upsert(table, merged, properties, key, version)

        batch.written = self.table.commit(batch.id, batch.flow, rows.schema, write)
        self.say_dropped(batch)
        killpoint("sink.after_write")

    def read_back(self, *, model: type[BaseModel] | None = None, key: str | None = None) -> Readback:
        """See `Sink.read_back`: an upsert's own key goes before the source's."""
        from millrace_consumer.sinks.deltareadback import DeltaReadback

        column = (key or "").lstrip("/").split("/")[0]
        if self.mode == "upsert":
            return DeltaReadback(self.table, ", ".join(self.key), self.key, upserts=True)
        if model is None:
            return DeltaReadback(self.table, ENVELOPE_ID, ["id"], upserts=False)
        if key and column in self.columns(model).names:
            return DeltaReadback(self.table, key, [column], upserts=False)
        return DeltaReadback(self.table, WHOLE, [], upserts=False)

    def _rows(self, batch: Batch) -> pa.Table:
        """The batch as a table, with the columns that it is to be partitioned by. Raises RecordsRejected."""
        rows, when = batch.table, self.moments(batch)
        for name in self.columns(batch.model).names[rows.num_columns :]:
            values = [_part_of(when(index), name) for index in range(len(batch))]
            rows = rows.append_column(name, pa.array(values, EVENT_TIME[name]))
        if unnameable := self._unnameable(rows):
            raise RecordsRejected(unnameable)
        nameless = {index for name in self.key for index in _nulls(rows[name])}
        if nameless:
            raise RecordsRejected({index: f"its key ({', '.join(self.key)}) is null" for index in sorted(nameless)})
        return rows

    def _given(self, batch: Batch) -> dict[str, list[bool]]:
        """Of each column that may keep what it has, which records have a value for it."""
        if not self.keeps or batch.model is None or batch.given is None:
            return {}
        names = [name for name in batch.model.model_fields if name not in (*self.key, self.version)]
        return {name: [name in given for given in batch.given] for name in names}

    def _unnameable(self, rows: pa.Table) -> dict[int, str]:
        """The rows whose partitions make no name of a directory that there can be, and why."""
        columns = [(name, rows[name]) for name in self.partition if pa.types.is_string(rows[name].type)]
        reasons: dict[int, str] = {}
        for name, column in columns:
            for value in column.unique().to_pylist():
                if value and len(quote(f"{name}={value}")) > NAME_MAX:
                    reason = f"{name}: its value makes a partition's name of more than {NAME_MAX} bytes"
                    reasons |= dict.fromkeys(pc.indices_nonzero(pc.equal(column, value)).to_pylist(), reason)
        return dict(sorted(reasons.items()))


def _is_text(type: pa.DataType) -> bool:
    return bool(pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type))


def _part_of(when: datetime | None, name: str) -> Any:
    if when is None:
        return None
    return when.date() if name == "date" else when.hour


def _nulls(column: pa.ChunkedArray) -> list[int]:
    found: list[int] = pc.indices_nonzero(column.is_null()).to_pylist()
    return found


def _odd(type: pa.DataType) -> str:
    """What a Delta table has no type for, in this one."""
    if pa.types.is_duration(type) or pa.types.is_time(type):
        return str(type)
    return next(filter(None, (_odd(type.field(place).type) for place in range(type.num_fields))), "")
