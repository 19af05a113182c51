"""Writer: puts a program's own records on a flow's list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from millrace_pipeline.envelope import Position, Record
from millrace_pipeline.errors import RecordError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.jsontext import checked_text, encode_json
from millrace_pipeline.process.traces import traces_of
from millrace_pipeline.pythonvalues import sayable
from millrace_pipeline.queue import Client, Publishing, Session
from millrace_pipeline.queue.marks import mark
from millrace_producer.contract import Contract
from millrace_producer.publisher import Publisher

if TYPE_CHECKING:
    import pyarrow as pa


class Writer:
    """A way for records onto a flow's list, in place of a producer and a source. Use it as a context manager.

    Records are published in batches, as the flow's `publish`, `dedupe` and `queue` say, from a thread of the writer's
    own. `flush` returns once all that was written is on the list; so does leaving the block. Each is then there once,
    also where Redis' reply was lost. What was written and not flushed is lost with the process: write it again, under
    the same `key`, and the flow's `dedupe` leaves out what was there.

    A `position` written with a record is kept in the same step as the record is published, and is `position` when the
    program starts again: from there it goes on, with nothing lost and nothing twice.

    `write` blocks while the list is full, or a person has paused the flow's producers. Where a person sets the
    checkpoint meanwhile, calls raise CheckpointMoved: begin again from `position`. Calls wait out an outage of Redis.
    `queue` is the session with its list, and `redis` a redis-py client for anything else. `published`, `duplicates` and
    `dead` count the records of this writer.
    """

    def __init__(
        self,
        flow: Flow,
        redis_url: str,
        *,
        take_over: bool = False,
        parting: Callable[[], None] | None = None,
    ) -> None:
        """`take_over` makes the list this flow's, whosever mark it bears; `parting` is called by `close`."""
        self.flow = flow
        self._parting = parting
        if (whole := flow.whole or flow).queue.partitions > 1:
            raise whole.error(
                "only a source whose positions have an order writes to partitions, and a program of your own has none: "
                "leave `partitions` out",
                *("queue", "partitions"),
            )
        self.queue = Session.of(redis_url, flow.queue)
        self._publishing = Publishing(self.queue)
        self._publisher = Publisher(
            self._publishing,
            flow=flow.name,
            source=flow.name,
            records=flow.publish.records,
            linger=flow.publish.linger,
            max_ready=flow.queue.max_ready,
            seen_seconds=flow.dedupe.window if flow.dedupe else 0,
            key=flow.dedupe.key if flow.dedupe else None,
            contract=Contract.of(flow),
            traces=traces_of(flow, "producer"),
        )
        self._take_over = take_over

    def open(self) -> Writer:
        """Make sure whose list it is, and return the writer. Raises ConfigError where it is another project's."""
        mark(self.queue, self.flow.project, take_over=self._take_over)
        self._publishing.begin_at(self.flow.name)
        return self

    @property
    def position(self) -> Position | None:
        """The position that was written last and is published, by this program or the one before it."""
        return self._publishing.checkpoint(self.flow.name)

    @property
    def published(self) -> int:
        """Records that are on the list, or set aside as dead letters."""
        return self._publisher.published

    @property
    def duplicates(self) -> int:
        """Records that dedupe left out."""
        return self._publisher.duplicates

    @property
    def dead(self) -> int:
        """Records that were set aside as dead letters."""
        return self._publisher.dead

    @cached_property
    def redis(self) -> Client:
        """A redis-py client of the same Redis. It never sends a command again by itself."""
        return self.queue.client()

    def write(
        self,
        data: Any,
        *,
        key: str | None = None,
        position: Position | None = None,
        type: str | None = None,
        time: datetime | None = None,
    ) -> None:
        """Write one record: anything JSON can say, a pydantic model, or `bytes` that are JSON.

        `key`, `position`, `type` and `time` are as in a source's `Record`.

        Raises RecordError for what is no JSON, and whatever made an earlier publish fail for good.
        """
        if isinstance(data, bytes):
            checked_text(data)
        else:
            data = encode_json(sayable(data))
        self._publisher.put(Record(data, key, position, type, time, checked=True))

    def write_dataframe(self, frame: Any, *, key: str | None = None) -> None:
        """Write every row of a data frame as a record: of pandas, polars, Arrow, DuckDB or another.

        Anything that gives an Arrow stream will do. `key` names the column that is the record's key. Times keep
        microseconds, and binary columns become base64.

        Raises TypeError for what is no data frame, RecordError where there is no such column.
        """
        for row in _rows(frame):
            if key is not None and key not in row:
                raise RecordError(f"no column {key!r}: there are {', '.join(row)}")
            name = None if key is None or row[key] is None else str(row[key])
            self.write(encode_json(row), key=name)

    def flush(self, timeout: float | None = None) -> None:
        """Return once all that was written is on the list. Raises QueueUnavailable after `timeout` seconds."""
        self._publisher.flush(timeout)

    def close(self) -> None:
        """Flush and stop."""
        try:
            self._publisher.close()
        finally:
            self._publishing.close()
            self.queue.close()
            if "redis" in self.__dict__:
                self.redis.close()
            if self._parting is not None:
                self._parting()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _rows(frame: Any) -> Iterator[dict[str, Any]]:
    if not hasattr(frame, "__arrow_c_stream__"):
        raise TypeError(f"{type(frame).__name__} is no data frame: expected one of pandas, polars or Arrow")
    import pyarrow as pa

    reader = pa.RecordBatchReader.from_stream(frame)
    schema = pa.schema([field.with_type(_exact(field.type)) for field in reader.schema])
    for batch in reader:
        table = pa.Table.from_batches([batch]).cast(schema, safe=False)
        yield from table.to_pylist()


def _exact(kind: pa.DataType) -> pa.DataType:
    """The type as Python's own can hold it: nanoseconds would be pandas' timestamps."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    return pa.duration("us") if pa.types.is_duration(kind) else kind
