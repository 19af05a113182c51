"""The books on the command line: asked for once, printed as sums."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from pipeline.flow import Flow
from pipeline.queue import Books, Queue
from pipeline.settings import Settings

DEBIT = ("published", "foreign")
CREDIT = ("delivered", "filtered", "ready", "in_flight", "dead", "variants", "discarded")
SHOWN_WHERE_ANY = ("foreign", "variants", "discarded")


def read_books(settings: Settings, flow: Flow) -> Books:
    """The books of a flow; asks once, and doesn't wait out an outage: a person is waiting."""
    return books_at(settings.url, flow)


def books_at(url: str, flow: Flow) -> Books:
    """The same from the Redis at this address. Raises QueueError."""
    queue = Queue(url, flow.queue.key)
    queue.give_up.set()
    try:
        return queue.books()
    finally:
        queue.close()


def print_books(books: Mapping[str, Books], console: Console | None = None) -> None:
    """Prints each flow's equation as a column of sums, and what it comes to."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in books:
        table.add_column(name, justify="right")
    for row in (*DEBIT, *CREDIT):
        counts = [getattr(found, row) for found in books.values()]
        if row in SHOWN_WHERE_ANY and not any(counts):
            continue
        sign = "" if row == "published" else "+ " if row == "foreign" else "− "
        table.add_row(sign + row.replace("_", " "), *(f"{count:,}" for count in counts))
    table.add_row("", *("─" * 9 for _ in books))
    table.add_row("[bold]books[/bold]", *(verdict(found) for found in books.values()))
    (console or Console()).print(table)


def verdict(found: Books) -> str:
    """What the books come to, in a word and rich's colours."""
    if found.difference == 0:
        return "[green]balanced[/green]"
    if found.difference > 0:
        return f"[yellow]surplus {found.difference:,}[/yellow]"
    return f"[bold red]{-found.difference:,} missing[/bold red]"
