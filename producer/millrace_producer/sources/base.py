"""What a source is."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator

from millrace_pipeline.envelope import DeadLetter, Position, Record
from millrace_pipeline.errors import SourceRefused, SourceUnavailable
from millrace_pipeline.extras import Extra, need_for
from millrace_pipeline.flows.flow import Flow

__all__ = ["DeadLetter", "Position", "Record", "Source", "SourceRefused", "SourceUnavailable"]


class Source(BaseModel, ABC):
    """A place that records are read from. Its fields are its options in `flows.yaml`, its docstring their help.

    The runner calls `read` in a thread of its own and does all the rest: it batches what comes, publishes it with the
    last record's position as the checkpoint, holds back when the queue is full (the generator is simply not advanced),
    and calls `read` again, with backoff, when it fails.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: ClassVar[str] = ""
    """What it reads, in a few words: README.md shows sources of the same words together."""

    extra: ClassVar[Extra | None] = None
    """The extra that it takes, without which it can't be made."""

    @model_validator(mode="before")
    @classmethod
    def _has_its_extra(cls, options: Any) -> Any:
        """Raises ConfigError, before options are looked at with the library's help."""
        need_for(cls, "source", cls.extra)
        return options

    exclusive: ClassVar[bool] = False
    """True where two producers reading at once would publish everything twice: then one leads, others stand by."""

    redelivers: ClassVar[bool] = False
    """True where what was published may come again, under the same key: then its flow has dedupe by default."""

    acknowledges_data: ClassVar[bool] = True
    """False where `published` goes by less than the data of its records: then they come to it with None instead.

    They wait for Redis' disk for a second or three. Where their data waits with them it soon fills the memory that
    there is for it, and then the source waits too. For sources that make a new record each time.
    """

    pushed_by_others: ClassVar[bool] = False
    """True where others push onto the flow's list: it has no producer, and `read` is never called."""

    def for_model(self, model: type[BaseModel] | None) -> Self:  # noqa: ARG002
        """Return the source as it is to be read for a flow with this model: what has no types may take them from it."""
        return self

    @property
    def read_together(self) -> bool:
        """True where several producers read it together, each a part of it: what one reads no other does."""
        return False

    def for_flow(self, flow: Flow, redis_url: str) -> Self:  # noqa: ARG002
        """Return the source as it is to be read for this flow, whose list is there: some speak to it themselves."""
        return self

    @property
    def ends(self) -> bool:
        """True where it comes to an end by itself: whoever runs it starts it again only if it failed."""
        return False

    @abstractmethod
    def read(self, resume_from: Position | None) -> Iterator[Record | DeadLetter]:
        """Yield records in order, blocking while there are none.

        `resume_from` is the position of the last record that is safely on the list, or None at the first start: yield
        what comes after it. Returning means that the source has come to its end. Yield a `DeadLetter` for input that
        is no record. The generator may be abandoned at any yield, and the process killed anywhere: keep no state that
        matters but the positions.

        Where Redis has lost what was published last, `read` is called again, from an earlier position, while an earlier
        generator may still block in a silent origin: nothing that it yields counts any more.

        Raises SourceUnavailable when it can't be read now (it is called again after a while), SourceRefused when
        trying again won't help. Any other exception counts as SourceUnavailable, and its traceback is logged.
        """

    @property
    def ordered(self) -> bool:
        """True where each record has a position, and `is_behind` tells which of two comes first.

        A flow with partitions needs that.
        """
        return False

    def is_behind(self, position: Position, checkpoint: Position) -> bool:
        """Return True where the record at this position was given before `read(checkpoint)` begins.

        For a source that is `ordered`.
        """
        raise NotImplementedError

    def describe(self, position: Position) -> str:
        """Return in words where a read from this position begins: `after the event 7`, for people who look or move it.

        Raises SourceRefused for what it can't be read from, also where the source has no positions.
        """
        return f"after {json.dumps(position, ensure_ascii=False)}"

    def check(self) -> None:
        """Look at the options, when a flow is checked and before a producer begins. Raises ConfigError to refuse them.

        For what can be known on this machine: a file, a folder, a spider that isn't there. Asks no network, changes
        nothing, and is quick.
        """

    def probe(self) -> str | None:
        """Connect as `read` would, take nothing, and return what answered, for `millrace check --connect`.

        None where it can't be tried without taking something. Raises SourceUnavailable, SourceRefused or whatever
        happens.
        """
        return None

    def pointers(self) -> tuple[str | None, str | None]:
        """Return where in a record its key and its time stand, as far as the options name a place."""
        return None, None

    def sample(self, text: bytes) -> Record | DeadLetter:
        """Return the record that the source would yield of this JSON, with its key and time: for `millrace test`."""
        return Record(text)

    def published(self, records: Sequence[Record | DeadLetter]) -> None:
        """Acknowledge records where they came from, for a source that has to.

        Called when what `read` yielded is on the list, and on Redis' disk as the flow's `queue.fsync` says. From one
        thread, which isn't that of `read`, in order, once for every publish, with the very objects that were yielded,
        so that a subclass of `Record` or `DeadLetter` can carry a receipt; `acknowledges_data` says whether they still
        have their data. What dedupe left out is among them. What is raised here is a failure of the source: `read`
        begins again, and what was published but not acknowledged comes again.

        Before a `read` that is given up in good order is closed, everything that it yielded has been through here.
        """

    def close(self) -> None:
        """Give back what others wait for (a membership, what was taken and not yielded).

        Called once when the producer stops. `read` may still block in its own thread; no record of it counts any more.
        Not waited for longer than a second.
        """
