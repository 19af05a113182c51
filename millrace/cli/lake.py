"""`millrace lake`: keep Delta tables in order."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.cli.asked import Asked
from millrace.cli.flowsfile import FlowsOption, choose, settings_with
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.flows.units import seconds, size_in_bytes
from millrace_pipeline.objectstore import is_url
from millrace_pipeline.queue import Session, books_of

if TYPE_CHECKING:
    from millrace_consumer.sinks.delta import DeltaSink

app = typer.Typer(
    no_args_is_help=True, help="Delta tables and Parquet: make few files of many, and remove what nobody needs."
)

NamesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[FLOW]...", help="Default: every flow with such a sink.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

HOUR = 3600


@app.command(epilog="Example: `millrace lake compact wikipedia --target 256MiB`")
def compact(
    names: NamesArgument = None,
    flows: FlowsOption = None,
    target: Annotated[str, typer.Option(help="About how large the files should become.")] = "128MiB",
    older_than: Annotated[
        str, typer.Option(help="Of Parquet: leave files alone that were written within this time.")
    ] = "10m",
    as_json: JsonOption = False,
) -> None:
    """Makes few large files of the many small ones that batches leave, within each partition.

    Of a Delta table it changes no row and may run beside consumers and readers; the old files stay until `millrace lake
    vacuum`, for readers of older versions.

    Of a directory of Parquet it may run beside consumers, and asks Redis which batches are in flight, to leave those
    alone. For a moment a reader sees rows twice; one that was killed then is ended by the next.

    Exit codes: 0 done; 1 the table or its store said no; 2 the flow or the command is wrong; 4 Redis doesn't answer.
    """
    try:
        size = size_in_bytes(target)
    except ValueError as error:
        raise ConfigError(f"--target {target}: {error}") from None
    try:
        age = seconds(older_than)
    except ValueError as error:
        raise ConfigError(f"--older-than {older_than}: {error}") from None
    said = {}
    for name, keep in _kept(names, flows, size, age):
        kept = said[name] = keep()
        if not as_json:
            sys.stdout.write(
                f"{name}: {_files(kept['files_before'])} of {_megabytes(kept['bytes_before'])} are now "
                f"{_files(kept['files_after'])} of {_megabytes(kept['bytes_after'])}\n"
            )
    if as_json:
        sys.stdout.write(json.dumps(said, indent=2) + "\n")


@app.command(epilog="Example: `millrace lake vacuum wikipedia --keep 7d --dry-run`")
def vacuum(
    names: NamesArgument = None,
    flows: FlowsOption = None,
    keep: Annotated[str, typer.Option(help="Keep what a version of this time needed; at least 1h.")] = "7d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Removes files that the table no longer names: replaced ones, and those of consumers killed before their commit.

    Older versions that need them can't be read any more. A file that a consumer is writing now is younger than an hour,
    and stays.

    Exit codes: 0 done; 1 the table or its store said no; 2 the flow or the command is wrong.
    """
    try:
        hours, rest = divmod(seconds(keep), HOUR)
    except ValueError as error:
        raise ConfigError(f"--keep {keep}: {error}") from None
    if hours < 1 or rest:
        raise ConfigError(f"--keep {keep}: expected whole hours, 1h or more: a consumer may be writing")
    said = {}
    for name, sink in _tables(names, flows):
        removed = said[name] = sink.table.vacuum(int(hours), dry_run=dry_run)
        if not as_json:
            sys.stdout.write(f"{name}: {_files(len(removed))} {'to remove' if dry_run else 'removed'}\n")
            if dry_run:
                sys.stdout.writelines(f"  {file}\n" for file in removed)
    if as_json:
        sys.stdout.write(json.dumps(said, indent=2) + "\n")


def _kept(
    names: list[str] | None, flows: FlowsOption, target: int, age: float
) -> Iterator[tuple[str, Callable[[], dict[str, int]]]]:
    """Yield the name of each place that can be compacted, and what does it. Raises ConfigError where there is none."""
    settings = settings_with(flows)
    chosen = choose(settings, names or [])
    parquet = [flow for flow in chosen if _has(flow, "parquet")]
    tables = [flow.name for flow in chosen if _has(flow, "delta") or (names and flow not in parquet)]
    if tables or not parquet:
        for name, sink in _tables(tables or names, flows):
            yield name, lambda sink=sink: sink.table.compact(target)._asdict()  # type: ignore[misc]
    if parquet:
        asked = Asked.of(settings)
        for flow in parquet:
            yield flow.name, lambda flow=flow: _compact_parquet(asked, flow, target, age)  # type: ignore[misc]


def _has(flow: Flow, type: str) -> bool:
    return any(part.type == type for part in flow.sink.each)


def _compact_parquet(asked: Asked, flow: Flow, target: int, age: float) -> dict[str, int]:
    from millrace_consumer.sinks import SINKS
    from millrace_consumer.sinks.base import Sink
    from millrace_consumer.sinks.compacting import Compacted, compact
    from millrace_consumer.sinks.parquet import ParquetSink

    queues = [asked.queue(part) for part in flow.lists]
    try:
        for one, queue in zip(flow.lists, queues, strict=True):
            asked.may_change(one, queue, any_project=False)
        if asked.never_heard_of(flow):
            raise ConfigError(
                f"{flow.name}: {asked.server} has never heard of it, so it can't say which batches are in flight. "
                "REDIS_URL names another"
            )
        done = Compacted()
        for part in flow.sink.each:
            sink = part.build(SINKS, Sink) if part.type == "parquet" else None
            if not isinstance(sink, ParquetSink):
                continue
            if is_url(sink.path):
                raise part.error("files in an object store can't be compacted: sink delta can", "path")
            if Path(sink.path).is_dir():
                done.add(compact(Path(sink.path), target, age, lambda: _in_flight(queues)))
        return done.as_dict()
    finally:
        for queue in queues:
            queue.close()


def _in_flight(queues: Sequence[Session]) -> list[str]:
    return [lease.batch for queue in queues for lease in books_of(queue).leases]


def _tables(names: list[str] | None, flows: FlowsOption) -> Iterator[tuple[str, DeltaSink]]:
    """The chosen flows' tables by the flow's name. Raises ConfigError where a named flow has none, or no flow has."""
    from millrace_consumer.sinks import SINKS
    from millrace_consumer.sinks.base import Sink
    from millrace_consumer.sinks.delta import DeltaSink

    found = 0
    for flow in choose(settings_with(flows), names or []):
        sinks = [part.build(SINKS, Sink) for part in flow.sink.each if names or part.type == "delta"]
        tables = [sink for sink in sinks if isinstance(sink, DeltaSink)]
        if names and not tables:
            types = ", ".join(part.type for part in flow.sink.each)
            raise ConfigError(f"{flow.name} writes to no Delta table: its sink is {types}")
        for number, sink in enumerate(tables, 1):
            found += 1
            yield flow.name if len(tables) == 1 else f"{flow.name} ({number})", sink
    if not found:
        raise ConfigError("no flow writes to a Delta table: none has `sink: {type: delta}`")


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number:,} files"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
