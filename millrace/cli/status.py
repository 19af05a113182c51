"""`millrace status`: where every record is."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from millrace.ages import age
from millrace.cli.asked import Asked
from millrace.cli.books import read_books, read_crawl_progress, read_crawls, read_missing, read_troubles
from millrace.cli.flowsfile import FlowsOption, NamesArgument, choose_lists, choose_shown, settings_with
from millrace.cli.tables import console_for_all, table
from millrace.equation import crawl_line, delays
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import Books

app = typer.Typer()

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.command(epilog="Example: `millrace status --json | jq '.[].lag'`")
def status(names: NamesArgument = None, flows: FlowsOption = None, as_json: JsonOption = False) -> None:
    """Shows for each flow what is ready, in flight, dead and delivered, and how old the oldest record is.

    Below that stands what is paused, by whom, how far a crawl has come, and what goes wrong, and since when: a source
    that can't be read, a sink that a batch waits for, a sink with `required: false` that takes nothing.

    Standard error names the Redis that was asked, and each list on it that is another project's.

    Exit codes: 0 shown; 2 the flow is wrong; 4 Redis doesn't answer.
    """
    settings = settings_with(flows)
    chosen = choose_shown(settings, names or [])
    asked = Asked.of(settings)
    asked.say_whose(choose_lists(settings, names or []))
    books = {flow.name: (flow, read_books(asked.settings, flow)) for flow in chosen}
    troubles = {flow.name: read_troubles(asked.settings, flow) for flow in chosen}
    missing = {flow.name: read_missing(asked.settings, flow) for flow in chosen}
    progress = {flow.name: read_crawl_progress(asked.settings, flow) for flow in chosen}
    crawls = {flow.name: read_crawls(asked.settings, flow) for flow in chosen}
    if as_json:
        rows_of = {
            name: {
                "key": flow.queue.key,
                **found.as_dict(),
                "troubles": msgspec.to_builtins(troubles[name]),
                "missing": msgspec.to_builtins(missing[name]),
                "crawl_progress": msgspec.to_builtins(progress[name]),
                "crawls": [crawl.as_dict() for crawl in crawls[name]],
            }
            for name, (flow, found) in books.items()
        }
        _print_json(rows_of)
        return
    screen = console_for_all(highlight=True)
    rows = table("flow")
    aside = [column for column in ("delayed", "dead", "variants") if _is_shown(column, books)]
    for column in ("ready", "in flight", "oldest", *aside, "published", "delivered", "filtered"):
        rows.add_column(column, justify="right")
    for name, (_, found) in books.items():
        rows.add_row(
            name,
            *(f"{count:,}" for count in (found.ready, found.in_flight)),
            age(found.oldest_seconds) if found.lag else "–",
            *(f"{getattr(found, column):,}" for column in aside),
            *(f"{count:,}" for count in (found.published + found.foreign, found.delivered, found.filtered)),
        )
    screen.print(rows)
    for name, (flow, found) in books.items():
        if flow.queue.partitions > 1:
            continue  # its partitions say it
        for part, pause in found.paused.items():
            _say(screen, f"{name}: {part} {pause}; `millrace resume {name}` has them go on")
        if progress[name]:
            _say(screen, f"{name}: crawls: {progress[name]}")
        for crawl in crawls[name]:
            _say(screen, f"{name}: {crawl_line(crawl)}" + (f"; {crawl.paused}" if crawl.paused else ""))
        for trouble in troubles[name]:
            _say(
                screen,
                f"{name}: {trouble.part} fails since {_moment(trouble.since_seconds)} ({age(trouble.since_seconds)}), "
                f"last {age(trouble.last_seconds)} ago: {trouble.reason}",
            )
        for one in missing[name]:
            seconds = max(0.0, found.moment - one.since)
            since = f"since {_moment(seconds)} ({age(seconds)})"
            _say(screen, f"{name}: sink {one.sink} takes nothing {since}, and misses {one.records:,}: {one.reason}")
        if words := delays(found):
            _say(screen, f"{name}: {words}")
        for lease in found.leases:
            if lease.delayed:
                continue
            _say(
                screen,
                f"{name}: batch {lease.batch}, {lease.records:,} records, held by {lease.consumer} "
                f"for {age(lease.age_seconds)}, attempt {lease.attempts}" + (f": {lease.note}" if lease.note else ""),
            )


def _is_shown(column: str, books: Mapping[str, tuple[Flow, Books]]) -> bool:
    """Return True for what always is, and for what there are some of."""
    return column == "dead" or any(getattr(found, column) for _, found in books.values())


def _say(screen: Console, line: str) -> None:
    screen.print(line, highlight=False, markup=False, soft_wrap=True)


def _moment(seconds_ago: float) -> str:
    return f"{datetime.now(UTC) - timedelta(seconds=seconds_ago):%Y-%m-%d %H:%M:%S} UTC"


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
