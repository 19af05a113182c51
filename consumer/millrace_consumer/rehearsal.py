"""Rehearsal: what a flow would make of one record, and what its sink would write, with nothing written."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from millrace_consumer.batch import Batch
from millrace_consumer.delivery import prepare
from millrace_consumer.plan import Plan
from millrace_consumer.sinks import SINKS
from millrace_consumer.sinks.base import Sink
from millrace_consumer.sinks.files import FileSink
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import Claim

BATCH = "BATCH"
"""Stands for the batch's id in what is shown: nobody knows it before."""


class Output(msgspec.Struct):
    """What would be written to one place: a file, or the sink itself. `columns` are a Parquet file's, with types."""

    place: str
    text: str
    columns: dict[str, str] | None = None


class Rehearsed(msgspec.Struct):
    """The lot of one record: `verdict` is delivered, filtered, or with a `reason` delayed, dead or variant."""

    verdict: str
    reason: str | None
    outputs: list[Output]
    key: str | None = None
    """What names the record; None where nothing in it does."""
    time: str | None = None
    """When it happened, as the record says; None where that is when it is published."""
    notes: list[str] = []
    """Warnings of the services, which say each once and count."""


class Rehearsal:
    """One flow's transforms, model and sink, for one record at a time.

    A file sink really writes, into a scratch directory, and what is shown is read from there. Of any other sink it is
    the records as JSON that it would be given.
    """

    def __init__(self, flow: Flow) -> None:
        self._sinks = [(part.type, part.build(SINKS, Sink)) for part in flow.sink.each]
        self._plan = Plan.of(flow)

    def of(self, line: bytes) -> Rehearsed:
        """What would become of a record that stands on the list like this."""
        delivery = prepare(Claim(BATCH, "rehearsal", 1, 1, [line]), self._plan)
        outputs = delivery.offer(self._outputs) or []
        if delivery.dead:
            return Rehearsed("dead", delivery.dead[0].reason, [])
        if delivery.later:
            return Rehearsed("delayed", str(delivery.later[0]), [])
        return Rehearsed("filtered" if delivery.filtered else "delivered", None, outputs)

    def _outputs(self, batch: Batch) -> list[Output]:
        return [output for type, sink in self._sinks for output in _outputs(type, sink, batch)]


def _outputs(type: str, sink: Sink, batch: Batch) -> list[Output]:
    if not isinstance(sink, FileSink):
        lines = batch.envelope_lines if getattr(sink, "envelope", False) else batch.lines
        return [Output(f"sink {type}", b"\n".join(lines).decode())]
    with tempfile.TemporaryDirectory(prefix="millrace-") as scratch:
        sink.model_copy(update={"path": scratch, "store": None}).write(batch)
        found = sorted(path for path in Path(scratch).rglob("*") if path.is_file())
        return [_shown(path, f"{sink.path.rstrip('/')}/{path.relative_to(scratch)}") for path in found]


def _shown(path: Path, place: str) -> Output:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        table = pq.ParquetFile(path).read()
        columns = {field.name: str(field.type) for field in table.schema}
        return Output(place, "\n".join(map(_row, table.to_pylist())), columns)
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    elif path.suffix == ".zst":
        import pyarrow as pa

        content = pa.input_stream(pa.BufferReader(content), compression="zstd").read()
    return Output(place, content.decode(errors="replace").rstrip("\r\n"))


def _row(row: dict[str, Any]) -> str:
    return msgspec.json.encode(row, enc_hook=str).decode()
