"""A Parquet file being read: a record a row, row group by row group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace_pipeline.process.repeats import repeats
from millrace_producer.sources.base import DeadLetter, Record
from millrace_producer.sources.reading.base import SHOWN_BYTES, Reading

ROWS_AT_ONCE = 1000

DEFAULTS: dict[str, Any] = {
    "coerce_int96_timestamp_unit": "us",  # Arrow's own are nanoseconds: Spark's 9999-12-31 wraps around to 1816
    "page_checksum_verification": True,  # where the file has checksums
    "read_dictionary": None,
    "binary_type": None,
    "list_type": None,
    "memory_map": False,
    "buffer_size": 0,
    "pre_buffer": False,
    "arrow_extensions_enabled": True,  # what says that it is a UUID or JSON is that
}
"""What Arrow is told of how to read: docs/decisions/0017-library-defaults.md says why."""


class ParquetReading(Reading):
    """A record a row. The offset is the number of rows before it; row groups that were read are not touched again."""

    def __init__(self, file: BinaryIO, mark: str) -> None:
        self.offset = 0
        self._mark = mark
        self._file = file
        self._parquet: pq.ParquetFile | None = None

    def go_on(self, offset: int) -> None:
        """Goes on after so many rows."""
        self.offset = offset

    def records(self, final: bool) -> Iterator[Record | DeadLetter]:  # noqa: ARG002 - it is complete or it is none
        parquet = self._parquet = self._parquet or pq.ParquetFile(self._file, **DEFAULTS)
        start, groups = 0, parquet.metadata.num_row_groups
        for group in range(groups):
            end = start + parquet.metadata.row_group(group).num_rows
            if end > self.offset:
                skip = self.offset - start
                for batch in parquet.iter_batches(ROWS_AT_ONCE, row_groups=[group], use_threads=False):
                    if skip >= batch.num_rows:
                        skip -= batch.num_rows
                        continue
                    yield from self._of(batch.slice(skip))
                    skip = 0
            start = end

    def close(self) -> None:
        self._file.close()

    @property
    def mark(self) -> str:
        return self._mark

    def _of(self, batch: pa.RecordBatch) -> Iterator[Record | DeadLetter]:
        if len(set(batch.schema.names)) < batch.num_columns:  # of two columns of one name a row would have the last
            batch = batch.rename_columns(different(batch.schema.names))
        schema = pa.schema([field.with_type(sayable(field.type)) for field in batch.schema])
        batch = batch.cast(schema, safe=False)  # what is below a microsecond is cut off, and nothing else can be
        for name, column in zip(schema.names, batch.columns, strict=True):
            if pa.types.is_floating(column.type) and not pc.all(pc.is_finite(column.cast(pa.float64()))).as_py():
                why = f"{name} has NaN or an infinity, which is null in JSON"
                repeats.warn("number_became_null", kind="", of=name, reason=why)
        try:
            rows: list[dict[str, Any]] = batch.to_pylist()
        except (ValueError, OverflowError):
            yield from self._one_by_one(batch)
            return
        for row in rows:
            self.offset += 1
            yield Record(row)

    def _one_by_one(self, batch: pa.RecordBatch) -> Iterator[Record | DeadLetter]:
        for number in range(batch.num_rows):
            self.offset += 1
            row = batch.slice(number, 1)
            try:
                yield Record(row.to_pylist()[0])
            except (ValueError, OverflowError) as error:
                shown = ", ".join(f"{name}: {' '.join(str(row.column(name)).split())}" for name in batch.schema.names)
                yield DeadLetter(shown.encode()[:SHOWN_BYTES], f"a row that Python can't hold: {error}")


def different(names: Sequence[str]) -> list[str]:
    """The names, with a number behind one that another has already."""
    made: list[str] = []
    for name in names:
        other, again = name, 1
        while other in made or (again > 1 and other in names):
            again += 1
            other = f"{name}_{again}"
        made.append(other)
    return made


def sayable(kind: pa.DataType) -> pa.DataType:
    """The same type with times to the microsecond, which is as far as Python's go."""
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_time64(kind) and kind.unit == "ns":
        return pa.time64("us")
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(sayable(field.type)) for field in kind.fields])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(sayable(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(sayable(kind.value_type)))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(sayable(kind.value_type)), kind.list_size)
    if pa.types.is_dictionary(kind):
        return sayable(kind.value_type)
    if pa.types.is_map(kind):
        return pa.map_(sayable(kind.key_type), sayable(kind.item_type))
    return kind
