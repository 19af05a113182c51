"""A sink that notes when each record came."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import Field, PrivateAttr

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import Sink


class ArrivalSink(Sink):
    """Once, to look at: notes the moment at which each batch came, and writes a line a record when it is closed."""

    path: Path = Field(description="The file to write: the moment and the record, a tab between them.")

    _came: list[tuple[float, list[bytes]]] = PrivateAttr(default_factory=list)

    def write(self, batch: Batch) -> None:
        """Keeps the batch in memory."""
        lines = batch.lines
        self._came.append((time.monotonic(), lines))

    def close(self) -> None:
        """Writes the file."""
        with self.path.open("wb") as file:
            for moment, lines in self._came:
                file.writelines(b"%r\t%s\n" % (moment, line) for line in lines)
