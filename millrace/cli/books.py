"""The books on the command line: asked for once, printed as sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from rich.console import Console

from millrace.cli.tables import console_for_all, table
from millrace.equation import CREDIT, DEBIT, SHOWN_WHERE_ANY, sign_of, verdict_of
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.process.settings import Settings
from millrace_pipeline.queue import Books, Session, audit, books_of
from millrace_pipeline.queue.books import sum_of
from millrace_pipeline.queue.frontier.books import CrawlBooks, all_crawl_books
from millrace_pipeline.queue.presence import CrawlProgress, Missing, crawl_progress_of, missing_of
from millrace_pipeline.queue.troubles import Trouble, troubles_of

T = TypeVar("T")

COLOURS = {"balanced": "green", "loss": "bold red", "double": "bold red", "surplus": "yellow"}


def read_books(settings: Settings, flow: Flow) -> Books:
    """The books of a flow; asks once, and doesn't wait out an outage: a person is waiting."""
    return books_at(settings.url, flow)


def books_at(url: str, flow: Flow) -> Books:
    """The same from the Redis at this address. Raises QueueError."""
    return sum_of(_asked_each(url, flow, books_of))


def read_books_each(settings: Settings, flow: Flow) -> list[Books]:
    """The same of each of the flow's lists. Raises QueueError."""
    return _asked_each(settings.url, flow, books_of)


def read_troubles(settings: Settings, flow: Flow) -> list[Trouble]:
    """Return what keeps the flow's source from giving anything. Raises QueueError."""
    return [trouble for found in _asked_each(settings.url, flow, troubles_of) for trouble in found]


def read_crawls(settings: Settings, flow: Flow) -> list[CrawlBooks]:
    """Return the books of the flow's crawls that spiders share, the newest first. Raises QueueError."""
    return [crawl for found in _asked_each(settings.url, flow, all_crawl_books) for crawl in found]


def read_missing(settings: Settings, flow: Flow) -> list[Missing]:
    """Return which of the flow's sinks that aren't required take nothing. Raises QueueError."""
    if all(part.required for part in flow.sink.each):
        return []
    return [missing for found in _asked_each(settings.url, flow, missing_of) for missing in found]


def read_crawl_progress(settings: Settings, flow: Flow) -> CrawlProgress | None:
    """Return how far the crawl of the flow's source has come, where one of its own is under way. Raises QueueError."""
    return next(filter(None, _asked_each(settings.url, flow, crawl_progress_of)), None)


def audit_books(settings: Settings, flow: Flow) -> Books:
    """The books of a flow with all that waits looked at, record by record. Raises QueueError."""
    return sum_of(_asked_each(settings.url, flow, audit))


def _asked_each(url: str, flow: Flow, ask: Callable[[Session], T]) -> list[T]:
    """The same of each partition of the flow."""
    return [_asked(url, part, ask) for part in flow.lists]


def _asked(url: str, flow: Flow, ask: Callable[[Session], T]) -> T:
    queue = Session(url, flow.queue.list_name)
    queue.give_up.set()
    try:
        return ask(queue)
    finally:
        queue.close()


def print_books(books: Mapping[str, Books], screen: Console | None = None) -> None:
    """Prints each flow's equation as a column of sums, and what it comes to."""
    rows = table("")
    for name in books:
        rows.add_column(name, justify="right")
    for row in (*DEBIT, *CREDIT):
        counts = [getattr(found, row) for found in books.values()]
        if row in SHOWN_WHERE_ANY and not any(counts):
            continue
        rows.add_row(f"{sign_of(row)} {row.replace('_', ' ')}".strip(), *(f"{count:,}" for count in counts))
    rows.add_row("", *("─" * 9 for _ in books))
    rows.add_row("[bold]books[/bold]", *(verdict(found) for found in books.values()))
    screen = screen or console_for_all(highlight=True)
    screen.print(rows)
    for name, found in books.items():
        if found.unread:
            screen.print(f"{name}: {not_looked_at(found)}", soft_wrap=True)


def verdict(found: Books) -> str:
    """What the books come to, in a word and rich's colours."""
    words, kind = verdict_of(found)
    return f"[{COLOURS[kind]}]{words}[/{COLOURS[kind]}]"


def not_looked_at(found: Books) -> str:
    """What an audit that was not exact leaves open."""
    return (
        f"[yellow]{found.unread:,} waiting records were not looked at one by one[/yellow], since they moved meanwhile: "
        "a foreign one among them can hide a loss, and passes for a double"
    )
