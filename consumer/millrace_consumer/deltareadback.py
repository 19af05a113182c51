"""Reads a Delta table again, and counts: what `millrace verify --sink` says of a delta sink."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from millrace_consumer.readback import SHOWN, Found, Hashes, Repeated, hash_of
from millrace_consumer.rows import ENVELOPE_ID, WHOLE, named
from millrace_consumer.sinks.delta import DeltaSink
from millrace_consumer.sinks.deltatable import BATCH
from millrace_pipeline.envelope import encode_json, resolve


class DeltaReadback:
    """The rows of one table, at one of its versions.

    `key` is the JSON pointer of what names a record in its source; an upsert's own key goes before it.
    """

    def __init__(self, sink: DeltaSink, *, model: type[BaseModel] | None = None, key: str | None = None) -> None:
        self._sink = sink
        self._upserts = sink.mode == "upsert"
        column = (key or "").lstrip("/").split("/")[0]
        if self._upserts:
            self._by, self._columns = ", ".join(sink.key), sink.key
        elif model is None:
            self._by, self._columns = ENVELOPE_ID, ["id"]
        elif key and column in sink.columns(model).names:
            self._by, self._columns = key, [column]
        else:
            self._by, self._columns = WHOLE, []

    def read(self) -> Found:
        """All rows there are. Raises SinkUnavailable."""
        found = Found(self._by, unit="table", upserts=self._upserts)
        for commit in self._sink.table.commits():
            if batch := commit.get(BATCH):
                found.by_batch[batch] += int(commit.get("operationMetrics", {}).get("num_added_rows", 0))
        hashes = Hashes()
        try:
            for identity in self._identities():
                hashes.add(hash_of(identity))
                found.records += 1
        except (OSError, pa.ArrowException) as error:
            found.damaged.append(f"{self._sink.path}: {str(error).splitlines()[0]}")
        found.files = int(self._sink.table.read() is not None)
        repeated = hashes.repeated()
        found.twice = sum(repeated.values())
        wanted = set(list(repeated)[:SHOWN])
        shown: dict[bytes, int] = {}
        for identity in self._identities() if wanted else ():
            if hash_of(identity) in wanted:
                shown[identity] = shown.get(identity, 0) + 1
        found.repeated = [
            Repeated(identity.decode(errors="replace")[:120], [self._sink.path] * times)
            for identity, times in shown.items()
        ]
        return found

    def identities(self) -> Iterator[str]:
        """What identifies each row."""
        for identity in self._identities():
            yield identity.decode(errors="replace")

    def _identities(self) -> Iterator[bytes]:
        table = self._sink.table.read()
        if table is None:
            return
        for part in pa.RecordBatchReader.from_stream(table.scan(columns=self._columns or None)):
            for row in part.to_pylist():
                yield self._identity(row)

    def _identity(self, row: dict[str, Any]) -> bytes:
        if self._by == WHOLE:
            return repr(row).encode(errors="replace")
        if self._upserts and len(self._columns) > 1:
            return encode_json([str(row[name]) for name in self._columns])
        pointer = "id" if self._by == ENVELOPE_ID else self._by
        return named(resolve(pointer, row)) or repr(row).encode(errors="replace")
