"""`millrace check` and `millrace schema`: is `flows.yaml` right, and what may stand in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from millrace.cli.asked import Asked
from millrace.cli.services import FlowsOption, settings_with
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.component import Component
from millrace_pipeline.flows.flow import Flow, Flows, load
from millrace_pipeline.flows.problem import all_of
from millrace_pipeline.flows.reference import Reference, load_model, load_transform
from millrace_pipeline.flows.validation import told

if TYPE_CHECKING:
    from pydantic import BaseModel

    from millrace_consumer.sinks.base import Sink

app = typer.Typer()


@app.command(epilog="Example: `millrace check --connect`")
def check(
    flows: FlowsOption = None,
    connect: Annotated[bool, typer.Option("--connect", help="Also look at the Redis it would use.")] = False,
) -> None:
    """Checks the flows file down to each option and import, without running anything.

    Errors name file, line, column, field, and what was expected.
    Exit codes: 0 all is well (there may be warnings); 1 this Redis is not usable; 2 the file is wrong.
    """
    settings = settings_with(flows)
    loaded = load_all(settings.flows)
    console = Console(highlight=False)
    _show(console, loaded)
    if not connect:
        return
    asked = Asked(settings)
    if not _look_at_redis(console, asked.settings.url):
        sys.exit(1)
    asked.say_whose(loaded.values())


@app.command(epilog="Example: `millrace schema > flows.schema.json`")
def schema() -> None:
    """Prints the JSON Schema of flows.yaml, for editors.

    Exit codes: 0 printed; 2 a source or a sink that an installed package adds can't be imported.
    """
    sys.stdout.write(json.dumps(flows_schema(), indent=2, ensure_ascii=False) + "\n")


def load_all(path: Path) -> Flows:
    """The flows of a file, every source, sink, transform and model of them made once to see that it can be.

    Raises ConfigError with all that is wrong in the file.
    """
    return load(path, examine=_make)


def build_all(flows: Iterable[Flow]) -> None:
    """Makes every source, sink, transform and model of these flows. Raises ConfigError with all that is wrong."""
    errors: list[ConfigError] = []
    for flow in flows:
        for make in (_make_source, _make_sink, _make_transforms):
            try:
                make(flow)
            except ConfigError as error:
                errors.append(error)
    if errors:
        raise all_of(errors)


def _make(part: Component | Reference | Flow) -> object:
    """One part of a flow by itself, or what fits together only in the whole of it: the sink and the model.

    The tables are imported here, as only a command knows both services.
    """
    if isinstance(part, Flow):
        _make_sink(part)
        _make_transforms(part)
        return part
    if isinstance(part, Reference):
        return load_model(part) if part.steps[-1] == "model" else load_transform(part)
    if part.part == "source":
        from millrace_producer.sources import SOURCES
        from millrace_producer.sources.base import Source

        return part.build(SOURCES, Source)
    if part.part == "transforms":
        from millrace_consumer.transforms import TRANSFORMS
        from millrace_consumer.transforms.base import Transform

        return part.build(TRANSFORMS, Transform)
    from millrace_consumer.sinks import SINKS
    from millrace_consumer.sinks.base import Sink

    return part.build(SINKS, Sink)


def _make_source(flow: Flow) -> None:
    _make(flow.source)


def _make_transforms(flow: Flow) -> None:
    from millrace_consumer.transforms import TRANSFORMS
    from millrace_consumer.transforms.base import Transform

    names: frozenset[str] = frozenset()
    for given, transform in zip(flow.transforms, flow.load_transforms(TRANSFORMS, Transform), strict=True):
        try:
            names = transform.names_after(names) if isinstance(transform, Transform) else frozenset()
        except ValueError as error:
            assert isinstance(given, Component)
            raise given.error(f"no record passes: {error}") from error


def _make_sink(flow: Flow) -> None:
    from millrace_consumer.fanout import sink_of
    from millrace_consumer.sinks import SINKS
    from millrace_consumer.sinks.base import Sink

    model = flow.load_model()
    for part in flow.sink.each:
        _check_sink(part, part.build(SINKS, Sink), model)
    if len(flow.sink.each) > 1:
        _check_sink(flow.sink, sink_of(flow), model)


def _check_sink(part: Component, sink: Sink, model: type[BaseModel] | None) -> None:
    try:
        sink.check(model)
    except ConfigError as error:
        message = str(error)
    except Exception as error:  # of a sink of the user's own, or of the file system
        message = f"can't be used: {told(error)}"
    else:
        return
    raise part.error(message)


def _show(console: Console, flows: Flows) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("flow", "source", "list", "transforms", "model", "sink"):
        table.add_column(column, overflow="fold")
    for name, flow in flows.items():
        row = (
            name,
            flow.source.type,
            flow.queue.key,
            ", ".join(flow.transform_names) or "–",
            (flow.model or "–").rpartition(":")[2],
            flow.sink.type,
        )
        table.add_row(*map(escape, row))
    console.print(table)
    count = "1 flow" if len(flows) == 1 else f"{len(flows)} flows"
    console.print(f"\n[green]{escape(str(flows.path))}: {count} OK[/green]", soft_wrap=True)


def _look_at_redis(console: Console, url: str) -> bool:
    """Prints what there is to say of the Redis at this address; whether it will do."""
    from millrace_pipeline.redis.preflight import preflight

    console.print()
    marks = {
        "ok": "[green]ok     [/green]",
        "warning": "[yellow]warning[/yellow]",
        "error": "[bold red]error  [/bold red]",
    }
    findings = preflight(url)
    for finding in findings:
        console.print(f"{marks[finding.level]} {escape(finding.message)}", soft_wrap=True)
        if finding.mend:
            console.print(f"        {finding.mend}", style="dim", markup=False, soft_wrap=True)
    return all(finding.level != "error" for finding in findings)


def flows_schema() -> dict[str, Any]:
    """JSON Schema of a flows file, with the options of every source, sink and transform that Millrace knows."""
    from millrace_consumer.sinks import SINKS
    from millrace_consumer.transforms import TRANSFORMS
    from millrace_pipeline.flows.schema import schema as schema_of
    from millrace_producer.sources import SOURCES

    return schema_of(SOURCES, SINKS, TRANSFORMS)
