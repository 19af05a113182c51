"""Every error that Millrace raises on purpose.

MillraceError
├── ConfigError            a flow, setting or option is wrong: names the place and the mend
├── EnvelopeError          bytes that are not a record; becomes a dead letter
├── RecordError            a record that Millrace can't put on the wire or fit to its model
├── RetryLater             raised by a transform: this record can't be had now, try it again after so many seconds
├── AuthUnavailable        what says who asks can't be had now: a function that signs has failed
├── AuthRefused            no token is given, and asking again won't help
├── QueueError
│   ├── QueueUnavailable   Redis can't be reached, or can't take writes now: the same call may work later
│   ├── QueueFull          Redis is at maxmemory: producers hold back until consumers have drained it
│   ├── QueueMisuse        Redis answered that the request itself is wrong (a key of another type, no permission)
│   ├── LeaseLost          someone else holds the batch now: drop it, write nothing more
│   ├── FlowPaused         a person has paused the producers: nothing was published, call again later
│   ├── CheckpointMoved    a person has set the source's checkpoint: read on from there
│   ├── PublishesLost      Redis came back without publishes it had acknowledged: read on from its checkpoint
│   └── ProducerFenced     another producer has taken over this source: stop
├── SourceError
│   ├── SourceUnavailable  try again after a while (`retry_after` seconds, where the source said so)
│   └── SourceRefused      trying again won't help: a 404, a wrong content type, a spider that doesn't exist
├── SinkError
│   ├── SinkUnavailable    try the same batch again after a while (`retry_after`): no record is to blame
│   └── RecordsRejected    these records can't be written, the others can: `reasons` by index
└── StackError             docker compose said no
"""

from __future__ import annotations

from collections.abc import Mapping

LONGEST_DELAY_SECONDS = 31 * 24 * 3600


class MillraceError(Exception):
    """The root: `except MillraceError` catches all that is raised on purpose."""


class ConfigError(MillraceError):
    """A flow, setting or option is wrong. The message names the place and how to mend it."""


class EnvelopeError(MillraceError):
    """These bytes are not a record. The message is the dead letter's reason."""


class RecordError(MillraceError):
    """A record can't be written as JSON, or doesn't fit its model."""


class RetryLater(MillraceError):
    """Raise it in a transform for a record that can't be transformed now: a lookup that is down, or asks to wait.

    The record is put off for at least so many seconds, to a month, and then tried again, `max_attempts` times in all;
    the others of its batch are delivered. `reason` tells people what it waits for.
    """

    def __init__(self, seconds: float, reason: str = "") -> None:
        if not 0 <= seconds <= LONGEST_DELAY_SECONDS:
            raise ValueError(f"RetryLater: expected 0 to {LONGEST_DELAY_SECONDS:,} seconds, not {seconds}")
        super().__init__(reason or f"again after {seconds:g} s")
        self.seconds = seconds


class AuthUnavailable(MillraceError):
    """A request can't say now who asks: the function that signs it failed."""


class AuthRefused(MillraceError):
    """A request can't say who asks, and won't: no token is given, or a function signs nothing."""


class QueueError(MillraceError):
    """Something about the queue."""


class QueueUnavailable(QueueError):
    """Redis can't be reached, is loading, read-only or can't persist: the same call may work later."""


class QueueFull(QueueError):
    """Redis is at `maxmemory`, so nothing was published; it will take records again once consumers have drained it."""


class QueueMisuse(QueueError):
    """Redis refused the request itself: a key holds another type, a permission is missing."""


class LeaseLost(QueueError):
    """The lease on a batch ran out and the batch belongs to another consumer (or is done). Write nothing more of it."""


class FlowPaused(QueueError):
    """A person has paused the flow's producers, so nothing was published; the same call works once they go on."""


class CheckpointMoved(QueueError):
    """A person has set the source's checkpoint: what was read from elsewhere is not published; read on from there."""


class PublishesLost(QueueError):
    """Redis came back without publishes that it had acknowledged: its file lost its tail, or all, or it was flushed.

    Its checkpoints went with them, so a source that can go back is to be read again from there.
    """


class ProducerFenced(QueueError):
    """Another producer took over this source; what this one still holds must not be published."""


class SourceError(MillraceError):
    """Something about a source."""


class SourceUnavailable(SourceError):
    """The source can't be read now. `retry_after` is in seconds where the source asked for a wait.

    `worked` says that it could be read before that, though there may have been nothing new: the failure is the first in
    a row.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, worked: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.worked = worked


class SourceRefused(SourceError):
    """The source said no in a way that trying again won't change."""


class SinkError(MillraceError):
    """Something about a sink."""


class SinkUnavailable(SinkError):
    """The sink can't take the batch now; no record is to blame, and the same batch is offered again later.

    `retry_after` is in seconds where the destination asked for a wait.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RecordsRejected(SinkError):
    """Some records of a batch can't be written. Nothing of the batch was written yet; the rest is offered again.

    `reasons` maps a record's index in `batch.records` to why.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"{len(reasons)} records rejected: {next(iter(reasons.values()), '')}")
        self.reasons = dict(reasons)


class StackError(MillraceError):
    """docker compose could not do what was asked."""
