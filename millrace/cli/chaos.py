"""`millrace chaos`: kills producers, consumers and Redis at random, cuts its power, then counts every record."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.console import Console

from millrace.cli.flowsfile import FlowsOption, choose, settings_with
from millrace.cli.tables import console_for_all
from millrace.produced import is_produced
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.process import logs
from millrace_pipeline.process.signals import on_signal
from millrace_pipeline.queue import Books

app = typer.Typer()

KINDS = {"consumer": 5, "producer": 3, "redis": 2, "power": 1}
"""What is killed, and how often in proportion. `power` kills Redis and takes what it had not synced to its disk."""

PAUSES = (0.4, 3.6)
"""Seconds between two kills: drawn evenly, 2 s on average."""

LONGEST_AWAY = 1.5
"""Seconds that Redis, or a container, stays away at most."""

RATE = 200.0
PROGRESS_SECONDS = 10.0
DRAIN_SECONDS = 120.0
LOOK_SECONDS = 0.05
NOTICE_SECONDS = 8.0
"""Within so long a producer notices what a power cut took back, and reads it again; then it may be told to end."""


class Rig(Protocol):
    """A system under chaos: flows that run, things to kill by name, and what is known of it afterwards."""

    flows: list[Flow]
    answers_quickly: bool
    """Whether asking for the books takes no time in which something could be killed."""

    no_power: str
    """Why no power can be cut, where none can."""

    def alive(self, kind: str) -> list[str]: ...
    def kill(self, name: str, down_seconds: float) -> str: ...
    def look(self, *, again: bool) -> None: ...
    def ended(self) -> bool: ...
    def end_sources(self) -> None: ...
    def books(self) -> dict[str, Books] | None: ...
    def moved(self) -> dict[str, dict[str, int]]: ...
    def settle(self) -> None: ...


@app.command(epilog="Example: `millrace chaos --seconds 120 --seed 7`")
def chaos(
    seconds: Annotated[float, typer.Option(min=2, max=86_400, help="How long things are killed.")] = 60,
    seed: Annotated[int | None, typer.Option(help="Draws the same kills as the run that printed it.")] = None,
    consumers: Annotated[int, typer.Option("--consumers", "-n", min=1, max=64, help="Consumer processes.")] = 3,
    flow: Annotated[
        list[str] | None,
        typer.Option("--flow", help="Which to run: quotes, wikipedia, or with --flows one of that file; may repeat."),
    ] = None,
    flows: FlowsOption = None,
    compose: Annotated[bool, typer.Option("--compose", help="On the docker compose stack of this folder.")] = False,
    rate: Annotated[float, typer.Option(min=1, max=20_000, help="Events a second of the practice stream.")] = RATE,
    patience: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds until each flow must have published its first record.")
    ] = 60,
    into: Annotated[Path | None, typer.Option(help="A new folder for all of it; else a temporary one.")] = None,
) -> None:
    """Kills producers, consumers and Redis with SIGKILL at random, heals, drains, and counts every record.

    Redis also loses its power: with it goes what was not synced. Only on Linux, and where all flows outlive it; with
    --compose as root, where the engine runs on this machine.

    Runs a practice web site and a practice event stream into JSON Lines, on an embedded Valkey with an append-only
    file: every record is known in advance, so each one lost or doubled is found. With --compose the same in Docker,
    under a project name of its own. With --flows and --flow your own flow runs instead, on the embedded Valkey, from
    its own source into its own sink, whose folder must be empty: then counts, doubles and books are compared.

    In the end the history of each flow must add up to its counters.

    The seed is printed first. It draws the same kills again; what they hit is the machine's affair.

    Exit codes: 0 every record is in the files exactly once and the books balance; 1 something is lost, doubled, or did
    not drain; 2 the command or the flow is wrong.
    """
    from millrace.cli import practiceflows  # these only here: no other command pays for them
    from millrace.cli.chaosreport import outcomes, print_report

    logs.configure("pretty", "critical")  # that services fail is the point
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    console = console_for_all(soft_wrap=True)
    console.print(f"[bold]Millrace chaos[/bold]  seed {seed}  {seconds:g} s  {consumers} consumers")
    if compose and (flow or flows):
        raise ConfigError("--compose runs both practice flows: leave --flow and --flows out")
    stopping = threading.Event()
    on_signal(lambda _: stopping.set(), signal.SIGTERM, signal.SIGINT)
    folder = _new_folder(into)
    events = max(1, int(rate * seconds))
    names = flow or ([one.name for one in choose(settings_with(flows), [])] if flows else list(practiceflows.NAMES))
    for name in [] if flows else names:
        if name not in practiceflows.NAMES:
            known = ", ".join(practiceflows.NAMES)
            raise ConfigError(f"no practice flow {name!r}; there are: {known}. For one of your own add --flows")
    with contextlib.ExitStack() as stack:
        if flows:
            rig = _own_rig(stack, flows, names, consumers, folder)
        else:
            rig = _practice_rig(stack, folder, names, consumers, events, rate, compose=compose)
        run = _Run(rig, console, random.Random(seed), stopping)
        if rig.no_power:
            console.print(f"the power stays on: {rig.no_power}", highlight=False)
        run.begin(patience)
        run.rage(seconds)
        healed = run.heal(DRAIN_SECONDS, end_sources=flows is not None)
        books = rig.books()
        moved = rig.moved() if healed else {}  # what still moves is not the same at two looks
        rig.settle()
        sent = None if flows else events
        found = outcomes(rig.flows, books or {}, sent, power_cuts=run.kills["power"], moved=moved)
    ok = print_report(console, run.kills, found, why_not="" if healed else run.why_not)
    _end(console, folder, ok=ok, keep=into is not None)
    sys.exit(0 if ok else 1)


class _Run:
    """One run: the kills, and what they add up to."""

    def __init__(self, rig: Rig, console: Console, dice: random.Random, stopping: threading.Event) -> None:
        self.kills: Counter[str] = Counter()
        self.why_not = ""
        self._rig = rig
        self._console = console
        self._dice = dice
        self._stopping = stopping
        self._started = time.monotonic()
        self._told_at = 0.0
        self._noticed_at = 0.0

    def begin(self, patience: float) -> None:
        """Waits until every flow has published something, so that there is something to lose."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and not self._stopping.wait(LOOK_SECONDS):
            self._rig.look(again=False)
            books = self._rig.books()
            if books and all(found.published for found in books.values()):
                break
        self._started = time.monotonic()

    def rage(self, seconds: float) -> None:
        """Kills until the time is over, and starts again what is down."""
        next_kill = self._dice.uniform(*PAUSES)
        while (elapsed := self._elapsed()) < seconds and not self._stopping.wait(LOOK_SECONDS):
            self._rig.look(again=True)
            if elapsed >= next_kill:
                self._kill()
                next_kill = max(next_kill + self._dice.uniform(*PAUSES), self._elapsed())
            if self._rig.answers_quickly:
                self._progress()

    def heal(self, patience: float, *, end_sources: bool) -> bool:
        """Lets everything live, and waits until the sources have ended and the lists are empty."""
        self._tell("no more kills: waiting for the sources to end and the lists to drain")
        deadline = time.monotonic() + patience
        ended_sources = not end_sources
        while time.monotonic() < deadline and not self._stopping.wait(LOOK_SECONDS * 4):
            self._rig.look(again=False)
            books = self._rig.books()
            if not ended_sources and (books is None or time.monotonic() < self._noticed_at):
                continue
            if not ended_sources:
                self._rig.end_sources()
                ended_sources = True
            elif self._rig.ended() and books and all(found.lag == 0 for found in books.values()):
                self._tell("drained")
                return True
            self._progress()
        self.why_not = "interrupted" if self._stopping.is_set() else f"not drained {patience:.0f} s after the last kill"
        return False

    def _kill(self) -> None:
        """One kill. Draws as many numbers whatever is alive, so that a seed draws the same wishes again."""
        wishes = sorted(KINDS, key=lambda kind: self._dice.random() ** (1 / KINDS[kind]), reverse=True)
        which, away = self._dice.random(), self._dice.uniform(0, LONGEST_AWAY)
        for kind in wishes:
            alive = self._rig.alive(kind)
            if alive and (told := self._rig.kill(alive[int(which * len(alive))], away)):
                self.kills[kind] += 1
                word = "power cut" if kind == "power" else "kill -9"
                if kind == "power":
                    self._noticed_at = time.monotonic() + away + NOTICE_SECONDS
                self._tell(f"[red]{word}[/red] {told}")
                return

    def _progress(self) -> None:
        if time.monotonic() - self._told_at < PROGRESS_SECONDS:
            return
        self._told_at = time.monotonic()
        for name, found in (self._rig.books() or {}).items():
            self._tell(
                f"[dim]{name}: published {found.published:,}, delivered {found.delivered:,}, lag {found.lag:,}[/dim]"
            )

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _tell(self, what: str) -> None:
        self._console.print(f"{self._elapsed():6.1f} s  {what}")


def _practice_rig(
    stack: contextlib.ExitStack,
    folder: Path,
    names: Sequence[str],
    consumers: int,
    events: int,
    rate: float,
    *,
    compose: bool,
) -> Rig:
    from millrace.cli import practiceflows
    from millrace.cli.localrig import LocalRig, environment, practice_sites
    from millrace.cli.stackrig import StackRig

    flows_file = folder / "flows.yaml"
    flows_file.write_text(practiceflows.FLOWS, encoding="utf-8")
    if compose:
        made = StackRig.start(flows_file, consumers=consumers, folder=folder, events=events, rate=rate)
        return stack.enter_context(contextlib.closing(made))
    sites = stack.enter_context(practice_sites(events, rate))
    environ = environment(folder, sites)
    local = LocalRig.start(flows_file, names, consumers=consumers, folder=folder, environ=environ, practice=True)
    return stack.enter_context(contextlib.closing(local))


def _own_rig(stack: contextlib.ExitStack, flows: Path, names: list[str], consumers: int, folder: Path) -> Rig:
    from millrace.cli.localrig import LocalRig

    for flow in choose(settings_with(flows), names):
        if not is_produced(flow):
            raise flow.source.error("others push onto its list: chaos can't tell what came, and runs only sources")
        for sink in flow.sink.each:
            place = Path(str(sink.options.get("path", folder / "nowhere")))
            if place.is_dir() and any(place.iterdir()):
                mend = f"give sink {flow.name} an empty folder, so that all in it is ours"
                raise ConfigError(f"{place} is not empty: {mend}")
    local = LocalRig.start(flows, names, consumers=consumers, folder=folder, environ=os.environ, practice=False)
    return stack.enter_context(contextlib.closing(local))


def _new_folder(into: Path | None) -> Path:
    if into is None:
        return Path(tempfile.mkdtemp(prefix="millrace-chaos-"))
    if into.exists() and any(into.iterdir()):
        raise ConfigError(f"{into} is not empty: name a new folder")
    into.mkdir(parents=True, exist_ok=True)
    return into.resolve()


def _end(console: Console, folder: Path, *, ok: bool, keep: bool) -> None:
    if ok and not keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        console.print(f"files and logs are in {folder}")
