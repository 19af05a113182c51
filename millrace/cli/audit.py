"""`millrace audit`: what people changed of a flow: who, what and when."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape

from millrace.cli.asked import Asked
from millrace.cli.flowsfile import FlowsOption, NamesArgument, choose_lists, settings_with
from millrace.cli.status import JsonOption
from millrace.cli.tables import console_for_all, table
from millrace_pipeline.queue.changes import Change, changes_of

app = typer.Typer()


@app.command(epilog="Example: `millrace audit wikipedia --json | jq '.[0].by'`")
def audit(
    names: NamesArgument = None,
    flows: FlowsOption = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many of each flow.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Shows what people changed of these flows, or of all, newest first: who, what, when, and of how many records.

    A change is written down in the very step in which it is made, and the last 1,000 of each flow are kept. The user
    is the one that Redis knows; user and host of the system are what the command said of itself.

    Exit codes: 0 shown; 2 the flow or the command is wrong; 4 Redis doesn't answer.
    """
    settings = settings_with(flows)
    chosen = choose_lists(settings, names or [])
    asked = Asked.of(settings)
    asked.say_whose(chosen)
    found = [(flow.name, change) for flow in chosen for change in changes_of(asked.queue(flow), limit=limit)]
    found.sort(key=lambda pair: -pair[1].at)
    if as_json:
        sys.stdout.write(json.dumps([_as_json(*pair) for pair in found], indent=2, ensure_ascii=False) + "\n")
        return
    rows = table()
    rows.add_column("when (UTC)", no_wrap=True, min_width=19)
    rows.add_column("flow", no_wrap=True)
    rows.add_column("what", no_wrap=True)
    rows.add_column("records", justify="right", no_wrap=True)
    rows.add_column("who", overflow="fold")
    rows.add_column("more", overflow="fold")
    for name, change in found:
        cells = (name, change.what, f"{change.records:,}" if change.records else "", str(change.by), change.more)
        rows.add_row(f"{change.time:%Y-%m-%d %H:%M:%S}", *map(escape, cells))
    screen = console_for_all()
    screen.print(rows)
    if not found:
        screen.print("nothing was changed by hand", style="dim")


def _as_json(flow: str, change: Change) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(change)
    del told["id"], told["at"]
    return {"flow": flow, "time": change.time.isoformat(timespec="milliseconds"), **told}
