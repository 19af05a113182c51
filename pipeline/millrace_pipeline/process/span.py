"""Span: one publish or one try at a delivery, as tracing sees it; and what stands for it where nothing is traced."""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from millrace_pipeline.envelope import Envelope

if TYPE_CHECKING:
    from types import TracebackType

    from millrace_pipeline.queue.claim import Claim

Role = Literal["producer", "consumer"]

Outcome = Literal["published", "delivered", "delayed", "lost", "abandoned"]
"""How a span ended."""


CLOSE_SECONDS = 2.0
"""So long an ending process waits until its last spans are sent; a receiver that doesn't answer keeps nobody."""


class Span(Protocol):
    """One publish, or one try at a delivery."""

    def mark(self, lines: list[bytes], name: str) -> list[bytes]:
        """Return envelopes of the list of that name with this span in them."""

    def current(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which what is logged bears the span's ids."""

    def note(self, event: str, **attributes: str) -> None:
        """Take note of what happened meanwhile."""

    def end(self, outcome: Outcome, *, error: str | None = None, **numbers: float) -> None:
        """End the span, to be sent. One that is never ended is not sent."""

    def __enter__(self) -> Span:
        """Make the span current until the block ends; where that raises, it is the end of the span."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Traces(Protocol):
    """The spans of one flow."""

    def publish(self, records: int) -> Span:
        """Begin the span of a publish of so many records."""

    def deliver(self, claim: Claim, envelopes: Sequence[Envelope], began: int) -> Span:
        """Begin the span of a delivery that began then, in nanoseconds since 1970."""


class Untraced:
    """The span of what is not traced."""

    _nothing = contextlib.nullcontext()

    def mark(self, lines: list[bytes], name: str) -> list[bytes]:  # noqa: ARG002
        return lines

    def current(self) -> contextlib.AbstractContextManager[Any]:
        return self._nothing

    def note(self, event: str, **attributes: str) -> None: ...

    def end(self, outcome: Outcome, *, error: str | None = None, **numbers: float) -> None: ...

    def __enter__(self) -> Span:
        return self

    def __exit__(self, *_: object) -> None: ...


UNTRACED = Untraced()


class NoTraces:
    """The spans of a flow that is not traced."""

    def publish(self, records: int) -> Span:  # noqa: ARG002
        return UNTRACED

    def deliver(self, claim: Claim, envelopes: Sequence[Envelope], began: int) -> Span:  # noqa: ARG002
        return UNTRACED


NO_TRACES = NoTraces()


class _Ending(threading.Thread):
    """Does something at the end of the process. It waits in a thread for that: none can be started at that time."""

    def __init__(self, do: Callable[[], None]) -> None:
        super().__init__(name="send last spans", daemon=True)
        self.now = threading.Event()
        self._do = do

    def run(self) -> None:
        """Block until it is `now`."""
        self.now.wait()
        self._do()


_endings: list[_Ending] = []


def at_the_end(send: Callable[[], None]) -> None:
    """Have the last spans sent by this when the process ends."""
    if not _endings:
        atexit.register(close)
    _endings.append(_Ending(send))
    _endings[-1].start()


def close() -> None:
    """Send what is left of the spans of this process: it makes no more."""
    for ending in _endings:
        ending.now.set()
    for ending in _endings:
        ending.join(CLOSE_SECONDS)
