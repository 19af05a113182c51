"""`millrace tap`: a flow's records as they are published, delivered, set aside, or as they wait."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.cli.asked import Asked
from millrace.cli.completion import flow_names
from millrace.cli.flowsfile import FlowsOption, choose_list, settings_with
from millrace_pipeline.errors import ConfigError, QueueUnavailable
from millrace_pipeline.process.signals import on_signal

if TYPE_CHECKING:
    from millrace.cli.tapview import Format, View
    from millrace.feeds import Place, Tapped
    from millrace.tapping import Watch

app = typer.Typer()

FORMATS = ("json", "yaml", "table")
READY_SHOWN = 100
"""Of what waits so many are shown, where nobody says how many."""

STILL_SECONDS = 10.0
"""So often it is said how many of the records are shown, where not all are."""


@app.command(epilog="Example: `millrace tap wikipedia --out --where 'bot' --limit 10`")
def tap(
    flow: Annotated[str, typer.Argument(help="The flow.", autocompletion=flow_names)],
    flows: FlowsOption = None,
    published: Annotated[bool, typer.Option("--in", help="What is published. The default.")] = False,
    delivered: Annotated[bool, typer.Option("--out", help="What is delivered, after the transforms.")] = False,
    dead: Annotated[bool, typer.Option("--dead", help="What is set aside as a dead letter.")] = False,
    ready: Annotated[bool, typer.Option("--ready", help="What waits now, the next to be taken first.")] = False,
    where: Annotated[str, typer.Option(metavar="JMESPATH", help="Only those for whose data this holds.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many. Of --ready: 100.")] = None,
    form: Annotated[str, typer.Option("--format", help="json, a line each; yaml; or table, cut to the terminal.")] = "",
    diff: Annotated[bool, typer.Option("--diff", help="What is delivered, before and after the transforms.")] = False,
) -> None:
    """Shows records as they pass, until Ctrl-C: a sample, where there are many, and says of how many.

    Only while this runs do producers and consumers copy some of what they handle, beside their work, into a key of the
    flow that expires. What is set aside or waits is read where it lies. JSON in a pipe is the record's own; on a
    terminal, letters that would steer it are shown as escapes. A record is cut at 64 KiB, and says so.

    Exit codes: 0 shown; 2 the flow or the command is wrong, or Redis refuses this user; 4 Redis doesn't answer.
    """
    from millrace.cli.tapview import heading, view_of
    from millrace.tapping import Watch

    place = _place(published, delivered, dead, ready, diff=diff)
    shape = _format(form, diff=diff)
    settings = settings_with(flows)
    chosen = choose_list(settings, flow)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    view = view_of(shape, diff=diff, width=width)
    asked = Asked.of(settings)
    asked.say_whose([chosen])
    session = asked.queue(chosen)
    watch = Watch(session, place, where=where, every=diff)
    try:
        if shape == "table" and not diff:
            sys.stdout.write(heading(width) + "\n")
        most = limit or (READY_SHOWN if place == "ready" else None)
        showing = _Showing(watch, view, most)
        showing.run()
        _say("; ".join(_told(watch, place, showing.shown, diff=diff)))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on, and nothing is left to say
    finally:
        watch.close()
        session.close()


def _place(published: bool, delivered: bool, dead: bool, ready: bool, *, diff: bool) -> Place:
    named: dict[Place, bool] = {"in": published, "out": delivered, "dead": dead, "ready": ready}
    asked: list[Place] = [name for name, wanted in named.items() if wanted]
    if len(asked) > 1:
        raise ConfigError(f"--{asked[0]} and --{asked[1]}: expected one of --in, --out, --dead and --ready")
    if diff and asked not in ([], ["out"]):
        raise ConfigError(f"--diff shows what is delivered: expected it without --{asked[0]}")
    return "out" if diff else asked[0] if asked else "in"


def _format(form: str, *, diff: bool) -> Format:
    if form not in ("", *FORMATS):
        raise ConfigError(f"--format {form}: expected json, yaml or table")
    return form or ("table" if diff else "json")  # type: ignore[return-value]


class _Showing:
    """Prints what is seen until it is told to stop, all is seen, or nobody reads it any more."""

    def __init__(self, watch: Watch, view: View, most: int | None) -> None:
        self._watch = watch
        self._view = view
        self._most = most
        self.shown = 0
        self._stopped = threading.Event()
        self._away = False
        self._told = time.monotonic()

    def run(self) -> None:
        """Blocks until then. Raises BrokenPipeError, QueueError; an outage later than the first look is waited out."""
        from millrace.tapping import AWAY_SECONDS, LOOK_SECONDS

        on_signal(lambda _: self._stopped.set(), signal.SIGINT, signal.SIGTERM)
        found = self._watch.look()
        while True:
            for one in found:
                self._print(one)
                if self.shown == self._most:
                    return
            sys.stdout.flush()
            if self._watch.over or self._stopped.wait(0 if found else AWAY_SECONDS if self._away else LOOK_SECONDS):
                return
            if _unread():
                raise BrokenPipeError
            self._say_how_many()
            found = self._look()

    def _look(self) -> list[Tapped]:
        try:
            found = self._watch.look()
        except QueueUnavailable as error:
            if not self._away:
                _say(f"Redis doesn't answer: {error}; waiting for it")
            self._away = True
            return []
        if self._away:
            self._away = False
            _say("Redis answers again")
        return found

    def _print(self, one: Tapped) -> None:
        self.shown += 1
        sys.stdout.write(self._view(one) + "\n")

    def _say_how_many(self) -> None:
        if time.monotonic() - self._told < STILL_SECONDS or not sys.stderr.isatty():
            return
        self._told = time.monotonic()
        if self.shown < self._watch.passed or not self.shown:
            _say(f"{self.shown:,} of {self._watch.passed:,} records shown so far")


def _told(watch: Watch, place: Place, shown: int, *, diff: bool) -> Iterator[str]:
    yield f"{shown:,} of {max(watch.passed, watch.seen):,} records shown"
    if watch.seen > watch.shown:
        yield f"{watch.seen:,} were looked at"
    for reason, count in watch.unfit.items():
        yield f"--where could not be asked of {count:,}: {reason}"
    if place == "out" and not diff and watch.seen > watch.shown:
        yield "--diff shows what was filtered, too"


def _unread() -> bool:
    """Return True where standard output is a pipe that nobody reads any more: to write is not the only way to learn."""
    with contextlib.suppress(OSError, ValueError):
        asked = select.poll()
        asked.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in asked.poll(0))
    return False


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()
