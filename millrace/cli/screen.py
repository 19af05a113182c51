"""What `millrace run` shows: every service's lines behind its name, and on a terminal a table that stays."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from millrace.cli.books import read_books, read_crawl_progress, read_crawls, read_missing
from millrace.cli.running import RunningFlow
from millrace.equation import crawl_line, delays
from millrace.meter import Meter
from millrace_pipeline.errors import QueueError
from millrace_pipeline.process import logs
from millrace_pipeline.process.settings import Settings
from millrace_pipeline.process.supervisor import Child

SHOW_SECONDS = 1.0
NAME_WIDTH = 20

_OUTAGE = re.compile(r"sink unavailable since \S+ (\S+) UTC: (.*)", re.DOTALL)
"""A lease's note: its time and its reason."""


class Screen:
    """Passes on what services print: as lines of JSON, each with its service, for programs that read them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def say(self, name: str, line: str) -> None:
        """A line that a service printed. Called from several threads."""
        text = self._text(name, line)
        if text is not None:
            with self._lock:
                sys.stderr.write(text + "\n")
                sys.stderr.flush()

    def show(self, running: Sequence[RunningFlow], *, last: bool = False) -> None:
        """How the flows are, for those who look on."""

    def _text(self, name: str, line: str) -> str | None:
        if event_in(line) is not None:
            return line
        if not line.strip():
            return None
        # What a library or a transform prints is no line of JSON yet.
        event = {
            "service": name,
            "event": line,
            "level": "info",
            "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
        }
        return json.dumps(event, ensure_ascii=False)


class PrettyScreen(Screen):
    """The same for people: a service's line behind its name, and of a busy flow's batches one now and then."""

    def __init__(self, level: str) -> None:
        super().__init__()
        self._lines = logs.Lines(level)

    def _text(self, name: str, line: str) -> str | None:
        event = event_in(line)
        shown = line if event is None else self._lines.line(event)
        return None if shown is None else f"{name:<{NAME_WIDTH}} │ {shown}"


class TableScreen(PrettyScreen):
    """The lines, and below them a table: a row a flow, with its services, its books and its rate."""

    def __init__(self, live: Live, settings: Settings) -> None:
        super().__init__(settings.log_level)
        self._live = live
        self._settings = settings
        self._shown_at = 0.0
        self._meters: dict[str, Meter] = {}

    def show(self, running: Sequence[RunningFlow], *, last: bool = False) -> None:
        """Draws the table anew, once a second."""
        now = time.monotonic()
        if last or now - self._shown_at >= SHOW_SECONDS:
            self._shown_at = now
            self._live.update(self._table(running, now), refresh=True)

    def _table(self, running: Sequence[RunningFlow], now: float) -> Group:
        # At 80 columns all of it is seen: what is wrong stands below, a line each.
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("flow", "producer", "consumers"):
            table.add_column(column, overflow="ellipsis", no_wrap=True)
        for column in ("ready", "flight", "dead", "delivered", "/s"):
            table.add_column(column, justify="right", min_width=len(column), no_wrap=True)
        notes: list[Text] = []
        for flow in running:
            counts, waits = self._counts(flow, now)
            producers = _states(flow.producers) or "[dim]others[/dim]"
            table.add_row(flow.flow.name, producers, _states(flow.consumers), *counts)
            notes += [_note(f"{flow.flow.name}: {note}") for note in (*waits, *_troubles(flow, waits))]
        return Group(table, *notes)

    def _counts(self, flow: RunningFlow, now: float) -> tuple[list[str], list[str]]:
        """The numbers of its row, and what its consumers wait for."""
        try:
            books = read_books(self._settings, flow.flow)
            missing = read_missing(self._settings, flow.flow)
            progress = read_crawl_progress(self._settings, flow.flow) if flow.producers else None
            shared = read_crawls(self._settings, flow.flow)
        except QueueError:
            return [], ["Redis doesn't answer"]
        rate = self._meters.setdefault(flow.flow.name, Meter()).rate(now, books.delivered)
        counts = (books.ready, books.in_flight, books.dead, books.delivered)
        paused = [f"{part} {pause}" for part, pause in books.paused.items()]
        waits = [
            "waits: " + _OUTAGE.sub(r"\2 (since \1 UTC)", note)
            for note in dict.fromkeys(lease.note for lease in books.leases if not lease.delayed)
            if note
        ]
        waits += [
            f"sink {one.sink} takes nothing since {datetime.fromtimestamp(one.since):%H:%M:%S}, "
            f"and misses {one.records:,}: {one.reason}"
            for one in missing
        ]
        if words := delays(books):
            waits.append(words)
        crawls = [*([f"crawls: {progress}"] if progress else []), *map(crawl_line, shared)]
        return [*(f"{count:,}" for count in counts), f"{rate:,.0f}"], [*paused, *crawls, *waits]


def _note(text: str) -> Text:
    """A line below the table: folded where it is too long for the terminal, unlike those of the log."""
    return Text(text, style="yellow", no_wrap=False, overflow="fold")


def event_in(line: str) -> dict[str, Any] | None:
    """The event that a service logged as this line; None where it is no such line."""
    if not line.startswith("{"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event and "level" in event else None


def _troubles(flow: RunningFlow, told: Sequence[str]) -> Iterator[str]:
    for child in flow.services:
        restarts = f"started {child.starts} times" if child.starts > 1 else ""
        trouble = ""
        if child.trouble and not any(child.trouble in note for note in told):
            trouble = f"since {datetime.fromtimestamp(child.trouble_since):%H:%M:%S} {child.trouble}"
        if restarts or trouble:
            yield f"{child.name}: {', '.join(filter(None, (restarts, trouble)))}"


def _states(children: Sequence[Child]) -> str:
    """Return how these stand, each state once with how many are in it."""
    states = Counter(map(_styled, children))
    return ", ".join(f"{count} × {state}" if count > 1 else state for state, count in states.items())


def _styled(child: Child) -> str:
    state = "waits" if child.state == "runs" and child.trouble else child.state
    colour = {"runs": "green", "given up": "red", "ended": "dim", "stopping": "dim"}.get(state, "yellow")
    return f"[{colour}]{state}[/{colour}]"


@contextlib.contextmanager
def screen_for(settings: Settings) -> Iterator[Screen]:
    """What to show things on: with a table on a terminal, lines for people where the settings ask for these."""
    if not logs.is_pretty(settings.log):
        yield Screen()
        return
    if not sys.stderr.isatty():
        yield PrettyScreen(settings.log_level)
        return
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with Live(Text(), console=console, auto_refresh=False, redirect_stdout=False) as live:
        # What is written to standard error goes above the table from here on: so must our own log.
        logs.configure(settings.log, settings.log_level, service="run")
        yield TableScreen(live, settings)
    logs.configure(settings.log, settings.log_level, service="run")
