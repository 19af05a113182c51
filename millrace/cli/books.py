"""The books on the command line: asked for once, printed as sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from rich.console import Console

from millrace.cli.ages import age
from millrace.cli.tables import console_for_all, table
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.process.settings import Settings
from millrace_pipeline.queue import Books, Session, audit, books_of
from millrace_pipeline.queue.troubles import Trouble, troubles_of

T = TypeVar("T")

DEBIT = ("published", "foreign", "foreign_waiting")
CREDIT = ("delivered", "filtered", "ready", "in_flight", "delayed", "dead", "variants", "discarded")
SHOWN_WHERE_ANY = ("foreign", "foreign_waiting", "delayed", "variants", "discarded")


def read_books(settings: Settings, flow: Flow) -> Books:
    """The books of a flow; asks once, and doesn't wait out an outage: a person is waiting."""
    return books_at(settings.url, flow)


def books_at(url: str, flow: Flow) -> Books:
    """The same from the Redis at this address. Raises QueueError."""
    return _asked(url, flow, books_of)


def read_troubles(settings: Settings, flow: Flow) -> list[Trouble]:
    """Return what keeps the flow's source from giving anything. Raises QueueError."""
    return _asked(settings.url, flow, troubles_of)


def audit_books(settings: Settings, flow: Flow) -> Books:
    """The books of a flow with all that waits looked at, record by record. Raises QueueError."""
    return _asked(settings.url, flow, audit)


def _asked(url: str, flow: Flow, ask: Callable[[Session], T]) -> T:
    queue = Session(url, flow.queue.key)
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
        sign = "" if row == "published" else "+ " if row in DEBIT else "− "
        rows.add_row(sign + row.replace("_", " "), *(f"{count:,}" for count in counts))
    rows.add_row("", *("─" * 9 for _ in books))
    rows.add_row("[bold]books[/bold]", *(verdict(found) for found in books.values()))
    screen = screen or console_for_all(highlight=True)
    screen.print(rows)
    for name, found in books.items():
        if found.unread:
            screen.print(f"{name}: {not_looked_at(found)}", soft_wrap=True)


def delays(found: Books) -> str:
    """Return in words what is put off, until when and why; empty where nothing is."""
    leases = sorted((lease for lease in found.leases if lease.delayed), key=lambda lease: lease.seconds_left)
    if not leases:
        return ""
    batches = f" in {len(leases):,} batches" if len(leases) > 1 else ""
    first = f"the first for {age(leases[0].seconds_left)} more" if leases[0].seconds_left > 0 else "the first is due"
    others = len({lease.note for lease in leases}) - 1
    return f"{found.delayed:,} delayed{batches}, {first}: {leases[0].note}" + (
        f" (and {others:,} more reasons)" if others else ""
    )


def verdict(found: Books) -> str:
    """What the books come to, in a word and rich's colours."""
    if found.difference == 0:
        return "[green]balanced[/green]"
    if found.difference > 0 and found.exact:
        return f"[bold red]{found.difference:,} too many[/bold red]"
    if found.difference > 0:
        return f"[yellow]surplus {found.difference:,}[/yellow]"
    return f"[bold red]{-found.difference:,} missing[/bold red]"


def not_looked_at(found: Books) -> str:
    """What an audit that was not exact leaves open."""
    return (
        f"[yellow]{found.unread:,} waiting records were not looked at one by one[/yellow], since they moved meanwhile: "
        "a foreign one among them can hide a loss, and passes for a double"
    )
