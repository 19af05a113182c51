"""Nothing."""

from __future__ import annotations

from typing import ClassVar

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import Sink


class NullSink(Sink):
    """Exactly once, as nothing is kept however often it comes: takes every batch and throws it away.

    For finding out how fast all before it is, and for draining a list that nobody wants.
    """

    about: ClassVar[str] = "to look, and for nothing"
    guarantee: ClassVar[str] = "exactly once, as nothing is kept"

    def write(self, batch: Batch) -> None:
        """Does nothing, and looks at no record."""
