"""Records as Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from millrace_consumer.arrow import schema_of
from millrace_consumer.batch import Batch
from millrace_consumer.sinks.files import FileSink


class ParquetSink(FileSink):
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
        file = pa.BufferOutputStream()
        pq.write_table(batch.table, file, compression="zstd")
        yield file.getvalue()
