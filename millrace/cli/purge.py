"""`millrace purge` and `millrace requeue`: what waits on a list is set aside or thrown away; a batch is taken away."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from millrace.cli.asked import AnyProjectOption
from millrace.cli.changing import agreed, queue_to_change, queues_to_change
from millrace.cli.dead import DryOption, FlowArgument, YesOption
from millrace.cli.flowsfile import FlowsOption
from millrace.requeuing import requeue_batch
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.queue.purging import purge, ready_of

app = typer.Typer()

SAID_EVERY = 100_000


@app.command("purge", epilog="Example: `millrace purge orders --to-dead --note 'yesterday, once more'`")
def purge_list(
    flow: FlowArgument,
    flows: FlowsOption = None,
    to_dead: Annotated[
        bool, typer.Option("--to-dead", help="Into dead letters, from where they can be put back.")
    ] = False,
    away: Annotated[bool, typer.Option("--away", help="For good: they count as discarded.")] = False,
    note: Annotated[str, typer.Option(help="Why: the dead letters' reason, and for whoever looks.")] = "",
    yes: YesOption = False,
    dry_run: DryOption = False,
    any_project: AnyProjectOption = False,
) -> None:
    """Takes what waits on a flow's list off it: as many records as it says, the oldest first.

    What is in flight stays with its consumers. The books balance after each step of some hundred records, so it can be
    stopped or killed at any moment, and done again for the rest.

    Exit codes: 0 done; 2 the flow or the command is wrong, or nobody said yes; 4 Redis doesn't answer.
    """
    if (to_dead and away) or not (to_dead or away or dry_run):
        raise ConfigError("say where to: --to-dead sets the records aside, --away throws them away for good")
    queues = [queue for _, queue in queues_to_change([flow], flows, any_project=any_project)]
    counts = [ready_of(queue) for queue in queues]
    count = sum(counts)
    would = "become dead letters" if to_dead else "be thrown away for good"
    waiting = f"{count:,} records wait on the list of {flow}"
    if dry_run or not count:
        sys.stdout.write(f"{waiting}{f'; they would {would}' if count and (to_dead or away) else ''}\n")
        return
    if agreed(f"{waiting}; they will {would}. Go on?", yes=yes):
        done = said = 0

        def tell(more: int) -> None:
            nonlocal said
            if done + more - said >= SAID_EVERY:
                said = done + more
                sys.stderr.write(f"{said:,} of {count:,}\n")

        for queue, waits in zip(queues, counts, strict=True):
            done += purge(queue, waits, to_dead=to_dead, note=note, progress=tell) if waits else 0
        sys.stdout.write(f"{done:,} records {'became dead letters' if to_dead else 'were thrown away'}\n")


@app.command("requeue", epilog="Example: `millrace requeue orders 20261129T135700Z-5c1f0a9b2e-000012 --whole`")
def requeue_one(
    flow: FlowArgument,
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="Its id, as `millrace status` shows it.")],
    flows: FlowsOption = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Keep it as it is, under its id: any consumer can take it over at once.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Though its lease is good, or the sink has something of it.")
    ] = False,
    any_project: AnyProjectOption = False,
) -> None:
    """Takes a batch in flight away from whoever holds it, and puts its records on the list again, to be taken next.

    Who held it can't ack it any more, and drops it. On the list its records get into batches with other ids: what a
    sink had of them by then, or is being given at this moment, it gets twice. Hence a batch whose lease is good, or of
    which the sink has anything, is left alone without --force. With --whole it keeps its id, and a sink that names its
    output by the batch holds it once, however far the one who held it had come.

    Exit codes: 0 done; 2 the flow, the batch or the command is wrong, or it is held; 4 Redis doesn't answer.
    """
    chosen, queue = queue_to_change(flow, flows, any_project=any_project)
    records = requeue_batch(chosen, queue, batch, whole=whole, force=force)
    where = "can be taken over at once, under the same id" if whole else "are on the list again, to be taken next"
    sys.stdout.write(f"{records:,} records {where}\n")
