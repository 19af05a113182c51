"""Probing: try the sources and sinks of flows, take nothing, write nothing, and say what each answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from millrace_consumer.sinks import SINKS
from millrace_consumer.sinks.base import Sink
from millrace_pipeline.errors import ConfigError, MillraceError
from millrace_pipeline.flows.component import Component
from millrace_pipeline.flows.flow import Flow
from millrace_producer.sources import SOURCES
from millrace_producer.sources.base import Source

PROBE_SECONDS = 10.0
"""How long each may take to answer; all are asked at once."""


class Told(NamedTuple):
    """What one part of a flow answered; `none` where it wasn't tried."""

    flow: str
    part: str
    level: Literal["ok", "none", "error"]
    message: str


def probe_all(flows: Sequence[Flow]) -> Iterator[Told]:
    """Yield what each source and sink answers, in the flows' order."""
    asked = [_Asked(flow, part) for flow in flows for part in (flow.source, *flow.sink.each)]
    for one in asked:
        one.start()
    for one in asked:
        yield one.answer()


class _Asked:
    """One part that is being asked, in a thread of its own: nothing that hangs may hold up the others, or the end."""

    def __init__(self, flow: Flow, part: Component) -> None:
        self._flow = flow.name
        self._part = part
        self._kind = "source" if part is flow.source else "sink"
        self._found: tuple[Literal["ok", "none", "error"], str] | None = None
        self._thread = threading.Thread(target=self._ask, name=f"probe {self._flow} {part.type}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def answer(self) -> Told:
        self._thread.join(PROBE_SECONDS)
        level, message = self._found or ("error", f"no answer within {PROBE_SECONDS:g} s")
        return Told(self._flow, f"{self._kind} {self._part.type}", level, message)

    def _ask(self) -> None:
        try:
            said = self._probe()()
        except MillraceError as error:
            self._found = ("error", _one_line(error))
        except Exception as error:
            self._found = ("error", f"{type(error).__name__}: {_one_line(error)}")
        else:
            self._found = ("ok", said) if said else ("none", "not tried: that would take or write something")

    def _probe(self) -> Callable[[], str | None]:
        """Return what asks. Raises ConfigError, without the place in the file, which was checked before."""
        try:
            if self._kind == "source":
                return self._part.build(SOURCES, Source).probe
            return self._part.build(SINKS, Sink).probe
        except ConfigError as error:
            raise ConfigError(str(error).partition(": ")[2] or str(error)) from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
