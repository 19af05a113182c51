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

Style = Literal["auto", "json", "pretty"]

FOLDED_SECONDS = 5.0
"""For people, a flow's batches are told of so often: a line a batch would scroll everything else away."""


def configure(style: Style = "auto", level: str = "info", **always: str) -> None:
    """Sends what structlog and the standard library log to standard error. `always` goes into every line.

    Tracebacks come without the values of variables: these may be records or passwords. Where nobody reads any more,
    lines are lost and the work goes on.
    """

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
    final: list[structlog.types.Processor] = (
        [FoldedBatches(), _for_people()]
        if pretty
        else [
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ]
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, structlog.processors.StackInfoRenderer(), *final],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Unread(sys.stderr))),
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
    """Renders events that were logged as JSON by other processes, for people."""

    def __init__(self) -> None:
        self._fold = FoldedBatches()
        self._render = _for_people()

    def line(self, event: dict[str, Any]) -> str | None:
        """Return the event as a line; None where it is folded into a later one."""
        stamp = event.get("timestamp")
        try:
            event = dict(self._fold(None, "", event))
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
            logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Unread(sys.stderr))),
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
