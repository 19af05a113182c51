"""`millrace alerts`: what is to be told of each flow, how it stands, and a test of the way to you."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.markup import escape
from typer.core import TyperGroup

from millrace.cli.asked import Asked
from millrace.cli.completion import flow_names
from millrace.cli.exits import FAILED
from millrace.cli.flowsfile import FlowsOption, NamesArgument, choose, choose_lists, settings_with
from millrace.cli.status import JsonOption
from millrace.cli.tables import console_for_all, table
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow

if TYPE_CHECKING:
    from millrace_pipeline.queue.alerts import State


class _ListsByItself(TyperGroup):
    """A group in which `ls` needn't be said."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `ls` before what names no command."""
        first = next((word for word in args if not word.startswith("-")), "")
        known = first in self.commands or (args and args[0] in ("--help", "--install-completion", "--show-completion"))
        return super().parse_args(ctx, args if known else ["ls", *args])


app = typer.Typer(
    cls=_ListsByItself,
    help="Alerts: what flows.yaml says is to be told, and how it stands. `millrace alerts [FLOW]` lists them.\n\n"
    "Exit codes: 0 done; 1 a test could not be told; 2 the flow or the command is wrong; 4 Redis doesn't answer.",
)


@app.command("ls", epilog="Example: `millrace alerts wikipedia`")
def list_alerts(names: NamesArgument = None, flows: FlowsOption = None, as_json: JsonOption = False) -> None:
    """Lists the alerts of flows: well, pending since, or raised since; who watches, and what is still to be told.

    Exit codes: 0 listed; 2 the flow is wrong; 4 Redis doesn't answer.
    """
    settings = settings_with(flows)
    chosen = choose_lists(settings, names or [])
    asked = Asked.of(settings)
    asked.say_whose(chosen)
    found = [row for flow in chosen for row in _rows(asked, flow)]
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
        return
    screen = console_for_all()
    if not found:
        screen.print("no flow has alerts: docs/how-to/alerts.md", markup=False)
        return
    rows = table("flow", "alert", "state", "since (UTC)", "watched by", "to be told")
    for row in found:
        since = row["since"]
        when = f"{datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M:%S}" if since else ""
        state = row["state"] if row["state"] != "raised" else f"[bold red]raised[/bold red] ({row['value']:.6g})"
        rows.add_row(
            row["flow"], escape(row["alert"]), state, when, row["watched_by"] or "nobody", str(row["to_be_told"] or "")
        )
    screen.print(rows)


@app.command("test", epilog="Example: `millrace alerts test wikipedia`")
def send_test(
    flow: Annotated[str, typer.Argument(help="The flow.", autocompletion=flow_names)], flows: FlowsOption = None
) -> None:
    """Sends a test notice the ways that the flow's `notify` names, from here, and says how each went.

    Exit codes: 0 told; 1 one could not be told; 2 the flow is wrong, or has no alerts.
    """
    from millrace_pipeline.alerting.notice import notice_of
    from millrace_pipeline.alerting.targets import NotTold, targets_of

    (chosen,) = choose(settings_with(flows), [flow])
    if not chosen.alerts:
        raise ConfigError(f"flow {flow} has no alerts: add some, such as `alerts: [{{dead: '>0'}}]`")
    ways = {name: tell for name, tell in targets_of(chosen.notify).items() if name != "log"}
    now = time.time()
    notice = notice_of(
        *(chosen.alerts[0], "test"),
        flow=flow,
        project=chosen.project.name,
        id=f"{flow}:test:{round(now * 1000)}",
        value=0.0,
        since=now,
        at=now,
    )
    if not ways:
        sys.stdout.write("notify names neither a webhook nor a command: alerts are events in the log\n")
    failed = False
    for name, tell in ways.items():
        try:
            tell(notice)
        except NotTold as error:
            failed = True
            sys.stdout.write(f"{name}: not told: {error}\n")
        else:
            sys.stdout.write(f"{name}: told\n")
    if failed:
        sys.exit(FAILED)


def _rows(asked: Asked, flow: Flow) -> list[dict[str, Any]]:
    from millrace_pipeline.queue.alerts import NOTICE, Board, states_in

    if not flow.alerts:
        return []
    queue = asked.queue(flow)
    try:
        board = Board(queue)
        fields, watched = board.read()
    finally:
        queue.close()
    states = states_in(fields)
    told = [name for name in fields if name.startswith(NOTICE)]
    rows = []
    for alert in flow.alerts:
        state = states.get(alert.rule)
        rows.append(
            {
                "flow": flow.name,
                "alert": alert.rule,
                "state": _word(state, watched=watched),
                "since": state.since / 1000 if state else None,
                "value": state.value if state else None,
                "watched_by": fields.get("name", b"").decode() if watched else None,
                "to_be_told": sum(f":{flow.name}:{alert.rule}:" in name for name in told),
            }
        )
    return rows


def _word(state: State | None, *, watched: bool) -> str:
    if state is not None:
        return "raised" if state.raised else "pending"
    return "well" if watched else "not watched"
