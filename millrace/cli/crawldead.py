"""`millrace crawl dead`: requests that were set aside, to look at, to fetch again or to drop."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from millrace.cli.asked import AnyProjectOption
from millrace.cli.changing import agreed, queue_to_change
from millrace.cli.completion import flow_names
from millrace.cli.dead import queue_to_look_at
from millrace.cli.flowsfile import FlowsOption
from millrace.cli.tables import console_for_all, table
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.queue import Session
from millrace_pipeline.queue.frontier import crawls_of
from millrace_pipeline.queue.frontier.dead import DeadRequest, DeadRequests

dead = typer.Typer(
    no_args_is_help=True,
    help="Requests that were set aside: look at them, fetch them again, or drop them.\n\n"
    "Exit codes: 0 done; 2 the flow, the crawl or the number is wrong; 4 Redis doesn't answer.",
)

FlowArgument = Annotated[str, typer.Argument(help="The flow.", autocompletion=flow_names)]
NumbersArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[NUMBER]...", help="Requests, as `ls` shows them.")
]
CrawlOption = Annotated[str | None, typer.Option("--crawl", help="The crawl's name, where the flow has several.")]
ReasonOption = Annotated[str, typer.Option(help="Only those whose reason holds these words.")]
AllOption = Annotated[bool, typer.Option("--all", help="All that the filter lets through.")]


@dead.command("ls", epilog="Example: `millrace crawl dead ls books --reason 503`")
def list_requests(
    flow: FlowArgument,
    flows: FlowsOption = None,
    crawl: CrawlOption = None,
    reason: ReasonOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Lists the dead requests of a crawl, newest first.

    Exit codes: 0 listed; 2 the flow or the crawl is wrong; 4 Redis doesn't answer.
    """
    queue = queue_to_look_at(flow, flows)
    found = _chosen(queue, flow, crawl, None, reason=reason, everything=True)
    if as_json:
        sys.stdout.write(json.dumps([_as_json(one) for one in found], indent=2, ensure_ascii=False) + "\n")
        return
    rows = table("number", "set aside", "attempts", "url", "reason")
    for one in found:
        moment = f"{one.time:%Y-%m-%d %H:%M:%S}"
        rows.add_row(one.number, moment, str(one.attempts), escape(one.url), escape(one.reason))
    console_for_all().print(rows)


@dead.command("show", epilog="Example: `millrace crawl dead show books 17`")
def show(
    flow: FlowArgument,
    number: Annotated[str, typer.Argument(help="The request, as `ls` shows it.")],
    flows: FlowsOption = None,
    crawl: CrawlOption = None,
) -> None:
    """Shows a dead request whole: why it was set aside, with the traceback, and what it asks for.

    Exit codes: 0 shown; 2 the flow, the crawl or the number is wrong; 4 Redis doesn't answer.
    """
    queue = queue_to_look_at(flow, flows)
    (one,) = _chosen(queue, flow, crawl, [number])
    sys.stdout.write(f"{one.time:%Y-%m-%d %H:%M:%S} UTC, attempt {one.attempts}: {one.reason}\n")
    sys.stdout.write(f"{one.traceback.rstrip()}\n" if one.traceback else "")
    sys.stdout.write(json.dumps(msgspec.json.decode(one.text), indent=2, ensure_ascii=False) + "\n")


@dead.command("replay", epilog="Example: `millrace crawl dead replay books --all`")
def replay(
    flow: FlowArgument,
    numbers: NumbersArgument = None,
    flows: FlowsOption = None,
    crawl: CrawlOption = None,
    reason: ReasonOption = "",
    everything: AllOption = False,
    any_project: AnyProjectOption = False,
) -> None:
    """Puts dead requests back on the frontier, their attempts begun anew. A crawl that is over goes on with them.

    Exit codes: 0 put back; 2 the flow, the crawl or a number is wrong; 4 Redis doesn't answer.
    """
    _, queue = queue_to_change(flow, flows, any_project=any_project)
    found = _chosen(queue, flow, crawl, numbers, reason=reason, everything=everything)
    done = DeadRequests(queue, named(queue, flow, crawl)).replay([one.number for one in found])
    sys.stdout.write(f"{flow}: {done:,} of {len(found):,} put back\n")


@dead.command("drop", epilog="Example: `millrace crawl dead drop books 17`")
def drop(
    flow: FlowArgument,
    numbers: NumbersArgument = None,
    flows: FlowsOption = None,
    crawl: CrawlOption = None,
    reason: ReasonOption = "",
    everything: AllOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    any_project: AnyProjectOption = False,
) -> None:
    """Throws dead requests away for good; they are never fetched then.

    Exit codes: 0 dropped; 2 the flow, the crawl or a number is wrong; 4 Redis doesn't answer.
    """
    _, queue = queue_to_change(flow, flows, any_project=any_project)
    found = _chosen(queue, flow, crawl, numbers, reason=reason, everything=everything)
    if agreed(f"Drop {len(found):,} requests of {flow} for good?", yes=yes):
        done = DeadRequests(queue, named(queue, flow, crawl)).drop([one.number for one in found])
        sys.stdout.write(f"{flow}: {done:,} of {len(found):,} dropped\n")


def named(queue: Session, flow: str, crawl: str | None) -> str:
    """Return the name of the crawl that is meant. Raises ConfigError where there is none, or several."""
    there = crawls_of(queue)
    if crawl in there:
        return crawl
    if crawl is None and len(there) == 1:
        return there[0]
    if not there:
        raise ConfigError(f"flow {flow} has no crawl that spiders share: `crawl: shared` in its source begins one")
    raise ConfigError(f"name a crawl of flow {flow} with --crawl: there is {', '.join(there)}")


def _chosen(
    queue: Session,
    flow: str,
    crawl: str | None,
    numbers: list[str] | None,
    *,
    reason: str = "",
    everything: bool = False,
) -> list[DeadRequest]:
    requests = DeadRequests(queue, named(queue, flow, crawl))
    if not numbers:
        if not (everything or reason):
            raise ConfigError("name requests, or --all, or a --reason")
        found = [one for one in requests if reason.casefold() in one.reason.casefold()]
        return sorted(found, key=lambda one: -one.at)
    chosen = []
    for number in numbers:
        one = requests.get(number) if number.isdigit() else None
        if one is None:
            raise ConfigError(f"no dead request {number!r} in flow {flow}: `millrace crawl dead ls {flow}` lists them")
        chosen.append(one)
    return chosen


def _as_json(one: DeadRequest) -> dict[str, object]:
    return {
        "number": one.number,
        "time": one.time.isoformat(timespec="milliseconds"),
        "reason": one.reason,
        "kind": one.kind,
        "attempts": one.attempts,
        "traceback": one.traceback,
        "request": msgspec.json.decode(one.text),
    }
