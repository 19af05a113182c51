"""Records on standard output."""

from __future__ import annotations

import os
import select
import sys
from typing import Annotated, ClassVar

from pydantic import Field, PrivateAttr

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import Sink, SinkUnavailable
from millrace_pipeline.killpoints import killpoint

STANDARD_OUTPUT = 1


class StdoutSink(Sink):
    """At least once, since what was printed can't be taken back: a batch that is delivered again is printed again.

    One line of JSON a record, written through at once. For looking, and for pipes.
    """

    about: ClassVar[str] = "to look, and for nothing"

    envelope: Annotated[
        bool,
        Field(description="Write the whole CloudEvents envelope, with id, source, type and time, not only its data."),
    ] = False

    _torn: bool = PrivateAttr(default=False)
    """Whether the last write ended in the middle of a line."""

    def write(self, batch: Batch) -> None:
        """Prints the batch. Raises SinkUnavailable when the reader has gone or the disk behind it is full."""
        if not len(batch):
            return
        lines = batch.envelope_lines if self.envelope else batch.lines
        killpoint("sink.before_write")
        text = b"\n".join((*((b"",) if self._torn else ()), *lines, b""))
        written = 0
        try:
            sys.stdout.flush()
            # Not through sys.stdout: what it can't get rid of it would keep, and print before the next batch.
            while written < len(text):
                written += _write(memoryview(text)[written:])
        except OSError as error:
            if written:
                self._torn = text[written - 1 : written] != b"\n"
            raise SinkUnavailable(f"can't write to standard output: {error.strerror or error}") from error
        self._torn = False
        killpoint("sink.after_write")


def _write(text: memoryview) -> int:
    try:
        return os.write(STANDARD_OUTPUT, text)
    except BlockingIOError:  # a pipe that somebody else switched to non-blocking: wait for room
        select.select([], [STANDARD_OUTPUT], [])
        return 0
