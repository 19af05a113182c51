"""Records as Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import BinaryIO, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from millrace_consumer.arrow import schema_of
from millrace_consumer.batch import Batch
from millrace_consumer.readback import ENVELOPE_ID, WHOLE, Readback, named
from millrace_consumer.sinks.columned import ColumnedSink
from millrace_consumer.sinks.filereadback import Damaged, FileReadback
from millrace_consumer.sinks.files import FileSink
from millrace_consumer.sinks.parquetwriting import WRITING
from millrace_pipeline.pointer import resolve


class ParquetSink(ColumnedSink, FileSink):
    """Exactly once: one file a batch, compressed with zstd, with typed columns where the flow has a model.

    Without a model the columns are `id`, `time` and `data`, the record as JSON text. A record that doesn't fit a
    column (an integer beyond 64 bits) is rejected, and the others are written.
    """

    kind: ClassVar[str] = "parquet"

    @property
    def prefetch(self) -> Sequence[str]:
        """See `Sink.prefetch`."""
        return () if self.partition else ("table",)

    def check(self, model: type[BaseModel] | None) -> None:
        """Refuses a model that makes no columns."""
        super().check(model)
        schema_of(model)

    def encode(self, batch: Batch) -> Iterable[bytes]:
        """One Parquet file, one row group."""
        self.hold_to_model(batch)
        file = pa.BufferOutputStream()
        pq.write_table(batch.table, file, coerce_timestamps=None, **WRITING)
        self.say_dropped(batch)
        yield file.getvalue()

    def read_back(self, *, model: type[BaseModel] | None = None, key: str | None = None) -> Readback:
        """See `Sink.read_back`: rows, of which only the column is read that names them."""
        by = ENVELOPE_ID if model is None else key or WHOLE
        return FileReadback(self.place, (".parquet",), by, partial(_identities, by))


def _identities(by: str, _: str, file: BinaryIO) -> Iterator[bytes]:
    try:
        with pq.ParquetFile(file) as parquet:
            pointer = "id" if by == ENVELOPE_ID else by
            column = pointer.lstrip("/").split("/")[0]
            columns = None if by == WHOLE or column not in parquet.schema_arrow.names else [column]
            for part in parquet.iter_batches(batch_size=4096, columns=columns):
                for row in part.to_pylist():
                    name = None if columns is None else named(resolve(pointer, row))
                    yield name or repr(row).encode(errors="replace")
    except (pa.ArrowException, OSError) as error:
        raise Damaged(str(error)) from None
