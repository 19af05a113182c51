"""Readers: how the output of each kind of sink is read again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Protocol

from pydantic import BaseModel

from millrace_consumer.readback import Found, Readback
from millrace_consumer.sinks.base import Sink
from millrace_consumer.sinks.files import FileSink
from millrace_consumer.sinks.sql import SqlSink
from millrace_consumer.tablereadback import TableReadback
from millrace_pipeline.errors import ConfigError


class Reader(Protocol):
    """The output of one sink."""

    def read(self) -> Found:
        """All there is, at one instant. Raises SinkUnavailable where the sink's place can't be reached."""

    def identities(self) -> Iterator[str]:
        """What identifies each record; of what is damaged as far as it can be read."""


def reader_of(sink: Sink, *, model: type[BaseModel] | None = None, key: str | None = None) -> Reader:
    """How to read this sink's output. `key` is the JSON pointer of what names a record in its source.

    Raises ConfigError, whose message says why, where it can't be read again.
    """
    if isinstance(sink, FileSink):
        return Readback(sink, model=model, key=key)
    if isinstance(sink, SqlSink):
        return TableReadback(sink, model=model, key=key)
    if "millrace_consumer.sinks.delta" in sys.modules:  # else it is none, and nobody loads its libraries for that
        from millrace_consumer.deltareadback import DeltaReadback
        from millrace_consumer.sinks.delta import DeltaSink

        if isinstance(sink, DeltaSink):
            return DeltaReadback(sink, model=model, key=key)
    raise ConfigError("it has no files or tables to read again")
