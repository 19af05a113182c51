"""`millrace history`: what moved in a flow, minute by minute, hour by hour, day by day."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import Annotated, Literal

import msgspec
import typer
from rich.filesize import decimal

from millrace.cli.asked import Asked
from millrace.cli.completion import flow_names
from millrace.cli.flowsfile import FlowsOption, choose_list, settings_with
from millrace.cli.status import JsonOption
from millrace.cli.tables import console_for_all, table
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows import units
from millrace_pipeline.queue.history import MOVED
from millrace_pipeline.queue.spans import Span, read_notes, spans

app = typer.Typer()

By = Literal["10s", "minute", "hour", "day"]
SECONDS: dict[By, int] = {"10s": 10, "minute": 60, "hour": 3600, "day": 24 * 3600}

CLOCKS: dict[By, tuple[str, str]] = {
    "10s": ("UTC", "%H:%M:%S"),
    "minute": ("UTC", "%H:%M"),
    "hour": ("UTC", "%d %b %H:00"),
    "day": ("day", "%Y-%m-%d"),
}
"""How the start of a span is headed and written."""

MOST_ROWS = 60
"""Where nobody says how, the finest step is taken that gives no more rows."""


@app.command(epilog="Example: `millrace history wikipedia --since 2h`")
def history(
    flow: Annotated[str, typer.Argument(help="The flow.", autocompletion=flow_names)],
    since: Annotated[str, typer.Option(help="How far back: 90s, 10m, 2h, 30d.")] = "1h",
    by: Annotated[By | None, typer.Option(help="One row for so long. Default: as gives 60 rows or fewer.")] = None,
    flows: FlowsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Shows what was published, delivered, filtered and set aside in each minute, hour or day, and what waited then.

    Redis keeps it beside the flow's list: every 10 seconds of the last hour, every minute of a day, every hour of 90
    days, every day of two years. Times are UTC. Sums agree with `millrace verify`, to the record.

    Exit codes: 0 shown; 2 the flow is wrong; 4 Redis doesn't answer.
    """
    settings = settings_with(flows)
    chosen = choose_list(settings, flow)
    try:
        seconds = units.seconds(since)
    except ValueError as error:
        raise ConfigError(f"--since {since}: {error}") from None
    step = by or _step(seconds)
    asked = Asked.of(settings)
    asked.say_whose([chosen])
    queue = asked.queue(chosen)
    try:
        notes = read_notes(queue)
    finally:
        queue.close()
    found = spans(notes, notes[-1].moment - seconds, SECONDS[step])
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
        return
    _print(chosen.name, found, step)


def _step(seconds: float) -> By:
    return next((step for step, long in SECONDS.items() if seconds <= long * MOST_ROWS), "day")


def _print(name: str, found: list[Span], by: By) -> None:
    """Print a row for each span in which something moved, and one for each time of quiet."""
    screen = console_for_all()
    if not any(map(_moved, found)):
        screen.print(f"{name}: nothing has moved in this time", markup=False)
        return
    rows = table(CLOCKS[by][0])
    for column in ("published", "delivered", "filtered", "dead", "ready", "in flight", "read", "written"):
        rows.add_column(column, justify="right")
    for moving, group in groupby(found, key=_moved):
        for span in list(group) if moving else [next(group)]:
            counts = (span.published + span.foreign, span.delivered, span.filtered) if moving else ()
            told = [f"{count:,}" for count in counts] or ["–"] * 3
            told += [f"{count:,}" for count in (span.dead, span.ready, span.in_flight)]
            told += [decimal(count) if moving else "–" for count in (span.bytes_in, span.bytes_out)]
            rows.add_row(f"{span.start:{CLOCKS[by][1]}}" + ("" if moving else " …"), *told)
    screen.print(rows)
    published, delivered, filtered = (
        sum(getattr(span, counted) for span in found) for counted in ("published", "delivered", "filtered")
    )
    screen.print(f"{published:,} published, {delivered:,} delivered, {filtered:,} filtered in this time", markup=False)


def _moved(span: Span) -> bool:
    return any(getattr(span, counted) for counted in MOVED)
