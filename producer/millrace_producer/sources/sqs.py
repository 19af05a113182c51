"""SQS: a queue of Amazon's, or of anything that speaks its protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pydantic import PrivateAttr

from millrace_producer.sources.base import DeadLetter, Position, Record, SourceRefused
from millrace_producer.sources.sqsoptions import SqsOptions

if TYPE_CHECKING:
    from millrace_producer.sources.sqsqueue import SqsQueue


class SqsSource(SqsOptions):
    """Receives messages from an SQS queue.

    A message is deleted once it is on the list, and hidden from others until then: it may come again, and dedupe, on by
    default, leaves it out. Any number of producers may share a queue. A record's key is the message id, its time when
    the message was sent.
    """

    _queue: list[SqsQueue] = PrivateAttr(default_factory=list)

    @property
    def ends(self) -> bool:
        """See `Source.ends`."""
        return self.until_empty

    def probe(self) -> str | None:
        """See `Source.probe`."""
        from millrace_producer.sources.sqsqueue import SqsQueue

        queue = SqsQueue(self)
        try:
            return queue.described()
        finally:
            queue.close()

    def describe(self, position: Position) -> str:  # noqa: ARG002
        """See `Source.describe`: there are none."""
        raise SourceRefused("a queue has no positions: it gives what was not acknowledged")

    def read(self, resume_from: Position | None) -> Iterator[Record | DeadLetter]:  # noqa: ARG002 - a queue has none
        """See `Source.read`."""
        from millrace_producer.sources.sqsqueue import SqsQueue

        self.close()  # what an earlier reading gave and nobody published is to come again
        queue = SqsQueue(self)
        self._queue.append(queue)
        yield from queue.records()

    def published(self, records: Sequence[Record | DeadLetter]) -> None:
        """Deletes the messages."""
        for queue in self._queue:
            queue.delete(records)

    def close(self) -> None:
        """Lets others have at once what we hold."""
        queues, self._queue[:] = self._queue[:], []
        for queue in queues:
            queue.close()
