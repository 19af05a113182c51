"""`millrace check` and `millrace schema`: is `flows.yaml` right, and what may stand in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from millrace.cli.examine import build_all as build_all
from millrace.cli.examine import doubts
from millrace.cli.examine import load_all as load_all
from millrace.cli.exits import FAILED
from millrace.cli.flowsfile import FlowsOption, NamesArgument, choose, settings_with
from millrace.cli.tables import console_for_all, table
from millrace_pipeline.flows.flow import Flow, Flows

app = typer.Typer()


@app.command(epilog="Example: `millrace check --connect`")
def check(
    names: NamesArgument = None,
    flows: FlowsOption = None,
    connect: Annotated[
        bool, typer.Option("--connect", help="Also try the Redis, the sources and the sinks, changing nothing.")
    ] = False,
) -> None:
    """Checks the flows file down to each option and import, without running anything.

    Errors name file, line, column, field, and what was expected. With names, only these flows' parts are made. Each
    service does the same with its own half before it begins.

    --connect says of the Redis, and of each source and sink, what it answered, or that it wasn't tried as that would
    take or write something. Each has ten seconds.

    Exit codes: 0 all is well (there may be warnings); 1 the Redis, a source or a sink is not usable; 2 the file is
    wrong.
    """
    settings = settings_with(flows)
    wanted = names or []
    if wanted:
        choose(settings, wanted)
    loaded = load_all(settings.flows, wanted)
    chosen = [loaded[name] for name in wanted or loaded]
    console = console_for_all()
    _show(console, loaded, chosen)
    for doubt in doubts(chosen):
        _tell(console, "warning", doubt)
    if not connect:
        return
    from millrace.cli.asked import Asked

    asked = Asked.of(settings)
    well = _look_at_redis(console, asked.settings.url)
    well &= _try_all(console, chosen)
    if not well:
        sys.exit(FAILED)
    asked.say_whose(chosen)


@app.command(epilog="Example: `millrace schema > flows.schema.json`")
def schema() -> None:
    """Prints the JSON Schema of flows.yaml, for editors.

    Exit codes: 0 printed; 2 a source or a sink that an installed package adds can't be imported.
    """
    sys.stdout.write(json.dumps(flows_schema(), indent=2, ensure_ascii=False) + "\n")


def _show(console: Console, flows: Flows, chosen: Sequence[Flow]) -> None:
    rows = table()
    for column in ("flow", "source", "list", "transforms", "model", "sink"):
        rows.add_column(column, overflow="fold")
    for flow in chosen:
        row = (
            flow.name,
            flow.source.type,
            flow.queue.key,
            ", ".join(flow.transform_names) or "–",
            (flow.model or "–").rpartition(":")[2],
            flow.sink.type,
        )
        rows.add_row(*map(escape, row))
    console.print(rows)
    count = "1 flow" if len(chosen) == 1 else f"{len(chosen)} flows"
    console.print(f"\n[green]{escape(str(flows.path))}: {count} OK[/green]", soft_wrap=True)


def _look_at_redis(console: Console, url: str) -> bool:
    """Print what there is to say of the Redis at this address. Returns True where it will do."""
    from millrace_pipeline.redis.preflight import preflight

    console.print()
    findings = preflight(url)
    for finding in findings:
        _tell(console, finding.level, finding.message, finding.mend)
    return all(finding.level != "error" for finding in findings)


def _try_all(console: Console, flows: Sequence[Flow]) -> bool:
    """Print what the sources and sinks answer. Returns True where none of them failed to."""
    from millrace.cli.probing import probe_all

    well = True
    console.print()
    for told in probe_all(flows):
        _tell(console, told.level, f"{told.flow}: {told.part}: {told.message}")
        well &= told.level != "error"
    return well


MARKS = {
    "ok": "[green]ok     [/green]",
    "none": "[dim]–      [/dim]",
    "unknown": "[dim]unknown[/dim]",
    "warning": "[yellow]warning[/yellow]",
    "error": "[bold red]error  [/bold red]",
}


def _tell(console: Console, level: str, message: str, mend: str = "") -> None:
    console.print(f"{MARKS[level]} {escape(message)}", soft_wrap=True)
    if mend:
        console.print(f"        {mend}", style="dim", markup=False, soft_wrap=True)


def flows_schema() -> dict[str, Any]:
    """JSON Schema of a flows file, with the options of every source, sink and transform that Millrace knows.

    It is the same whichever extras are installed.
    """
    from millrace_consumer.sinks import SINKS
    from millrace_consumer.transforms import TRANSFORMS
    from millrace_pipeline.flows.schema import schema as schema_of
    from millrace_producer.sources import SOURCES

    return schema_of(SOURCES, SINKS, TRANSFORMS)
