"""`millrace variants`: look at what a flow's contract set aside, let it pass after all, or drop it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

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
)
from millrace.cli.services import FlowsOption
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.queue import Variant, Variants

app = typer.Typer(no_args_is_help=True, help="Variants: records that a flow's contract set aside (docs/flows.md).")

IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Records' ids, as `ls` shows them.")]


@app.command("ls", epilog="Example: `millrace variants ls wikipedia --reason 'meta.id'`")
def list_variants(
    flow: FlowArgument,
    flows: FlowsOption = None,
    reason: ReasonOption = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Lists variants, newest first."""
    variants = _variants(flow, flows)
    found = [variant for variant, _ in zip(variants.newest(reason=reason), range(limit), strict=False)]
    if as_json:
        sys.stdout.write(json.dumps(list(map(_as_json, found)), indent=2, ensure_ascii=False) + "\n")
        return
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("id", no_wrap=True, min_width=15)
    table.add_column("time", no_wrap=True, min_width=19)
    table.add_column("reason", overflow="ellipsis", no_wrap=True)
    for variant in found:
        moment = variant.time
        table.add_row(variant.envelope.id, f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "–", variant.reason)
    console.print(table)
    console.print(f"\n{len(variants):,} variants in all. `millrace variants export {flow}` prints them.", style="dim")


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
