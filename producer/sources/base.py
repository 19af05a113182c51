"""What a source is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from pipeline.envelope import DeadLetter, Position, Record
from pipeline.errors import SourceRefused, SourceUnavailable

__all__ = ["DeadLetter", "Position", "Record", "Source", "SourceRefused", "SourceUnavailable"]


class Source(BaseModel, ABC):
    """Reads one place. Its fields are its options in `flows.yaml`, its docstring their help.

    The runner calls `read` in a thread of its own and does all the rest: it batches what comes, publishes it with the
    last record's position as the checkpoint, holds back when the queue is full (the generator is simply not advanced),
    and calls `read` again, with backoff, when it fails.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    exclusive: ClassVar[bool] = False
    """True where two producers reading at once would publish everything twice: then one leads, others stand by."""

    @abstractmethod
    def read(self, resume_from: Position | None) -> Iterator[Record | DeadLetter]:
        """Yields records in order, blocking while there are none.

        `resume_from` is the position of the last record that is safely on the list, or None at the first start: yield
        what comes after it. Returning means that the source has come to its end. Yield a `DeadLetter` for input that
        is no record. The generator may be abandoned at any yield, and the process killed anywhere: keep no state that
        matters but the positions.

        Raises SourceUnavailable when it can't be read now (it is called again after a while), SourceRefused when
        trying again won't help. Any other exception counts as SourceUnavailable, and its traceback is logged.
        """
