"""What chaos did to the records: counted flow by flow, and told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from rich.console import Console
from rich.table import Table

from millrace.cli import practiceflows
from millrace.cli.books import print_books
from millrace.cli.sinkcheck import SinkCheck
from millrace_consumer.readback import SHOWN
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import Books


@dataclass
class Outcome:
    """One flow after the chaos. Counts of records; the lists name the first few by key."""

    flow: str
    books: Books
    check: SinkCheck
    sent: int | None = None
    """Records that the source sent and the flow should deliver; None where nobody knows."""
    lost: int = 0
    twice: int = 0
    unknown: int = 0
    excused: bool = False
    """Whether doubles break no promise: Redis lost its power, and the flow writes before its claims are on disk."""

    moved: Mapping[str, int] = field(default_factory=dict)
    """What the flow's history says was published, delivered and filtered since it began."""

    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def unlike(self) -> list[str]:
        """What history and counters say differently, in words."""
        stood = {name: (said, getattr(self.books, name, said)) for name, said in self.moved.items()}
        return [f"{said:,} {name}, its counters {count:,}" for name, (said, count) in stood.items() if said != count]

    @property
    def ok(self) -> bool:
        """Whether each record is in the files once, or set aside, the books balance, and the history says the same."""
        found = self.check.found
        if self.unlike:
            return False
        if self.excused and found:
            return not (self.lost or self.unknown or found.damaged or self.books.difference)
        return not (self.lost or self.twice or self.unknown or self.check.differs or self.books.difference)


def outcomes(
    flows: Sequence[Flow],
    books: Mapping[str, Books],
    events: int | None,
    *,
    power_cuts: int = 0,
    moved: Mapping[str, Mapping[str, int]] = MappingProxyType({}),
) -> list[Outcome]:
    """Reads the files of all flows. With `events`, the length of the practice stream, every record is known.

    `moved` is what the history of each flow adds up to.
    """
    found = []
    for flow in flows:
        if flow.name not in books:
            continue
        excused = power_cuts > 0 and flow.queue.fsync != "write"
        check = SinkCheck(flow, allow_repeats=excused)
        check.read(books[flow.name], lambda name=flow.name: books[name])  # type: ignore[misc]
        outcome = Outcome(flow.name, books[flow.name], check, excused=excused, moved=moved.get(flow.name, {}))
        if events is None:
            outcome.twice = check.found.twice if check.found and check.identified else 0
            outcome.lost = check.missing
            if excused and check.found and outcome.twice and not flow.transforms:  # one missing hides behind a double
                outcome.lost = max(0, books[flow.name].delivered - check.found.records + outcome.twice)
        else:
            _compare(outcome, practiceflows.sent(flow.name, events))
        found.append(outcome)
    return found


def _compare(outcome: Outcome, sent: frozenset[str]) -> None:
    """Compares what was sent with what the files hold, key by key."""
    times = Counter(outcome.check.identities())
    missing = sorted(sent - times.keys())
    doubled = sorted(key for key, count in times.items() if count > 1)
    unknown = sorted(times.keys() - sent)
    outcome.sent = len(sent)
    # A dead letter is accounted for, and in no file. One that is in a file as well shows as a record too many.
    outcome.lost = len(missing) - outcome.books.dead
    outcome.twice = sum(times.values()) - len(times)
    outcome.unknown = len(unknown)
    lists = {"lost": missing if outcome.lost else [], "twice": doubled, "unknown": unknown}
    outcome.examples = {what: keys[:SHOWN] for what, keys in lists.items() if keys}


def print_report(console: Console, kills: Mapping[str, int], found: Sequence[Outcome], *, why_not: str) -> bool:
    """Prints the summary and returns whether all is well."""
    told = ", ".join(f"{kind} {count}" for kind, count in sorted(kills.items())) or "none"
    console.print(f"\n[bold]{sum(kills.values())} kills[/bold]: {told}\n")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("flow")
    for column in ("sent", "published", "delivered", "filtered", "dead", "in files", "lost", "twice"):
        table.add_column(column, justify="right")
    for outcome in found:
        books = outcome.books
        counts = (books.published, books.delivered, books.filtered, books.dead)
        table.add_row(
            outcome.flow,
            "–" if outcome.sent is None else f"{outcome.sent:,}",
            *(f"{count:,}" for count in counts),
            f"{outcome.check.found.records:,}" if outcome.check.found else "–",
            *(f"[{'bold red' if count else 'green'}]{count:,}[/]" for count in (outcome.lost, outcome.twice)),
        )
    if found:
        console.print(table)
        console.print()
        print_books({outcome.flow: outcome.books for outcome in found}, console)
    for outcome in found:
        if outcome.excused and outcome.twice:
            console.print(
                f"{outcome.flow}: {outcome.twice:,} twice after a power cut, which queue.fsync: acknowledge allows: "
                "what the sink had of a claim that was lost came again. With fsync: write there are none"
            )
        if outcome.books.dead:
            console.print(
                f"{outcome.flow}: {outcome.books.dead:,} set aside as dead letters: accounted for, not in the files"
            )
        if outcome.unlike:
            console.print(f"{outcome.flow}: its history says {'; '.join(outcome.unlike)}")
        for what, keys in outcome.examples.items():
            console.print(f"{outcome.flow}: {what}: {', '.join(keys)}", markup=False)
        if outcome.check.differs and not outcome.excused:
            for line in outcome.check.told():
                console.print(line)
    why_not = why_not or _proves_nothing(found)
    ok = all(outcome.ok for outcome in found) and not why_not
    end = "[green]nothing lost, nothing twice[/green]" if ok else "[bold red]this should not have happened[/bold red]"
    console.print(f"\n{end}{f': {why_not}' if why_not else ''}")
    return ok


def _proves_nothing(found: Sequence[Outcome]) -> str:
    """Why these counts are no proof though they agree; empty where they are one."""
    if not found:
        return "Redis doesn't answer"
    silent = [outcome.flow for outcome in found if not outcome.books.published]
    return (
        f"{', '.join(silent)} published nothing, so there was nothing to lose: does its source answer?"
        if silent
        else ""
    )
