"""Records as rows of a Delta table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, BeforeValidator, Field, PrivateAttr, model_validator

from millrace_consumer.arrow import schema_of
from millrace_consumer.batch import Batch
from millrace_consumer.readback import ENVELOPE_ID, WHOLE, Readback
from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.placed import PlacedSink
from millrace_consumer.sinks.places.writable import check_folder
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.extras import Extra
from millrace_pipeline.killpoints import killpoint
from millrace_pipeline.moment import read_moment
from millrace_pipeline.objectstore import is_url
from millrace_pipeline.pointer import resolve

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable

    from millrace_consumer.sinks.deltatable import LakeTable

EVENT_TIME = {"date": pa.date32(), "hour": pa.int32()}
"""Columns that a table gets by being partitioned by them: day and hour (UTC) in which the event happened."""

NAME_MAX = 255
"""Bytes of a directory's name: what isn't plain is percent-encoded in it."""

_MISFITS = (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class DeltaSink(PlacedSink):
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
    key: Annotated[
        list[str],
        BeforeValidator(_listed),
        Field(default_factory=list, description="For upsert: the column, or columns, that name a row."),
    ]
    version: Annotated[
        str | None,
        Field(
            description="For upsert: a column, such as a time or a revision; a row is never replaced by one of less."
        ),
    ] = None
    partition: Annotated[
        list[str],
        BeforeValidator(_listed),
        Field(
            default_factory=list,
            description="Columns whose values part the table into directories, for a table that is made; `date` and "
            "`hour` (UTC, of the event) become columns where there are none.",
        ),
    ]
    time: Annotated[
        str | None,
        Field(description="Field or JSON pointer of the event's time for `date` and `hour`. Default: the envelope's."),
    ] = None
    add_columns: Annotated[
        bool,
        Field(
            description="Add a column that the table lacks to it; else a batch that has one waits until it is there."
        ),
    ] = True

    _table: LakeTable | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _options_go_together(self) -> DeltaSink:
        if self.mode == "upsert" and not self.key:
            raise ValueError("upsert goes by a key: add `key: <column>`")
        if self.mode == "append" and (self.key or self.version):
            raise ValueError("key and version are for `mode: upsert`")
        if self.store and not self.store.conditional_put:
            raise ValueError("a Delta table takes a store with conditional puts")
        for name, columns in (("key", self.key), ("partition", self.partition)):
            if len(set(columns)) < len(columns) or "" in columns:
                raise ValueError(f"{name}: expected different columns")
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
        if not is_url(self.path):
            check_folder(Path(self.path))
        schema = self.columns(model)
        for field in schema:
            if odd := _odd(field.type):
                raise ConfigError(f"a Delta table has no {odd} for column {field.name}: make it a number or text")
        for option, names in (("key", self.key), ("version", [self.version]), ("partition", self.partition)):
            for name in filter(None, names):
                if name not in schema.names:
                    raise ConfigError(f"{option}: there is no column {name!r}; there are {', '.join(schema.names)}")
                if pa.types.is_nested(schema.field(name).type):
                    raise ConfigError(f"{option}: column {name!r} is no plain value")

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
        killpoint("sink.before_write")
        rows, places = self._rows(batch)

        def write(table: DeltaTable, properties: CommitProperties) -> None:
            fitting = self._fitting(rows, places, pa.schema(table.schema().to_arrow()))
            if self.mode == "append":
                _append(table, fitting, properties)
            else:
                _upsert(table, fitting, properties, self.key, self.version)

        batch.written = self.table.commit(batch.id, batch.flow, rows.schema, write)
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

    def _rows(self, batch: Batch) -> tuple[pa.Table, Sequence[int]]:
        """The batch as a table, with the columns that it is to be partitioned by, and one row a key.

        With the place in the batch of each row.
        """
        rows = batch.table
        for name in self.columns(batch.model).names[rows.num_columns :]:
            values = [_part_of(self._moment(batch, index), name) for index in range(len(batch))]
            rows = rows.append_column(name, pa.array(values, EVENT_TIME[name]))
        if unnameable := self._unnameable(rows):
            raise RecordsRejected(unnameable)
        if self.mode == "append":
            return rows, range(len(batch))
        nameless = {index for name in self.key for index in _nulls(rows[name])}
        if nameless:
            raise RecordsRejected({index: f"its key ({', '.join(self.key)}) is null" for index in sorted(nameless)})
        places = _newest(rows, self.key, self.version)
        return rows.take(places), places

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

    def _moment(self, batch: Batch, index: int) -> datetime | None:
        return read_moment(
            batch.envelopes[index].time if self.time is None else resolve(self.time, batch.records[index])
        )

    def _fitting(self, rows: pa.Table, places: Sequence[int], wanted: pa.Schema) -> pa.Table:
        """The rows with the types of the table's columns.

        Raises RecordsRejected naming those with a value that doesn't fit, SinkUnavailable where a column can't.
        """
        lacking = [name for name in rows.schema.names if name not in wanted.names]
        if lacking and not self.add_columns:
            raise SinkUnavailable(
                f"the table at {self.path} has no column {', '.join(lacking)}: add it, or say `add_columns: true`"
            )
        rejected: dict[int, str] = {}
        for place, field in enumerate(rows.schema):
            if field.name in lacking or wanted.field(field.name).type == field.type:
                continue
            type = wanted.field(field.name).type
            try:
                rows = rows.set_column(place, pa.field(field.name, type), rows[field.name].cast(type))
            except pa.ArrowNotImplementedError:
                raise SinkUnavailable(
                    f"column {field.name} of the table at {self.path} is {type}, and {field.type} can't be made that"
                ) from None
            except _MISFITS:
                reasons = _misfits(rows[field.name], field.name, type)
                rejected |= {places[index]: reason for index, reason in reasons.items()}
        if rejected:
            raise RecordsRejected(dict(sorted(rejected.items())))
        return rows


def _append(table: DeltaTable, rows: pa.Table, properties: CommitProperties) -> None:
    from deltalake import write_deltalake

    write_deltalake(table, rows, mode="append", schema_mode="merge", commit_properties=properties)


def _upsert(
    table: DeltaTable, rows: pa.Table, properties: CommitProperties, key: Sequence[str], version: str | None
) -> None:
    same = " AND ".join(f"t.{_quoted(name)} = s.{_quoted(name)}" for name in key)
    merger = table.merge(
        rows, same, source_alias="s", target_alias="t", merge_schema=True, commit_properties=properties
    )
    newer = f"t.{_quoted(version)} IS NULL OR s.{_quoted(version)} >= t.{_quoted(version)}" if version else None
    merger.when_matched_update_all(newer).when_not_matched_insert_all().execute()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _part_of(when: datetime | None, name: str) -> Any:
    if when is None:
        return None
    return when.date() if name == "date" else when.hour


def _nulls(column: pa.ChunkedArray) -> list[int]:
    found: list[int] = pc.indices_nonzero(column.is_null()).to_pylist()
    return found


def _newest(rows: pa.Table, key: Sequence[str], version: str | None) -> list[int]:
    """The place of each key's row: the last one, or the last of those with the greatest version."""
    places: dict[tuple[Any, ...], int] = {}
    versions = rows[version].to_pylist() if version else None
    for place, name in enumerate(zip(*(rows[column].to_pylist() for column in key), strict=True)):
        if versions and name in places and _less(versions[place], versions[places[name]]):
            continue
        places[name] = place
    return sorted(places.values())


def _less(one: Any, other: Any) -> bool:
    """As the table will have it: nothing is replaced by null, and null by anything."""
    return other is not None and (one is None or one < other)


def _misfits(column: pa.ChunkedArray, name: str, type: pa.DataType) -> dict[int, str]:
    reasons = {}
    for index in range(len(column)):
        try:
            column.slice(index, 1).cast(type)
        except _MISFITS as misfit:
            reasons[index] = f"{name}: does not fit the table's {type}: {str(misfit).partition(chr(10))[0][:200]}"
    return reasons


def _odd(type: pa.DataType) -> str:
    """What a Delta table has no type for, in this one."""
    if pa.types.is_duration(type) or pa.types.is_time(type):
        return str(type)
    return next(filter(None, (_odd(type.field(place).type) for place in range(type.num_fields))), "")
