"""What `millrace run` shows: every service's lines behind its name, and on a terminal a table that stays."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from millrace.cli.books import read_books
from millrace.cli.running import RunningFlow
from millrace_pipeline.errors import QueueError
from millrace_pipeline.process import logs
from millrace_pipeline.process.settings import Settings
from millrace_pipeline.process.supervisor import Child

SHOW_SECONDS = 1.0
RATE_SECONDS = 10.0
"""What "a second" is measured over."""

NAME_WIDTH = 20


class Screen:
    """Prints a service's line behind its name, a line at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def say(self, name: str, line: str) -> None:
        """A line that a service printed. Called from several threads."""
        with self._lock:
            sys.stderr.write(f"{name:<{NAME_WIDTH}} │ {line}\n")
            sys.stderr.flush()

    def show(self, running: Sequence[RunningFlow], *, last: bool = False) -> None:
        """How the flows are, for those who look on."""


class TableScreen(Screen):
    """The lines, and below them a table: a row a flow, with its services, its books and its rate."""

    def __init__(self, live: Live, settings: Settings) -> None:
        super().__init__()
        self._live = live
        self._settings = settings
        self._shown_at = 0.0
        self._delivered: dict[str, deque[tuple[float, int]]] = {}

    def show(self, running: Sequence[RunningFlow], *, last: bool = False) -> None:
        """Draws the table anew, once a second."""
        now = time.monotonic()
        if last or now - self._shown_at >= SHOW_SECONDS:
            self._shown_at = now
            self._live.update(self._table(running, now), refresh=True)

    def _table(self, running: Sequence[RunningFlow], now: float) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("flow", "producer", "consumers"):
            table.add_column(column, no_wrap=True)
        for column in ("ready", "in flight", "dead", "published", "delivered", "a second"):
            table.add_column(column, justify="right", min_width=len(column))
        for flow in running:
            states = Counter(map(_styled, flow.consumers))
            consumers = ", ".join(f"{count} × {state}" if count > 1 else state for state, count in states.items())
            table.add_row(flow.flow.name, _styled(flow.producer), consumers, *self._counts(flow, now))
        return table

    def _counts(self, flow: RunningFlow, now: float) -> list[str]:
        try:
            books = read_books(self._settings, flow.flow)
        except QueueError:
            return ["[red]Redis doesn't answer[/red]"]
        seen = self._delivered.setdefault(flow.flow.name, deque())
        seen.append((now, books.delivered))
        while now - seen[0][0] > RATE_SECONDS:
            seen.popleft()
        seconds = now - seen[0][0]
        rate = (books.delivered - seen[0][1]) / seconds if seconds else 0.0
        counts = (books.ready, books.in_flight, books.dead, books.published + books.foreign, books.delivered)
        return [*(f"{count:,}" for count in counts), f"{rate:,.0f}"]


def _styled(child: Child) -> str:
    colour = {"runs": "green", "given up": "red", "ended": "dim", "stopping": "dim"}.get(child.state, "yellow")
    return f"[{colour}]{child.state}[/{colour}]"


@contextlib.contextmanager
def screen_for(settings: Settings, *, table: bool) -> Iterator[Screen]:
    """What to show things on: with a table on a terminal."""
    if not table:
        yield Screen()
        return
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with Live(Text(), console=console, auto_refresh=False, redirect_stdout=False) as live:
        # What is written to standard error goes above the table from here on: so must our own log.
        logs.configure(settings.log, settings.log_level, service="run")
        yield TableScreen(live, settings)
    logs.configure(settings.log, settings.log_level, service="run")
