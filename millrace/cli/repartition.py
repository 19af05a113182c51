"""`millrace repartition`: a flow that has been drained is kept in as many lists as its file says from here on."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import typer

from millrace.cli.asked import AnyProjectOption, Asked
from millrace.cli.changing import agreed
from millrace.cli.dead import DryOption, FlowArgument, YesOption
from millrace.cli.examine import build_to_produce
from millrace.cli.flowsfile import FlowsOption, choose, settings_with
from millrace.ours import may_change
from millrace.repartitioning import Repartitioning

app = typer.Typer()


@app.command("repartition", epilog="Example: `millrace repartition events`")
def repartition(
    flow: FlowArgument,
    flows: FlowsOption = None,
    yes: YesOption = False,
    dry_run: DryOption = False,
    any_project: AnyProjectOption = False,
) -> None:
    """Keeps a flow in as many lists as its `queue.partitions` says now, once it has been drained.

    The source's position, the counters and a pause go over to the new lists. While anything waits, is in flight, put
    off or set aside, or a service of the flow runs, nothing is changed, and it says what is in the way. Killed at any
    moment it can be done again.

    Exit codes: 0 done, or it was so; 2 the flow is wrong or not drained, or nobody said yes; 4 Redis doesn't answer.
    """
    settings = settings_with(flows)
    chosen = choose(settings, [flow])[0]
    build_to_produce(chosen)
    asked = Asked.of(settings)
    with ExitStack() as stack:
        changing = Repartitioning(asked.server.url, chosen, stack)
        if not any_project:
            for part, queue in changing.old:
                may_change(asked.server, part, queue, "--any-project does it all the same")
        was, now = _lists(changing.was), _lists(changing.now)
        if changing.was == changing.now:
            sys.stdout.write(f"{flow} is kept in {was}: there is nothing to do\n")
            return
        changing.look()
        if dry_run:
            sys.stdout.write(f"{flow} is kept in {was}; it would be kept in {now}\n")
        elif agreed(f"{flow} is kept in {was}, and will be kept in {now}. Go on?", yes=yes):
            changing.change()
            sys.stdout.write(f"{flow} is kept in {now} from here on\n")


def _lists(count: int) -> str:
    return f"{count} partitions" if count > 1 else "one list"
