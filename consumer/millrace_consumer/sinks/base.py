"""What a sink is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

from pydantic import BaseModel, ConfigDict, model_validator

from millrace_consumer.batch import Batch
from millrace_consumer.readback import Readback
from millrace_pipeline.errors import ConfigError, RecordsRejected, SinkUnavailable
from millrace_pipeline.extras import Extra, need_for

__all__ = ["Batch", "Command", "RecordsRejected", "Sink", "SinkUnavailable"]

Command: TypeAlias = tuple[Any, ...]
"""A command to Redis: its name, its key, its arguments."""


class Sink(BaseModel, ABC):
    """A place that batches are written to. Its fields are its options in `flows.yaml`, its docstring their help."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: ClassVar[str] = ""
    """What it writes to, in a few words: README.md shows sinks of the same words together."""

    guarantee: ClassVar[str] = "at least once"
    """What it promises of a batch that is delivered again."""

    guaranteed_by: ClassVar[str] = ""
    """What that rests on."""

    extra: ClassVar[Extra | None] = None
    """The extra that it takes, without which it can't be made."""

    @model_validator(mode="before")
    @classmethod
    def _has_its_extra(cls, options: Any) -> Any:
        """Raises ConfigError, before options are looked at with the library's help."""
        need_for(cls, "sink", cls.extra)
        return options

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Write a batch. Returning means durable; the same `batch.id` again changes nothing.

        Called from one thread at a time. A batch comes again with the same id and the same records whenever the
        consumer that had it died, at any point, this call's last instruction included.

        Raises RecordsRejected, before anything is written, naming the records that can't be written: they become dead
        letters and the rest is offered again under the same id. Raises SinkUnavailable (an OSError counts as one) when
        no record is to blame: the same batch is offered again later.
        """

    @property
    def prefetch(self) -> Sequence[str]:
        """Names of the attributes of `Batch` that `write` is going to ask for.

        It is made while the batch before is still being written.
        """
        return ()

    @property
    def writes_in_ack(self) -> bool:
        """True where it writes to the queue's own Redis in the ack's step: see `ack_commands`."""
        return type(self).ack_commands is not Sink.ack_commands

    def ack_commands(self, batch: Batch) -> Sequence[Command]:  # noqa: ARG002 - most have nothing to say to Redis
        """Return the commands that the queue's own Redis carries out in the same step as the ack.

        Called after `write`, with the same batch. Each command is LPUSH, RPUSH, XADD or HSET, a key, and at most 1,000
        arguments. They are carried out with the ack or not at all, so once.
        """
        return ()

    def has_batch(self, batch_id: str) -> bool:  # noqa: ARG002 - this one can't tell
        """Return True if any output of this batch is there already, durable or half done.

        Asked before a batch that keeps killing its consumers is split: what is (partly) written under its id must not
        be written again under the halves' ids. A sink that can't tell says False.

        Raises SinkUnavailable if it can't be asked now; the batch then stays whole.
        """
        return False

    def read_back(self, *, model: type[BaseModel] | None = None, key: str | None = None) -> Readback:  # noqa: ARG002
        """Return its output, to be read again by `millrace verify --sink`.

        `model` is the flow's, `key` the JSON pointer of what names a record in its source. Raises ConfigError, saying
        why, where it can't be read.
        """
        raise ConfigError("it has no files or tables to read again")

    def check(self, model: type[BaseModel] | None) -> None:
        """Look at the flow's model, once, when a flow is checked or started. Raises ConfigError to refuse it.

        For what can be known on this machine. Asks no network, changes nothing, and is quick.
        """

    def doubt(self, model: type[BaseModel] | None) -> str | None:  # noqa: ARG002 - most have none
        """Return what is likely to be a mistake, though it may be right: `millrace check` warns of it.

        Called as `check` is. None where nothing is.
        """
        return None

    def probe(self) -> str | None:
        """Connect as `write` would, write nothing, and return what answered, for `millrace check --connect`.

        None where it can't be tried without writing something. Raises SinkUnavailable or whatever happens.
        """
        return None

    def close(self) -> None:
        """Give back what is open (a connection). Called once when the consumer stops, after the last write."""
