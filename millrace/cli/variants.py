"""`millrace variants`: look at what a flow's contract set aside, let it pass after all, or drop it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from millrace.cli.asked import AnyProjectOption
from millrace.cli.dead import (
    AllOption,
    DryOption,
    FlowArgument,
    ReasonOption,
    YesOption,
    confirmed,
    queue_to_change,
    queue_to_look_at,
    queues_to_look_at,
)
from millrace.cli.flowsfile import FlowsOption
from millrace.cli.tables import console_for_all, table
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.queue import Variant, Variants

app = typer.Typer(
    no_args_is_help=True,
    help="Variants: records that a flow's contract set aside (docs/flows.md).\n\n"
    "Exit codes: 0 done; 2 the flow, the id or the command is wrong; 4 Redis doesn't answer.",
)

IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Records' ids, as `ls` shows them.")]


@app.command("ls", epilog="Example: `millrace variants ls wikipedia --reason 'meta.id'`")
def list_variants(
    names: Annotated[list[str] | None, typer.Argument(metavar="[FLOW]...", help="Default: every flow.")] = None,
    flows: FlowsOption = None,
    reason: ReasonOption = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many of each flow.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Lists variants, newest first: of one flow, of several, or of all.

    Exit codes: 0 listed; 2 the flow or the command is wrong; 4 Redis doesn't answer.
    """
    found: dict[str, list[Variant]] = {}
    counts: dict[str, int] = {}
    for flow, queue in queues_to_look_at(names or [], flows):
        variants = Variants(queue)
        found[flow] = list(islice(variants.newest(reason=reason), limit))
        counts[flow] = len(variants)
    several = len(found) > 1
    if as_json:
        shown = [
            {**({"flow": flow} if several else {}), **_as_json(variant)}
            for flow, chosen in found.items()
            for variant in chosen
        ]
        sys.stdout.write(json.dumps(shown, indent=2, ensure_ascii=False) + "\n")
        return
    screen, rows = console_for_all(), table(*(["flow"] if several else []))
    rows.add_column("id", no_wrap=True, min_width=15)
    rows.add_column("time", no_wrap=True, min_width=19)
    rows.add_column("reason", overflow="ellipsis", no_wrap=True)
    for flow, chosen in found.items():
        for variant in chosen:
            moment = variant.time
            cells = (variant.envelope.id, f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "–", escape(variant.reason))
            rows.add_row(*([flow] if several else []), *cells)
    screen.print(rows)
    screen.print()
    for flow, count in counts.items():
        which = f"{flow}: " if several else ""
        more = f" `millrace variants export {flow}` prints them." if count else ""
        screen.print(f"{which}{count:,} variants in all.{more}", style="dim", markup=False, soft_wrap=True)


@app.command(epilog="Example: `millrace variants export wikipedia | millrace test wikipedia`")
def export(flow: FlowArgument, flows: FlowsOption = None, reason: ReasonOption = "") -> None:
    """Prints the data of variants as JSON Lines, newest first: what the source yielded."""
    for variant in _variants(flow, flows).newest(reason=reason):
        sys.stdout.buffer.write(variant.envelope.text + b"\n")


@app.command(epilog="Example: `millrace variants replay wikipedia --all --yes`")
def replay(
    flow: FlowArgument,
    ids: IdsArgument = None,
    flows: FlowsOption = None,
    every: AllOption = False,
    reason: ReasonOption = "",
    yes: YesOption = False,
    dry_run: DryOption = False,
    any_project: AnyProjectOption = False,
) -> None:
    """Puts variants on the list after all, past the contract, each under its own id; they are delivered next."""
    variants = Variants(queue_to_change(flow, flows, any_project=any_project))
    _each(variants, variants.replay, "put on the list", flow, ids, every, reason, yes, dry_run)


@app.command(epilog="Example: `millrace variants drop wikipedia --all --reason 'Extra inputs'`")
def drop(
    flow: FlowArgument,
    ids: IdsArgument = None,
    flows: FlowsOption = None,
    every: AllOption = False,
    reason: ReasonOption = "",
    yes: YesOption = False,
    dry_run: DryOption = False,
    any_project: AnyProjectOption = False,
) -> None:
    """Throws variants away for good. They count as discarded from then on."""
    variants = Variants(queue_to_change(flow, flows, any_project=any_project))
    _each(variants, variants.drop, "thrown away", flow, ids, every, reason, yes, dry_run)


def _variants(flow: str, flows: Path | None) -> Variants:
    return Variants(queue_to_look_at(flow, flows))


def _each(
    variants: Variants,
    do: Callable[[Variant], bool],
    what: str,
    flow: str,
    ids: list[str] | None,
    every: bool,
    reason: str,
    yes: bool,
    dry_run: bool,
) -> None:
    if bool(ids) == every:
        raise ConfigError("say which: one or more ids, or --all (with --reason, if you like)")
    chosen = list(variants.newest(reason=reason, ids=frozenset(ids) if ids else None))
    if ids and (missing := set(ids) - {variant.envelope.id for variant in chosen}):
        raise ConfigError(f"no variant {min(missing)!r} in flow {flow}: `millrace variants ls {flow}` lists them")
    if confirmed(what, chosen, yes=yes, dry_run=dry_run):
        done = sum(map(do, chosen))
        sys.stdout.write(f"{done:,} {what}\n")


def _as_json(variant: Variant) -> dict[str, str | None]:
    envelope = variant.envelope
    return {"id": envelope.id, "time": envelope.time, "reason": variant.reason, "record": envelope.text.decode()}
