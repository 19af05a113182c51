"""`millrace top`: all flows and their consumers, live, and what holds each of them up."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from millrace.cli.asked import Asked
from millrace.cli.columns import COLUMNS, WIDE, column_of, columns_for
from millrace.cli.flowsfile import FlowsOption, NamesArgument, choose_lists, settings_with
from millrace.cli.keyboard import keys
from millrace.cli.status import JsonOption
from millrace.cli.tables import console_for_all
from millrace.cli.topview import View, sentences_of, table_of
from millrace.observing import FlowSeen, Observer, as_dict
from millrace.server import without_secrets
from millrace_pipeline.errors import ConfigError, QueueUnavailable
from millrace_pipeline.flows.units import seconds
from millrace_pipeline.process.signals import on_signal

app = typer.Typer()

LEAST_SECONDS = 0.2


@app.command(epilog="Example: `millrace top --sort age --filter 'shop-*'`")
def top(
    names: NamesArgument = None,
    flows: FlowsOption = None,
    sort: Annotated[str, typer.Option(help=f"Sort by a column: {', '.join(COLUMNS)}.")] = "",
    backwards: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    pattern: Annotated[str, typer.Option("--filter", metavar="GLOB", help="Only flows of such a name: shop-*.")] = "*",
    columns: Annotated[str | None, typer.Option(help="These columns, with commas between them.")] = None,
    consumers: Annotated[bool, typer.Option("--consumers/--no-consumers", help="With a row for each consumer.")] = True,
    interval: Annotated[str, typer.Option(help="How long between two looks: 1s, 500ms.")] = "1s",
    once: Annotated[bool, typer.Option("--once", help="Look twice, print, and end; so it does in a pipe.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Shows all flows and their consumers as they work: what waits and for how long, rates, who writes, what is wrong.

    Below the table it names what holds each flow up: the sink, the source, the transforms, or that nobody consumes it.
    Keys: q ends it, s and S choose the column to sort by, r turns the order, c shows or hides consumers, / filters by
    name, arrows scroll. It changes nothing, and goes on when Redis was away.

    Exit codes: 0 shown; 2 the flow or the command is wrong; 4 with --once or --json, Redis doesn't answer.
    """
    settings = settings_with(flows)
    chosen = choose_lists(settings, names or [])
    wanted = [name.strip() for name in columns.split(",") if name.strip()] if columns is not None else None
    columns_for(wanted, 80)
    if sort:
        column_of(sort, "--sort")
    view = View(wanted, sort, backwards, pattern, consumers)
    pause = _seconds(interval)
    asked = Asked.of(settings)
    live = not (once or as_json) and sys.stdout.isatty()
    with contextlib.suppress(QueueUnavailable) if live else contextlib.nullcontext():
        asked.say_whose(chosen)
    observer = Observer(asked.server.url, chosen)
    where = without_secrets(asked.server.url)
    if live:
        _Live(observer, view, where, pause).run()
        return
    try:
        observer.look()
        time.sleep(pause)  # a rate takes two looks
        seen = observer.look()
    finally:
        observer.close()
    for one in seen:
        if one.unreachable:
            raise QueueUnavailable(one.unreachable)
    _print(view, seen, as_json=as_json)


def _print(view: View, seen: list[FlowSeen], *, as_json: bool) -> None:
    rows = view.rows(seen)
    in_order = [flow for flow, consumer in rows if consumer is None]
    if as_json:
        told = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "flows": list(map(as_dict, in_order))}
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
        return
    screen = console_for_all(soft_wrap=True)
    screen.print(table_of(columns_for(view.columns or WIDE, 200), rows))
    screen.print()
    for flow in in_order:
        for sentence in sentences_of(flow):
            screen.print(sentence, markup=False, highlight=False)


class _Live:
    """The page that stays: Redis is asked beside it, so that keys are heard while it doesn't answer."""

    def __init__(self, observer: Observer, view: View, where: str, pause: float) -> None:
        self._observer = observer
        self._view = view
        self._where = where
        self._pause = pause
        self._seen = observer.seen
        self._over = threading.Event()

    def run(self) -> None:
        on_signal(lambda _: self._over.set(), signal.SIGTERM, signal.SIGINT)
        looking = threading.Thread(target=self._look, name="top looks", daemon=True)
        looking.start()
        console = Console(highlight=False)
        with keys() as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
            while not self._over.is_set():
                width, height = console.size
                page = self._view.page(
                    self._seen, where=self._where, now=datetime.now().astimezone(), width=width, height=height
                )
                live.update(page, refresh=True)
                until = time.monotonic() + self._pause
                while (left := until - time.monotonic()) > 0 and not self._over.is_set():
                    if (key := keyboard.key(min(left, 0.25))) is not None:
                        self._over.set() if press(self._view, key) else None
                        break

    def _look(self) -> None:
        while not self._over.is_set():
            self._seen = self._observer.look()
            self._over.wait(self._pause)
        self._observer.close()


def press(view: View, key: str) -> bool:
    """Do what a key is for. True where that is to end."""
    if view.typing is not None:
        _type(view, key)
        return False
    if key == "q":
        return True
    order = ["", *COLUMNS]
    if key in ("s", "S"):
        step = 1 if key == "s" else -1
        view.sort = order[(order.index(view.sort) + step) % len(order)]
    elif key == "r":
        view.backwards = not view.backwards
    elif key == "c":
        view.consumers = not view.consumers
    elif key == "/":
        view.typing = "" if view.pattern == "*" else view.pattern
    elif key in ("up", "down", "page up", "page down", "home", "end"):
        moves = {"up": -1, "down": 1, "page up": -10, "page down": 10, "home": -(10**9), "end": 10**9}
        view.first = max(0, view.first + moves[key])
    return False


def _type(view: View, key: str) -> None:
    assert view.typing is not None
    if key == "enter":
        typed, view.typing = view.typing, None
        view.pattern = typed if any(letter in typed for letter in "*?[") else f"*{typed}*" if typed else "*"
        view.first = 0
    elif key == "escape":
        view.typing, view.pattern = None, "*"
    elif key == "backspace":
        view.typing = view.typing[:-1]
    elif len(key) == 1 and key.isprintable():
        view.typing += key


def _seconds(text: str) -> float:
    try:
        return max(LEAST_SECONDS, seconds(text))
    except ValueError as error:
        raise ConfigError(f"--interval {text}: {error}") from None
