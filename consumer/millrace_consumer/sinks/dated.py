"""What all sinks have in common that put a record by when it happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated

from pydantic import Field

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.namedfield import NamedField
from millrace_consumer.sinks.placed import PlacedSink
from millrace_consumer.when import moment_said
from millrace_pipeline.moment import TimeUnit


class DatedSink(PlacedSink):
    """Parts what it writes by `date` and `hour`, where the flow says so."""

    time: Annotated[
        str | None,
        Field(
            description="Field or JSON pointer of the event's time for `date` and `hour`: ISO 8601, RFC 2822, or a "
            "number since 1970. Default: the envelope's time."
        ),
    ] = None
    time_unit: Annotated[
        TimeUnit, Field(description="What a number in `time` counts: s, ms, us or ns. auto: its size tells.")
    ] = "auto"

    def doubt_of_time(self, partition: Sequence[str]) -> str | None:
        """Return what `Sink.doubt` says where `time` decides nothing, since nothing is parted by it."""
        if self.time is None or not {"date", "hour"}.isdisjoint(partition):
            return None
        return "time: decides the date and the hour of partitions, and there are none here: partition: [date]"

    def moments(self, batch: Batch) -> Callable[[int], datetime | None]:
        """Return what tells when the record of an index happened: by the field that `time` names, or its envelope."""
        if self.time is None:
            return lambda index: moment_said(batch.envelopes[index].time)
        field = NamedField("time", self.time)
        return lambda index: field.moment_of(batch.records[index], self.time_unit)
