"""Equation: the books of a flow as a sum, line by line, and what it comes to."""

from __future__ import annotations

from typing import Literal, NamedTuple

from millrace.ages import age
from millrace_pipeline.queue import Books
from millrace_pipeline.queue.frontier.books import CrawlBooks

DEBIT = ("published", "foreign", "foreign_waiting")
CREDIT = ("delivered", "filtered", "ready", "in_flight", "delayed", "dead", "variants", "discarded")
SHOWN_WHERE_ANY = ("foreign", "foreign_waiting", "delayed", "variants", "discarded")


class Line(NamedTuple):
    """One line of the sum: what it counts, its sign (empty where the sum begins), and how many records that is."""

    name: str
    sign: str
    records: int


class Verdict(NamedTuple):
    """What the books come to: in words, and as a kind. A surplus may as well be what others pushed."""

    words: str
    kind: Literal["balanced", "loss", "double", "surplus"]


def sign_of(name: str) -> str:
    """Return the sign that a line bears."""
    return "" if name == DEBIT[0] else "+" if name in DEBIT else "−"


def lines_of(books: Books) -> list[Line]:
    """Return the lines of the sum, without those that count nothing in most flows and nothing in this one."""
    lines = [Line(name.replace("_", " "), sign_of(name), getattr(books, name)) for name in (*DEBIT, *CREDIT)]
    rare = {name.replace("_", " ") for name in SHOWN_WHERE_ANY}
    return [line for line in lines if line.records or line.name not in rare]


def verdict_of(books: Books) -> Verdict:
    """Return what the sum comes to."""
    if books.difference == 0:
        return Verdict("balanced", "balanced")
    if books.difference < 0:
        return Verdict(f"{-books.difference:,} missing", "loss")
    if books.exact:
        return Verdict(f"{books.difference:,} too many", "double")
    return Verdict(f"surplus {books.difference:,}", "surplus")


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


def crawl_line(books: CrawlBooks) -> str:
    """Return where the requests of a crawl are, in a line, and whether that is all of them."""
    aside = (("delayed", books.delayed), ("dead", books.dead), ("dropped", books.dropped))
    counts = [("done", books.done), ("ready", books.ready), ("in flight", books.in_flight)]
    counts += [(name, count) for name, count in aside if count]
    stands = f"stopped: {books.stopped}" if books.stopped else "over" if books.over else "going on"
    if books.difference:
        stands = f"{abs(books.difference):,} {'lost' if books.difference < 0 else 'too many'}"
    listed = " + ".join(f"{name} {count:,}" for name, count in counts)
    return f"crawl {books.crawl}: found {books.found:,} {'≠' if books.difference else '='} {listed}; {stands}"
