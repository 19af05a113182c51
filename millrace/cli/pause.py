"""`millrace pause` and `millrace resume`: a flow's producers or consumers stand still, and go on."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from millrace.cli.asked import AnyProjectOption
from millrace.cli.changing import queues_to_change
from millrace.cli.completion import flow_names
from millrace.cli.flowsfile import FlowsOption
from millrace_pipeline.queue.pausing import PARTS, Part, pause, pauses_of, resume

app = typer.Typer()

NamesArgument = Annotated[list[str], typer.Argument(metavar="FLOW...", autocompletion=flow_names)]
ProducersOption = Annotated[bool, typer.Option("--producers", help="Only the producers.")]
ConsumersOption = Annotated[bool, typer.Option("--consumers", help="Only the consumers.")]


@app.command("pause", epilog="Example: `millrace pause wikipedia --consumers --note 'the lake is moved'`")
def pause_flows(
    names: NamesArgument,
    flows: FlowsOption = None,
    producers: ProducersOption = False,
    consumers: ConsumersOption = False,
    note: Annotated[str, typer.Option(help="Why, for whoever looks.")] = "",
    any_project: AnyProjectOption = False,
) -> None:
    """Has these flows stand still, wherever their services run and whenever they start, until `millrace resume`.

    From the moment it returns nothing more is published, and no batch is claimed. What is in hand is finished, and
    leases and leadership are kept. It is kept in Redis, and outlives a restart of everything.

    Exit codes: 0 paused, or was so before; 2 the flow or the command is wrong; 4 Redis doesn't answer.
    """
    parts = _parts(producers=producers, consumers=consumers)
    for flow, queue in queues_to_change(names, flows, any_project=any_project):
        before = pauses_of(queue)
        for part, found in pause(queue, parts, note=note).items():
            if part in parts:
                was = "already " if part in before else ""
                sys.stdout.write(f"{flow.name}: {part} {was}{found}\n")


@app.command("resume", epilog="Example: `millrace resume wikipedia`")
def resume_flows(
    names: NamesArgument,
    flows: FlowsOption = None,
    producers: ProducersOption = False,
    consumers: ConsumersOption = False,
    any_project: AnyProjectOption = False,
) -> None:
    """Has these flows go on.

    Exit codes: 0 they go on, or did so all the time; 2 the flow or the command is wrong; 4 Redis doesn't answer.
    """
    parts = _parts(producers=producers, consumers=consumers)
    for flow, queue in queues_to_change(names, flows, any_project=any_project):
        were = resume(queue, parts)
        for part in parts:
            how = f"go on; they were {were[part]}" if part in were else "were not paused"
            sys.stdout.write(f"{flow.name}: {part} {how}\n")


def _parts(*, producers: bool, consumers: bool) -> tuple[Part, ...]:
    wanted: dict[Part, bool] = {"producers": producers, "consumers": consumers}
    return tuple(part for part in PARTS if wanted[part]) or PARTS
