"""Millrace: a Redis list that no record is lost from, nor written twice. What programs of one's own import is here.

import millrace

with millrace.reader("wikipedia") as messages:
    for message in messages:
        ...
        messages.checkpoint()

with millrace.writer("wikipedia") as writer:
    writer.write({"title": "Mill"})

class MySource(millrace.Source): ...
class MySink(millrace.Sink): ...
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from millrace_pipeline.ondemand import on_demand

if TYPE_CHECKING:
    from millrace.inline import run_inline
    from millrace_consumer.batch import Batch
    from millrace_consumer.readback import WHOLE, Readback
    from millrace_consumer.reader import Message, Reader
    from millrace_consumer.sinks.base import Sink
    from millrace_consumer.transforms import concurrent, drop_canaries
    from millrace_pipeline.envelope import DeadLetter, Envelope, Position, Record
    from millrace_pipeline.errors import (
        ConfigError,
        MillraceError,
        RecordError,
        RecordsRejected,
        RetryLater,
        SinkUnavailable,
        SourceRefused,
        SourceUnavailable,
    )
    from millrace_pipeline.flows.flow import load
    from millrace_producer.sources.base import Source
    from millrace_producer.writer import Writer

_HOMES = {
    "millrace.inline": ("run_inline",),
    "millrace_consumer.batch": ("Batch",),
    "millrace_consumer.readback": ("WHOLE", "Readback"),
    "millrace_consumer.reader": ("Message", "Reader"),
    "millrace_consumer.sinks.base": ("Sink",),
    "millrace_consumer.transforms": ("concurrent", "drop_canaries"),
    "millrace_pipeline.envelope": ("DeadLetter", "Envelope", "Position", "Record"),
    "millrace_pipeline.errors": (
        "ConfigError",
        "MillraceError",
        "RecordError",
        "RecordsRejected",
        "RetryLater",
        "SinkUnavailable",
        "SourceRefused",
        "SourceUnavailable",
    ),
    "millrace_pipeline.flows.flow": ("load",),
    "millrace_producer.sources.base": ("Source",),
    "millrace_producer.writer": ("Writer",),
}

__all__ = [
    "WHOLE",
    "Batch",
    "ConfigError",
    "DeadLetter",
    "Envelope",
    "Message",
    "MillraceError",
    "Position",
    "Readback",
    "Reader",
    "Record",
    "RecordError",
    "RecordsRejected",
    "RetryLater",
    "Sink",
    "SinkUnavailable",
    "Source",
    "SourceRefused",
    "SourceUnavailable",
    "Writer",
    "concurrent",
    "drop_canaries",
    "load",
    "reader",
    "run_inline",
    "writer",
]

__getattr__ = on_demand(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def reader(flow: str, *, name: str | None = None, until_empty: bool = False, flows: Path | str | None = None) -> Reader:
    """Return a `Reader` of this flow's messages, in place of its consumers.

    `name` and `until_empty` are the reader's. The flows file is `flows`, else the one that MILLRACE_FLOWS names, else
    `flows.yaml` here. Redis is the one that REDIS_URL names, else the embedded Valkey of this folder, where flows have
    run in it.

    Raises ConfigError for a flow that isn't there or is wrong, and for a list that is another project's.
    """
    from millrace.library import found
    from millrace_consumer.reader import Reader

    chosen, server = found(flow, flows)
    ours = server.kind == "embedded"
    try:
        made = Reader(chosen, server.url, name=name, until_empty=until_empty, take_over=ours, parting=server.close)
        return made.open()
    except BaseException:
        server.close()
        raise


def writer(flow: str, *, flows: Path | str | None = None) -> Writer:
    """Return a `Writer` to this flow's list, in place of its producer, or beside it.

    Redis and the flows file are found, and ConfigError is raised, as by `reader`.
    """
    from millrace.library import found
    from millrace_producer.writer import Writer

    chosen, server = found(flow, flows)
    try:
        made = Writer(chosen, server.url, take_over=server.kind == "embedded", parting=server.close)
        return made.open()
    except BaseException:
        server.close()
        raise
