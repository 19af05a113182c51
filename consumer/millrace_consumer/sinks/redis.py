"""Another list of Redis, a stream, or a hash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, model_validator

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import Command, RecordsRejected, Sink, SinkUnavailable
from millrace_consumer.sinks.namedfield import NamedField
from millrace_pipeline.errors import ConfigError, QueueError, QueueMisuse
from millrace_pipeline.flows.units import Duration
from millrace_pipeline.killpoints import killpoint
from millrace_pipeline.mark import unmarked
from millrace_pipeline.redis.remote import RemoteRedis

RECORDS_A_COMMAND = 500
"""A script can hand a command no more than a few thousand words."""


class RedisSink(Sink):
    """Exactly once: in the ack's own step, or on another server in one step with a note of the batch's id.

    A list takes records at its head, as Millrace's own lists do; a stream takes an entry a record; a hash keeps the
    last record of each name.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    about: ClassVar[str] = "on to the next"
    guarantee: ClassVar[str] = "exactly once; on another server for as long as `remember` says"
    guaranteed_by: ClassVar[str] = (
        "it is written in the ack's own step; on another server, a note of the batch's id in the same step"
    )

    key: str = Field(min_length=1, description="The name of the list, stream or hash.")
    into: Literal["list", "stream", "hash"] = Field("list", description="What it is.")
    name: str | None = Field(
        None,
        min_length=1,
        description="Hash: field or JSON pointer of a record's name in it. Default: the record's id.",
    )
    envelope: bool = Field(
        False, description="Write whole CloudEvents envelopes, with id, source, type and time, not only their data."
    )
    max_length: int | None = Field(None, ge=1, description="Stream: about so many entries are kept, the oldest go.")
    url: SecretStr | None = Field(
        None, description="Another server. Default: the queue's own, which writes in the ack's step."
    )
    remember: Annotated[Duration, Field(ge=60)] = Field(
        7 * 86_400, description="Another server: how long it remembers which batches it has."
    )

    _remote: RemoteRedis | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _options_fit(self) -> RedisSink:
        if self.max_length is not None and self.into != "stream":
            raise ValueError("max_length is for a stream")
        if self.name is not None and self.into != "hash":
            raise ValueError("name is for a hash")
        return self

    @property
    def writes_in_ack(self) -> bool:
        """Whether it writes to the queue's own server."""
        return self.url is None

    def check(self, model: type[BaseModel] | None) -> None:  # noqa: ARG002 - it takes any record
        """Refuses a URL that is none."""
        if self.url is not None:
            self._server()

    def probe(self) -> str | None:
        """See `Sink.probe`."""
        if self.url is None:
            return "the queue's own Redis: see above"
        try:
            found = self._server().kind()
        except QueueError as error:
            raise SinkUnavailable(_about_url(error)) from None
        finally:
            self.close()
        if found not in (self.into, "none"):
            raise SinkUnavailable(f"key {self.key} is a {found} there, not a {self.into}")
        return f"it answers; {self.key} is {'not there yet' if found == 'none' else f'a {found}'}"

    def write(self, batch: Batch) -> None:
        """Writes to another server. For the queue's own it only sees that every record can be written."""
        if not len(batch):
            return
        commands = list(self._commands(batch))
        if self.url is None:
            return
        killpoint("sink.before_write")
        try:
            self._server().write_once(batch.id, commands, remember_seconds=self.remember)
        except QueueError as error:
            raise SinkUnavailable(_about_url(error)) from error
        killpoint("sink.after_write")

    def ack_commands(self, batch: Batch) -> Sequence[Command]:
        """The batch's commands, where they are for the queue's own server."""
        return list(self._commands(batch)) if self.url is None and len(batch) else ()

    def has_batch(self, batch_id: str) -> bool:
        """Whether another server has it. The queue's own has no batch that wasn't acked."""
        try:
            return self.url is not None and self._server().has(batch_id)
        except QueueError as error:
            raise SinkUnavailable(_about_url(error)) from error

    def close(self) -> None:
        """Ends the connection."""
        if self._remote is not None:
            self._remote.close()

    def _server(self) -> RemoteRedis:
        if self._remote is None:
            assert self.url is not None
            try:
                self._remote = RemoteRedis(self.url.get_secret_value(), self.key)
            except QueueMisuse as error:
                raise ConfigError(_about_url(error)) from None
        return self._remote

    def _commands(self, batch: Batch) -> Iterator[Command]:
        lines = batch.envelope_lines if self.envelope else batch.lines
        if self.into == "list":
            if self.envelope:  # where the list has the name of ours, on another server, they are foreign all the same
                lines = [unmarked(line, self.key) for line in lines]
            for first in range(0, len(lines), RECORDS_A_COMMAND):
                yield ("LPUSH", self.key, *lines[first : first + RECORDS_A_COMMAND])
        elif self.into == "hash":
            words = [word for pair in zip(self._names(batch), lines, strict=True) for word in pair]
            for first in range(0, len(words), 2 * RECORDS_A_COMMAND):
                yield ("HSET", self.key, *words[first : first + 2 * RECORDS_A_COMMAND])
        else:
            trim = () if self.max_length is None else ("MAXLEN", "~", self.max_length)
            for envelope, line in zip(batch.envelopes, lines, strict=True):
                yield ("XADD", self.key, *trim, "*", "id", envelope.id, "data", line)

    def _names(self, batch: Batch) -> list[str]:
        if self.name is None:
            return [envelope.id for envelope in batch.envelopes]
        field = NamedField("name", self.name)
        found = [field.of(record) for record in batch.records]
        bad = {
            index: f"no text or number at {self.name} to name it by"
            for index, name in enumerate(found)
            if isinstance(name, bool) or not isinstance(name, str | int | float)
        }
        if bad:
            raise RecordsRejected(bad)
        return [str(name) for name in found]


def _about_url(error: QueueError) -> str:
    """What the queue's words say of REDIS_URL, said of this sink's `url`."""
    return str(error).replace("REDIS_URL", "url")
