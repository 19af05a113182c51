"""`millrace autoscale`: as many consumers as it takes, of `millrace run`, of a compose stack, of a swarm's."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import structlog
import typer

from millrace.cli.asked import Asked
from millrace.cli.flowsfile import FlowsOption, NamesArgument, choose, settings_with
from millrace.cli.scaler import AgeOption, CalmOption, IdleOption, MaxOption, MinOption, rules_from
from millrace.cli.stack import FileOption, ProjectOption
from millrace.control import RunGone
from millrace_pipeline.process import logs
from millrace_pipeline.process.signals import on_signal

if TYPE_CHECKING:
    from millrace.scaling.engines import Engine

app = typer.Typer()
log = structlog.get_logger(__name__)

EngineName = Literal["run", "compose", "swarm"]


@app.command(epilog="Example: `millrace autoscale --min 0 --max 8 --age 30s`")
def autoscale(
    names: NamesArgument = None,
    flows: FlowsOption = None,
    least: MinOption = 0,
    most: MaxOption = 8,
    age: AgeOption = "30s",
    idle: IdleOption = "5m",
    calm: CalmOption = "1m",
    engine: Annotated[
        EngineName, typer.Option(help="What runs the consumers: `millrace run` in this folder, Compose, a swarm.")
    ] = "run",
    file: FileOption = None,
    project: ProjectOption = None,
    stack: Annotated[str, typer.Option(help="With --engine swarm: the name of the stack.")] = "millrace",
    scaler: Annotated[
        str | None,
        typer.Option(help="Where a `millrace scaler` answers, for a Redis that can't be reached from here."),
    ] = None,
) -> None:
    """Has each of these flows have as many consumers as it takes, until Ctrl-C.

    More, where what waits would take longer than --age, or is older. Fewer, once fewer were enough for all of --calm;
    never fewer than there are batches that somebody works on. None after --idle without work, and the first of them
    again as soon as there is a record. A sink that takes nothing gets no more consumers, and a pause none.

    It runs on the machine that runs the consumers, or on a manager of the swarm, and needs no other right than to give
    the commands that a person would. Where it ends at a moment without consumers it leaves one.

    Exit codes: 0 it was told to end, or the `millrace run` that it scaled has ended; 1 docker said no; 2 a flow or an
    option is wrong, or nothing of that name runs.
    """
    from millrace.scaling.asking import Asking
    from millrace.scaling.autoscaler import Autoscaler
    from millrace.scaling.watch import Watch

    rules = rules_from(least, most, age, idle, calm)
    settings = settings_with(flows)
    chosen = choose(settings, names or [])
    logs.configure(settings.log, settings.log_level, service="autoscale")
    stopping = threading.Event()
    on_signal(lambda _: stopping.set(), signal.SIGTERM, signal.SIGINT)
    found = engine_of(engine, settings.flows, [flow.name for flow in chosen], file, project, stack)
    with contextlib.ExitStack() as held:
        if scaler is not None:
            looking = Asking(scaler, [flow.name for flow in chosen]).look
        else:
            watch = Watch(Asked.of(settings).server.url, chosen)
            held.callback(watch.close)
            looking = watch.look
        scaling = Autoscaler(found, looking, rules, stopping)
        held.callback(scaling.leave)
        log.info("autoscale_started", services=[group.name for group in found.groups], engine=engine)
        try:
            scaling.run()
        except RunGone as error:
            sys.stderr.write(f"{error}\n")


def engine_of(
    name: EngineName, flows_file: Path, flows: list[str], file: list[Path] | None, project: str | None, stack: str
) -> Engine:
    """Return what runs the consumers of these flows. Raises ConfigError or StackError where it doesn't."""
    from millrace.scaling import engines

    if name == "compose":
        from millrace.stack import Stack

        return engines.OfCompose(Stack(list(file or []), project=project), flows_file, flows)
    return engines.OfSwarm(stack, flows) if name == "swarm" else engines.OfRun(flows)
