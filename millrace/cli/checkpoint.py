"""`millrace checkpoint`: where a flow's source is read from, and having it read from elsewhere."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from millrace.checkpoints import checkpoint_of, meaning_of, move_checkpoint
from millrace.cli.asked import AnyProjectOption
from millrace.cli.changing import agreed, queue_to_change
from millrace.cli.dead import DryOption, FlowArgument, YesOption, queue_to_look_at
from millrace.cli.flowsfile import FlowsOption, choose_list, settings_with
from millrace.cli.status import JsonOption
from millrace_pipeline.errors import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    help="Checkpoints: where a flow's source is read from, and having it read from elsewhere.\n\n"
    "Exit codes: 0 done; 2 the flow, the position or the command is wrong; 4 Redis doesn't answer.",
)


@app.command(epilog="Example: `millrace checkpoint show wikipedia`")
def show(flow: FlowArgument, flows: FlowsOption = None, as_json: JsonOption = False) -> None:
    """Shows the position that the source is read from when it is read next, in words too, and when it was written."""
    chosen = choose_list(settings_with(flows), flow)
    found = checkpoint_of(chosen, queue_to_look_at(flow, flows))
    written = found.written
    if as_json:
        told: dict[str, Any] = {"flow": flow, "position": found.position, "words": found.words}
        told["written"] = written.time.isoformat(timespec="seconds") if written else None
        told["by"] = str(written.by) if written and written.by else None
        sys.stdout.write(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
        return
    position = "none" if found.position is None else json.dumps(found.position, ensure_ascii=False)
    sys.stdout.write(f"position  {position}\nread      {found.words}\n")
    if written:
        by = f"by {written.by}" if written.by else "with the last publish"
        sys.stdout.write(f"written   {written.time:%Y-%m-%d %H:%M:%S} UTC, {by}\n")


@app.command("set", epilog='Example: `millrace checkpoint set orders \'{"page": 12, "record": 0}\' --dry-run`')
def set_position(
    flow: FlowArgument,
    position: Annotated[str, typer.Argument(metavar="JSON", help="The position, as `show` prints it.")],
    flows: FlowsOption = None,
    yes: YesOption = False,
    dry_run: DryOption = False,
    any_project: AnyProjectOption = False,
) -> None:
    """Has the source be read from this position on. A producer that runs starts over from there within two seconds."""
    try:
        value = json.loads(position)
    except ValueError as error:
        raise ConfigError(f"{position!r} is no JSON ({error}): text stands in double quotes, as in '\"abc\"'") from None
    if value is None:
        raise ConfigError("null is no position: `millrace checkpoint reset` takes the checkpoint away")
    _move(flow, value, flows, yes=yes, dry_run=dry_run, any_project=any_project)


@app.command(epilog="Example: `millrace checkpoint reset orders --dry-run`")
def reset(
    flow: FlowArgument,
    flows: FlowsOption = None,
    yes: YesOption = False,
    dry_run: DryOption = False,
    any_project: AnyProjectOption = False,
) -> None:
    """Takes the checkpoint away: the source is read from its beginning. A producer that runs starts over from there."""
    _move(flow, None, flows, yes=yes, dry_run=dry_run, any_project=any_project)


def _move(flow: str, position: Any, flows: Any, *, yes: bool, dry_run: bool, any_project: bool) -> None:
    chosen, queue = queue_to_change(flow, flows, any_project=any_project)
    now = checkpoint_of(chosen, queue)
    meaning = meaning_of(chosen, position)
    was = "none" if now.position is None else json.dumps(now.position, ensure_ascii=False)
    becomes = "none" if position is None else json.dumps(position, ensure_ascii=False)
    sys.stdout.write(f"position  {was}\nbecomes   {becomes}\nmeaning   {meaning}\n")
    if dry_run:
        sys.stdout.write("nothing was changed\n")
        return
    sys.stdout.flush()
    if agreed(f"Move the checkpoint of {flow}?", yes=yes):
        before = move_checkpoint(chosen, queue, position)
        sys.stdout.write(f"moved; it was {'none' if before is None else json.dumps(before, ensure_ascii=False)}\n")
