"""Trouble: that a source can't be read, told by whoever tries again to whoever runs it, and by that to all who look.

A source that waits and asks again by itself says so with `tell`, and `over` once it is answered again. One that raises
SourceUnavailable need not: its runner says it.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

import structlog

from millrace_pipeline.errors import QueueError
from millrace_pipeline.process.repeats import repeats

if TYPE_CHECKING:
    from millrace_pipeline.queue import Session

log = structlog.get_logger(__name__)


class Trouble:
    """What keeps one reading of a source from giving anything: `reason`, or None while it gives."""

    def __init__(self, flow: str, queue: Session) -> None:
        self.reason: str | None = None
        self._flow = flow
        self._queue = queue
        self._since: int | None = None
        self._told = threading.Lock()

    def listen(self) -> None:
        """Be told of by what the source does in this thread from now on."""
        _listening.set(self)

    def tell(self, reason: str) -> None:
        """It can't be read now."""
        from millrace_pipeline.queue.troubles import tell_trouble

        with self._told:
            self.reason = reason
            try:
                self._since = tell_trouble(self._queue, reason, self._since)
            except QueueError as error:  # nothing is published either, or it is only that nobody sees it
                repeats.warn("trouble_not_told", kind=self._flow, flow=self._flow, reason=str(error))

    def over(self) -> None:
        """It answers again, or has come to its end."""
        with self._told:
            if self.reason is None:
                return
            self.reason = self._since = None
            log.info("source_resumed", flow=self._flow)
            self._forget()

    def begin(self) -> None:
        """Forget what another reading has told."""
        self._forget()

    def _forget(self) -> None:
        from millrace_pipeline.queue.troubles import end_trouble

        try:
            end_trouble(self._queue)
        except QueueError as error:
            repeats.warn("trouble_not_told", kind=self._flow, flow=self._flow, reason=str(error))


_listening: ContextVar[Trouble | None] = ContextVar("_listening", default=None)


def tell(reason: str) -> None:
    """Say that the source that is read in this thread can't be read now, and why, without secrets."""
    if (trouble := _listening.get()) is not None:
        trouble.tell(reason)


def over() -> None:
    """Say that it answers again, whether or not there is anything new."""
    if (trouble := _listening.get()) is not None and trouble.reason is not None:
        trouble.over()
