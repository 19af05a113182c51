"""`millrace dead`: look at dead letters, put them back, mend or drop them."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from millrace.cli.asked import AnyProjectOption, Asked
from millrace.cli.completion import flow_names
from millrace.cli.flowsfile import FlowsOption, choose_list, choose_lists, settings_with
from millrace.cli.tables import console_for_all, table
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.units import seconds
from millrace_pipeline.queue import DeadLetters, Session, SetAside, Variant

app = typer.Typer(
    no_args_is_help=True,
    help="Dead letters: look at them, put them back, mend or drop them.\n\n"
    "Exit codes: 0 done; 2 the flow, the id or the command is wrong; 4 Redis doesn't answer.",
)

FlowArgument = Annotated[str, typer.Argument(help="The flow.", autocompletion=flow_names)]
IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Letters, as `ls` shows them.")]
ReasonOption = Annotated[str, typer.Option(help="Only those whose reason holds these words.")]
SinceOption = Annotated[str | None, typer.Option(help="Only those set aside within this time: 10m, 2h, 7d.")]
AllOption = Annotated[bool, typer.Option("--all", help="All that the filters let through.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
ID = re.compile(r"\d+-\d+")


@app.command("ls", epilog="Example: `millrace dead ls wikipedia --reason model --since 2h`")
def list_letters(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[FLOW]...", help="Default: every flow.", autocompletion=flow_names)
    ] = None,
    flows: FlowsOption = None,
    reason: ReasonOption = "",
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many of each flow.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Lists dead letters, newest first: of one flow, of several, or of all.

    Exit codes: 0 listed; 2 the flow or the command is wrong; 4 Redis doesn't answer.
    """
    after = _since(since)
    found: dict[str, list[SetAside]] = {}
    counts: dict[str, int] = {}
    for flow, queue in queues_to_look_at(names or [], flows):
        letters = DeadLetters(queue)
        found[flow] = list(islice(letters.newest(since=after, reason=reason), limit))
        counts[flow] = len(letters)
    several = len(found) > 1
    if as_json:
        shown = [
            {**({"flow": flow} if several else {}), **_as_json(letter)}
            for flow, chosen in found.items()
            for letter in chosen
        ]
        sys.stdout.write(json.dumps(shown, indent=2, ensure_ascii=False) + "\n")
        return
    screen, rows = console_for_all(), table(*(["flow"] if several else []))
    rows.add_column("id", no_wrap=True, min_width=15)
    rows.add_column("set aside", no_wrap=True, min_width=19)
    rows.add_column("bytes", justify="right", min_width=6)
    rows.add_column("reason", overflow="ellipsis", no_wrap=True)
    for flow, chosen in found.items():
        for letter in chosen:
            cells = (letter.id, f"{letter.time:%Y-%m-%d %H:%M:%S}", f"{len(letter.record):,}", escape(letter.reason))
            rows.add_row(*([flow] if several else []), *cells)
    screen.print(rows)
    screen.print()
    for flow, count in counts.items():
        which = f"{flow}: " if several else ""
        more = f" `millrace dead show {flow} ID` shows one." if count else ""
        screen.print(f"{which}{count:,} dead letters in all.{more}", style="dim", markup=False, soft_wrap=True)


@app.command(epilog="Example: `millrace dead show wikipedia 1763692800000-0`")
def show(flow: FlowArgument, id: Annotated[str, typer.Argument(metavar="ID")], flows: FlowsOption = None) -> None:
    """Shows one dead letter whole; its record goes to standard output byte for byte, the rest to standard error."""
    letter = _one(_letters(flow, flows), flow, id)
    sys.stderr.write(
        f"reason    {letter.reason}\nset aside {letter.time:%Y-%m-%d %H:%M:%S} UTC\n"
        f"attempts  {letter.attempts}\nbatch     {letter.batch or '(never claimed)'}\n\n"
    )
    sys.stderr.flush()
    sys.stdout.buffer.write(letter.record + b"\n")


@app.command(epilog="Example: `millrace dead replay wikipedia --reason 'model' --all`")
def replay(
    flow: FlowArgument,
    ids: IdsArgument = None,
    flows: FlowsOption = None,
    every: AllOption = False,
    reason: ReasonOption = "",
    since: SinceOption = None,
    yes: YesOption = False,
    dry_run: DryOption = False,
    any_project: AnyProjectOption = False,
) -> None:
    """Puts records back on the list, to be delivered next. They keep their ids."""
    letters = DeadLetters(queue_to_change(flow, flows, any_project=any_project))
    chosen = _choose(letters, flow, ids, every=every, reason=reason, since=since)
    if confirmed("put back on the list", chosen, yes=yes, dry_run=dry_run):
        # Oldest first at the end, since each goes to the head of the queue.
        done = sum(letters.replay(letter) for letter in chosen)
        sys.stdout.write(f"{done} put back on the list\n")


@app.command(epilog="Example: `millrace dead drop wikipedia --since 30d --all --yes`")
def drop(
    flow: FlowArgument,
    ids: IdsArgument = None,
    flows: FlowsOption = None,
    every: AllOption = False,
    reason: ReasonOption = "",
    since: SinceOption = None,
    yes: YesOption = False,
    dry_run: DryOption = False,
    any_project: AnyProjectOption = False,
) -> None:
    """Throws dead letters away for good. They count as discarded from then on."""
    letters = DeadLetters(queue_to_change(flow, flows, any_project=any_project))
    chosen = _choose(letters, flow, ids, every=every, reason=reason, since=since)
    if confirmed("thrown away", chosen, yes=yes, dry_run=dry_run):
        sys.stdout.write(f"{sum(map(letters.drop, chosen))} thrown away\n")


@app.command(epilog="Example: `millrace dead edit wikipedia 1763692800000-0`")
def edit(
    flow: FlowArgument,
    id: Annotated[str, typer.Argument(metavar="ID")],
    flows: FlowsOption = None,
    any_project: AnyProjectOption = False,
) -> None:
    """Opens the record in $EDITOR; if you change it, puts what you saved back on the list."""
    letters = DeadLetters(queue_to_change(flow, flows, any_project=any_project))
    letter = _one(letters, flow, id)
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
        file = Path(folder) / "record.json"
        file.write_bytes(letter.record)
        if subprocess.run([*shlex.split(editor), str(file)], check=False).returncode != 0:
            raise ConfigError(f"{editor} failed: nothing was changed; set EDITOR to another")
        edited = file.read_bytes().strip()
    if edited == letter.record.strip():
        sys.stdout.write("not changed: it stays a dead letter\n")
    elif letters.replay(letter, edited=edited):
        sys.stdout.write("put back on the list as edited\n")


@app.command(epilog="Example: `millrace dead export wikipedia > dead.jsonl`")
def export(flow: FlowArgument, flows: FlowsOption = None, reason: ReasonOption = "", since: SinceOption = None) -> None:
    """Prints dead letters as JSON Lines, newest first; a record that is no text as base64."""
    for letter in _letters(flow, flows).newest(since=_since(since), reason=reason):
        sys.stdout.write(json.dumps(_as_json(letter), ensure_ascii=False) + "\n")


def _letters(flow: str, flows: Path | None) -> DeadLetters:
    return DeadLetters(queue_to_look_at(flow, flows))


def queue_to_look_at(flow: str, flows: Path | None) -> Session:
    """The flow's queue, after saying which Redis it is on and whether it is another project's.

    Raises ConfigError where the flow has several lists.
    """
    choose_list(settings_with(flows), flow)
    ((_, queue),) = queues_to_look_at([flow], flows)
    return queue


def queues_to_look_at(names: list[str], flows: Path | None) -> Iterator[tuple[str, Session]]:
    """The queues of these flows, or of all, by the flow's name; as `queue_to_look_at`."""
    settings = settings_with(flows)
    chosen = choose_lists(settings, names)
    asked = Asked.of(settings)
    asked.say_whose(chosen)
    for flow in chosen:
        yield flow.name, asked.queue(flow)


def queue_to_change(flow: str, flows: Path | None, *, any_project: bool) -> Session:
    """The flow's queue, after saying which Redis it is on. Raises ConfigError where it is another project's."""
    settings = settings_with(flows)
    chosen = choose_list(settings, flow)
    asked = Asked.of(settings)
    queue = asked.queue(chosen)
    asked.may_change(chosen, queue, any_project=any_project)
    return queue


def _one(letters: DeadLetters, flow: str, id: str) -> SetAside:
    letter = letters.get(id) if ID.fullmatch(id) else None
    if letter is None:
        raise ConfigError(f"no dead letter {id!r} in flow {flow}: `millrace dead ls {flow}` lists them")
    return letter


def _choose(
    letters: DeadLetters, flow: str, ids: list[str] | None, *, every: bool, reason: str, since: str | None
) -> list[SetAside]:
    if bool(ids) == every:
        raise ConfigError("say which: one or more ids, or --all (with --reason and --since, if you like)")
    if ids:
        return [_one(letters, flow, id) for id in ids]
    return list(letters.newest(since=_since(since), reason=reason))


def confirmed(what: str, chosen: Sequence[SetAside | Variant], *, yes: bool, dry_run: bool) -> bool:
    """Says how many there are of each reason; whether they may be done with."""
    reasons: dict[str, int] = {}
    for letter in chosen:
        reasons[letter.reason] = reasons.get(letter.reason, 0) + 1
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1])[:10]:
        sys.stdout.write(f"{count:>7,}  {reason}\n")
    if dry_run or not chosen:
        sys.stdout.write(f"{len(chosen):,} would be {what}\n" if dry_run else "there are none\n")
        return False
    return yes or len(chosen) == 1 or typer.confirm(f"{len(chosen):,} will be {what}. Go on?")


def _since(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.now(UTC) - timedelta(seconds=seconds(text))
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"--since {text}: {error}") from None


def _as_json(letter: SetAside) -> dict[str, Any]:
    return {
        "id": letter.id,
        "time": letter.time.isoformat(),
        "reason": letter.reason,
        "attempts": letter.attempts,
        "batch": letter.batch,
        **dict(_record(letter.record)),
    }


def _record(record: bytes) -> Iterator[tuple[str, str]]:
    try:
        yield "record", record.decode()
    except UnicodeDecodeError:
        yield "record_base64", base64.b64encode(record).decode()
