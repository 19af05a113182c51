"""`millrace crawl`: how the shared crawls of a flow stand, and what a person changes of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape

from millrace.ages import age
from millrace.cli.asked import AnyProjectOption
from millrace.cli.changing import agreed, queue_to_change
from millrace.cli.completion import flow_names
from millrace.cli.crawldead import dead, named
from millrace.cli.dead import queue_to_look_at, queues_to_look_at
from millrace.cli.flowsfile import FlowsOption
from millrace.cli.tables import console_for_all, table
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.queue.frontier import CrawlBooks, Frontier, Politeness, Waiting, crawl_books, crawls_of, print_of
from millrace_pipeline.queue.frontier.request import START
from millrace_pipeline.queue.frontier.steering import pause_crawl, restart_crawl, resume_crawl, stop_crawl
from millrace_pipeline.queue.frontier.walk import every_request

app = typer.Typer(
    no_args_is_help=True,
    help="Crawls that many spiders share: how they stand, more to fetch, what was set aside.\n\n"
    "Exit codes: 0 done; 2 the flow, the crawl or the command is wrong; 4 Redis doesn't answer.",
)
app.add_typer(dead, name="dead")

FlowArgument = Annotated[str, typer.Argument(help="The flow.", autocompletion=flow_names)]
CrawlOption = Annotated[
    str | None, typer.Option("--crawl", help="The crawl's name; it may be left out where the flow has one alone.")
]


@app.command(epilog="Example: `millrace crawl status books`")
def status(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[FLOW]...", help="Default: every flow.", autocompletion=flow_names)
    ] = None,
    flows: FlowsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Shows for each crawl what was found, where it is now, how fast it goes, and what fails.

    Exit codes: 0 shown; 1 the books of a crawl don't balance; 2 the flow or the command is wrong; 4 Redis doesn't
    answer.
    """
    found = {
        (flow, crawl): books
        for flow, queue in queues_to_look_at(names or [], flows)
        for crawl in crawls_of(queue)
        if (books := crawl_books(queue, crawl)) is not None
    }
    if as_json:
        shown = [{"flow": flow, **books.as_dict()} for (flow, _), books in found.items()]
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    elif not found:
        sys.stdout.write("no flow has a crawl that spiders share: `crawl: shared` in a scrapy source begins one\n")
    else:
        _print(found)
    sys.exit(1 if any(books.difference for books in found.values()) else 0)


@app.command(epilog="Example: `millrace crawl add books https://books.example/new --callback parse_book`")
def add(
    flow: FlowArgument,
    urls: Annotated[list[str] | None, typer.Argument(metavar="[URL]...", help="What to fetch.")] = None,
    flows: FlowsOption = None,
    crawl: CrawlOption = None,
    file: Annotated[Path | None, typer.Option(help="More of them, a line each; - is standard input.")] = None,
    callback: Annotated[str | None, typer.Option(help="The spider's method that gets the page; else parse.")] = None,
    priority: Annotated[int, typer.Option(help="Of one host the highest is fetched first.")] = 0,
    again: Annotated[bool, typer.Option("--again", help="Also what the crawl has seen.")] = False,
    any_project: AnyProjectOption = False,
) -> None:
    """Puts pages on the frontier of a crawl, which begins with them if it has not begun.

    What the crawl has seen is left out, by Scrapy's own fingerprint of a plain GET.

    Exit codes: 0 put; 2 the flow, the crawl or a URL is wrong; 4 Redis doesn't answer.
    """
    requests = [_request(url, callback, priority, again=again) for url in [*(urls or []), *_lines(file)]]
    if not requests:
        raise ConfigError("name URLs, or a --file of them")
    _, queue = queue_to_change(flow, flows, any_project=any_project)
    name = crawl or next(iter(crawls_of(queue)), "shared")
    frontier = Frontier(queue, name, politeness=Politeness())
    if frontier.begin({}, [START]):
        sys.stdout.write(f"{flow}: crawl {name} begins\n")
    new = frontier.offer(requests)
    sys.stdout.write(f"{flow}: {new:,} put on crawl {name}, {len(requests) - new:,} seen before\n")


@app.command(epilog="Example: `millrace crawl pause books --note 'at night only'`")
def pause(
    flow: FlowArgument,
    flows: FlowsOption = None,
    crawl: CrawlOption = None,
    note: Annotated[str, typer.Option(help="Why, for whoever looks.")] = "",
    any_project: AnyProjectOption = False,
) -> None:
    """Has no request of a crawl given out any more; what spiders have is finished.

    Exit codes: 0 paused, or was so before; 2 the flow or the crawl is wrong; 4 Redis doesn't answer.
    """
    _, queue = queue_to_change(flow, flows, any_project=any_project)
    name = named(queue, flow, crawl)
    was = "" if pause_crawl(queue, name, note=note) else " was"
    sys.stdout.write(f"{flow}: crawl {name}{was} paused; `millrace crawl resume {flow}` has it go on\n")


@app.command(epilog="Example: `millrace crawl resume books`")
def resume(
    flow: FlowArgument, flows: FlowsOption = None, crawl: CrawlOption = None, any_project: AnyProjectOption = False
) -> None:
    """Has a crawl go on that was paused or stopped.

    A stopped one goes on with the next spider that starts: its own have ended.

    Exit codes: 0 it goes on, or did so all the time; 2 the flow or the crawl is wrong; 4 Redis doesn't answer.
    """
    _, queue = queue_to_change(flow, flows, any_project=any_project)
    name = named(queue, flow, crawl)
    did = [resume_crawl(queue, name), restart_crawl(queue, name)]
    sys.stdout.write(f"{flow}: crawl {name} {'goes on' if any(did) else 'was neither paused nor stopped'}\n")


@app.command(epilog="Example: `millrace crawl stop books --reason enough`")
def stop(
    flow: FlowArgument,
    flows: FlowsOption = None,
    crawl: CrawlOption = None,
    reason: Annotated[str, typer.Option(help="The finish reason of its spiders.")] = "stopped",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    any_project: AnyProjectOption = False,
) -> None:
    """Has all spiders of a crawl end; what waits stays where it is, until `millrace crawl resume`.

    Exit codes: 0 stopped, or was so before; 2 the flow or the crawl is wrong; 4 Redis doesn't answer.
    """
    _, queue = queue_to_change(flow, flows, any_project=any_project)
    name = named(queue, flow, crawl)
    if agreed(f"Stop crawl {name} of {flow}?", yes=yes):
        was = "" if stop_crawl(queue, name, reason) else " was"
        sys.stdout.write(f"{flow}: crawl {name}{was} stopped\n")


@app.command(epilog="Example: `millrace crawl export books | jq -r .url`")
def export(flow: FlowArgument, flows: FlowsOption = None, crawl: CrawlOption = None) -> None:
    """Prints every request that is not done, a line of JSON each: where it is, and what it asks for.

    Exit codes: 0 printed; 2 the flow or the crawl is wrong; 4 Redis doesn't answer.
    """
    queue = queue_to_look_at(flow, flows)
    for where, number, text in every_request(queue, named(queue, flow, crawl)):
        said = msgspec.json.decode(text)
        sys.stdout.write(json.dumps({"number": number, "where": where, **said}, ensure_ascii=False) + "\n")


def _print(found: dict[tuple[str, str], CrawlBooks]) -> None:
    screen, rows = console_for_all(highlight=True), table("flow", "crawl")
    for column in ("found", "done", "ready", "in flight", "delayed", "dead", "items", "pages/min", "items/min"):
        rows.add_column(column, justify="right")
    for (flow, crawl), books in found.items():
        minutes = max(1, books.moment - books.began) / 60_000
        counts = (books.found, books.done, books.ready, books.in_flight, books.delayed, books.dead, books.items)
        rates = () if books.over else (books.done / minutes, books.items / minutes)
        rows.add_row(flow, crawl, *(f"{count:,}" for count in counts), *(f"{rate:,.0f}" for rate in rates))
    screen.print(rows)
    for (flow, crawl), books in found.items():
        for line in _told(flow, books):
            screen.print(f"{flow}, {crawl}: {escape(line)}", highlight=False, soft_wrap=True)


def _told(flow: str, books: CrawlBooks) -> Iterator[str]:
    if books.difference:
        sum_of = "done + ready + in flight + delayed + dead + dropped"
        yield f"the books differ by {books.difference:,}: {books.found:,} were found, which is not {sum_of}"
    if books.stopped:
        yield f"stopped: {books.stopped}; `millrace crawl resume {flow}` has it go on with the next spider"
    elif books.over:
        yield f"over; it began {age((books.moment - books.began) / 1000)} ago"
    if books.paused is not None:
        yield str(books.paused)
    for what, counts in (("waiting by host", books.hosts), ("errors", books.errors)):
        if counts:
            most = sorted(counts.items(), key=lambda pair: -pair[1])[:10]
            listed = [f"{name or 'start()'} {count:,}" for name, count in most]
            yield f"{what}: {', '.join(listed)}"
    if books.duplicates or books.items_dropped or books.dropped:
        yield (
            f"{books.duplicates:,} links seen before, {books.items_dropped:,} items dropped by item pipelines, "
            f"{books.dropped:,} requests dropped by people"
        )


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    text = sys.stdin.read() if str(file) == "-" else file.read_text()
    return [line.strip() for line in text.splitlines() if line.strip()]


def _request(url: str, callback: str | None, priority: int, *, again: bool) -> Waiting:
    from scrapy import Request  # only here: it takes its time
    from scrapy.utils.httpobj import urlparse_cached
    from scrapy.utils.request import fingerprint

    try:
        request = Request(url)
    except ValueError as error:
        raise ConfigError(f"{url!r} is no URL: {error}") from None
    host = urlparse_cached(request).hostname
    if not host:
        raise ConfigError(f"{url!r} names no host: expected such as https://example.org/")
    known = fingerprint(request)
    said: dict[str, Any] = {"url": request.url, "fingerprint": known.hex()}
    said |= {"callback": callback} if callback else {}
    said |= {"priority": priority} if priority else {}
    said |= {"dont_filter": True} if again else {}
    return Waiting(host, msgspec.json.encode(said), priority, b"" if again else print_of(known))
