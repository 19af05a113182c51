"""Nothing."""

from __future__ import annotations

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import Sink


class NullSink(Sink):
    """Exactly once, as nothing is kept however often it comes: takes every batch and throws it away.

    For finding out how fast all before it is, and for draining a list that nobody wants.
    """

    def write(self, batch: Batch) -> None:
        """Does nothing, and looks at no record."""
