"""Nothing that is read: others push onto the flow's list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from millrace_producer.sources.base import DeadLetter, Position, Record, Source, SourceRefused


class ExternalSource(Source):
    """Reads nothing: the flow only consumes what others push onto its list, such as Scrapy, redis-cli, a program.

    What was pushed is a record as it stands, a JSON object or a CloudEvent. `millrace run` starts no producer.
    """

    about: ClassVar[str] = "pushed by others"
    pushed_by_others: ClassVar[bool] = True

    def describe(self, position: Position) -> str:  # noqa: ARG002
        """See `Source.describe`: there are none."""
        raise SourceRefused("others push onto the list, and nothing is read")

    def read(self, resume_from: Position | None) -> Iterator[Record | DeadLetter]:  # noqa: ARG002
        """See `Source.read`. Raises SourceRefused: there is nothing to read."""
        raise SourceRefused("others push onto its list: there is nothing to read")

    def probe(self) -> str:
        """See `Source.probe`."""
        return "others push onto its list: there is nobody to ask"
