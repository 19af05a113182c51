"""Delta tables read again, at one of their versions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pyarrow as pa

from millrace_consumer.readback import ENVELOPE_ID, WHOLE, Found, Readback, named
from millrace_consumer.sinks.deltatable import BATCH, LakeTable
from millrace_pipeline.jsontext import encode_json
from millrace_pipeline.pointer import resolve


class DeltaReadback(Readback):
    """The rows of one table, told apart by some columns: several, where it is upserted by a key of as many."""

    unit: ClassVar[str] = "table"

    def __init__(self, table: LakeTable, by: str, columns: Sequence[str], *, upserts: bool) -> None:
        super().__init__(by)
        self._table = table
        self._columns = list(columns)
        self._upserts = upserts

    def records(self, found: Found) -> Iterator[tuple[str, bytes]]:
        found.upserts = self._upserts
        for commit in self._table.commits():
            if batch := commit.get(BATCH):
                found.by_batch[batch] += int(commit.get("operationMetrics", {}).get("num_added_rows", 0))
        table = self._table.read()
        if table is None:
            return
        found.files = 1
        try:
            for part in pa.RecordBatchReader.from_stream(table.scan(columns=self._columns or None)):
                for row in part.to_pylist():
                    found.records += 1
                    yield self._table.path, self._identity(row)
        except (OSError, pa.ArrowException) as error:
            found.damaged.append(f"{self._table.path}: {str(error).splitlines()[0]}")

    def _identity(self, row: dict[str, Any]) -> bytes:
        if self.by == WHOLE:
            return repr(row).encode(errors="replace")
        if self._upserts and len(self._columns) > 1:
            return encode_json([str(row[name]) for name in self._columns])
        pointer = "id" if self.by == ENVELOPE_ID else self.by
        return named(resolve(pointer, row)) or repr(row).encode(errors="replace")
