"""Logs: one event name per thing that happens; pretty on a terminal, JSON lines otherwise."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, TextIO, cast

import structlog

from millrace_pipeline.process.ending import sentence_of

Style = Literal["auto", "json", "pretty"]

FOLDED_SECONDS = 5.0
"""For people, a flow's batches are told of so often: a line a batch would scroll everything else away."""


def configure(style: Style = "auto", level: str = "info", **always: str) -> None:
    """Sends what structlog and the standard library log to standard error. `always` goes into every line.

    Tracebacks come without the values of variables: these may be records or passwords. Where nobody reads any more,
    lines are lost and the work goes on.
    """

    global _bound
    _bound = always

    def add_always(
        _logger: structlog.types.WrappedLogger, _method: str, event: structlog.types.EventDict
    ) -> structlog.types.EventDict:
        return {**always, **event}

    pretty = is_pretty(style)
    shared: list[structlog.types.Processor] = [
        add_always,  # context variables would not do: they don't reach threads
        _add_tags,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if pretty else "iso", utc=not pretty),
    ]
    number = logging.getLevelNamesMapping()[level.upper()]
    folded = [] if number <= logging.DEBUG else [FoldedBatches()]
    final: list[structlog.types.Processor] = (
        [*folded, _ForPeople()]
        if pretty
        else [
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ]
    )
    structlog.configure(
        processors=[*shared, structlog.processors.StackInfoRenderer(), *final],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Unread(sys.stderr))),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(number, logging.WARNING))


_bound: dict[str, str] = {}
"""What goes into every line, as it was configured last."""

LAST_WORDS = "command_failed"
"""The event that says why a service ends, where it has no other."""


def say_last_words(style: Style, service: str, reason: str, *, error: Exception | None = None, **fields: Any) -> None:
    """Log why a service ends, as an event of its own; with the traceback of the `error`, where one is given.

    For one that failed before it configured its log, this does.
    """
    if "service" not in _bound:
        configure(style, service=service)
    structlog.get_logger(__name__).error(LAST_WORDS, reason=reason, exc_info=error, **fields)


_tags: list[Callable[[], dict[str, str]]] = []


def tag_with(tags: Callable[[], dict[str, str]]) -> None:
    """Put into every line what this returns when it is logged, from the thread that logs it."""
    _tags[:] = [tags]


def _add_tags(
    _logger: structlog.types.WrappedLogger, _method: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    for tags in _tags:
        event.update(tags())
    return event


def is_pretty(style: Style) -> bool:
    """Return True where what is logged is for people: when told so, else where standard error is a terminal."""
    return style == "pretty" or (style == "auto" and sys.stderr.isatty())


def _for_people() -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), pad_event_to=24, exception_formatter=structlog.dev.plain_traceback
    )


class _ForPeople:
    """Renders an event as a line; one that says that a flow is done as a sentence."""

    def __init__(self) -> None:
        self._render = _for_people()

    def __call__(self, logger: structlog.types.WrappedLogger, method: str, event: structlog.types.EventDict) -> str:
        return sentence_of(event) or str(self._render(logger, method, event))


class FoldedBatches:
    """Makes one line every few seconds of a flow's `batch_delivered`; the first is told at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}
        self._counts: dict[str, dict[str, int]] = {}

    def __call__(
        self, _logger: structlog.types.WrappedLogger, _method: str, event: structlog.types.EventDict
    ) -> structlog.types.EventDict:
        if event.get("event") != "batch_delivered":
            return event
        with self._lock:
            flow, now = str(event.get("flow")), self._clock()
            counts = self._counts.setdefault(flow, {"batches": 0, "records": 0, "filtered": 0, "dead": 0})
            counts["batches"] += 1
            for name in ("records", "filtered", "dead"):
                counts[name] += int(event.get(name, 0))
            seconds = now - self._since.get(flow, now - FOLDED_SECONDS)
            if seconds < FOLDED_SECONDS:
                raise structlog.DropEvent
            told: dict[str, Any] = {"flow": flow, **{name: count for name, count in counts.items() if count}}
            if flow in self._since:
                told["a_second"] = round(counts["records"] / seconds)
            self._since[flow], self._counts[flow] = now, dict.fromkeys(counts, 0)
        kept = {name: event[name] for name in ("service", "level", "timestamp") if name in event}
        return {**kept, "event": "batches_delivered", **told}


class Lines:
    """Renders events that were logged as JSON by other processes, for people; at level debug each batch."""

    def __init__(self, level: str = "info") -> None:
        self._fold = None if level.lower() == "debug" else FoldedBatches()
        self._render = _for_people()

    def line(self, event: dict[str, Any]) -> str | None:
        """Return the event as a line; None where it is folded into a later one."""
        if event.get("event") == LAST_WORDS and "exception" not in event:
            return str(event.get("reason"))
        stamp = event.get("timestamp")
        try:
            event = dict(self._fold(None, "", event) if self._fold else event)
        except structlog.DropEvent:
            return None
        event.pop("service", None)
        if isinstance(stamp, str) and len(stamp) > 19:
            event["timestamp"] = stamp[11:19]
        if isinstance(event.get("exception"), list):  # a traceback as JSON has it
            event["exception"] = "".join(
                f"{part.get('exc_type')}: {part.get('exc_value')}"
                for part in event["exception"]
                if isinstance(part, dict)
            )
        return str(self._render(None, "", event))


def stay_quiet() -> None:
    """For a program of somebody else's: warnings and worse on standard error, unless it has configured structlog."""
    if not structlog.is_configured():
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Unread(sys.stderr))),
        )


class _Unread:
    """A stream whose reader may go away: the pipe to a supervisor that was killed must not stop who logs that."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()
