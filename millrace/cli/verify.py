"""`millrace verify`: every record is accounted for, in the books and in the files."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.cli.asked import Asked
from millrace.cli.books import audit_books, not_looked_at, print_books, read_books, read_crawls, verdict
from millrace.cli.exits import FAILED, UNREACHED, WRONG
from millrace.cli.flowsfile import FlowsOption, NamesArgument, choose_lists, choose_shown, settings_with
from millrace.cli.status import JsonOption
from millrace.cli.tables import console_for_all
from millrace.equation import crawl_line
from millrace_pipeline.errors import ConfigError, QueueUnavailable, SinkUnavailable
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.flows.units import seconds
from millrace_pipeline.process.signals import on_signal
from millrace_pipeline.queue import Books
from millrace_pipeline.queue.frontier.books import CrawlBooks

if TYPE_CHECKING:
    from millrace.cli.sinkcheck import SinkCheck

app = typer.Typer()

FOLLOW_SECONDS = 1.0

SinkOption = Annotated[bool, typer.Option("--sink", help="Also read the sinks' files and tables again and compare.")]
RepeatsOption = Annotated[
    bool,
    typer.Option(
        "--allow-repeats", help="With --sink: the source itself may send a key twice, so that is no difference."
    ),
]
FollowOption = Annotated[bool, typer.Option("--follow", help="Look every second, until Ctrl-C or the books differ.")]
ForOption = Annotated[str | None, typer.Option("--for", help="With --follow: for so long, e.g. 30s or 10m.")]


@app.command(epilog="Example: `millrace verify wikipedia --sink`")
def verify(
    names: NamesArgument = None,
    flows: FlowsOption = None,
    as_json: JsonOption = False,
    sink: SinkOption = False,
    allow_repeats: RepeatsOption = False,
    follow: FollowOption = False,
    follow_for: ForOption = None,
) -> None:
    """Proves for each flow that every published record is accounted for, at one instant.

    published + foreign = delivered + filtered + ready + in flight + delayed + dead + variants + discarded, with
    what others pushed, acked or still waiting, as foreign. Less than that is loss, more are doubles.

    --sink reads files and tables again: as many records as were delivered, none of them twice, nothing damaged.
    docs/how-to/verify.md says what that proves for which sink. Standard error names the Redis that was asked.

    Exit codes: 0 the books balance, and the files hold it; 1 a record is missing, or there is one too many; 2 the flow
    is wrong, or this Redis has never heard of it; 4 Redis, or a sink that is to be read, doesn't answer.
    """
    if follow_for is not None and not follow:
        raise ConfigError("--for says how long to --follow: add --follow")
    settings = settings_with(flows)
    chosen = choose_shown(settings, names or [])
    if sink and all(flow.whole for flow in chosen):
        raise ConfigError("a sink has the records of all partitions: name the flow with --sink, not one of them")
    until = _until(follow_for)
    asked = Asked.of(settings)
    rounds = _Rounds(asked, chosen, sink=sink, allow_repeats=allow_repeats)
    if not follow:
        asked.say_whose(choose_lists(settings, names or []))
        books, checks = rounds.look()
        rounds.print_json(books, checks, indent=2) if as_json else rounds.print(books, checks)
        unheard = rounds.say_unheard(books)
        sys.exit(FAILED if _differs(books, checks) or rounds.crawls_differ else WRONG if unheard else 0)
    sys.exit(rounds.follow(until, as_json=as_json))


class _Rounds:
    """Looks at the flows, once or again and again."""

    def __init__(self, asked: Asked, flows: list[Flow], *, sink: bool, allow_repeats: bool) -> None:
        self._asked = asked
        self._settings = asked.settings
        self._flows = flows
        self._checks: list[SinkCheck] = []
        self.crawls: dict[str, list[CrawlBooks]] = {}
        if sink:
            from millrace.cli.sinkcheck import SinkCheck  # only here: no other command pays for the sinks

            self._checks = [
                SinkCheck(flow, part, allow_repeats=allow_repeats)
                for flow in flows
                if flow.whole is None  # what a sink has is of all of them
                for part in flow.sink.each
            ]
        self._console = console_for_all(soft_wrap=True)

    def look(self) -> tuple[dict[str, Books], list[SinkCheck]]:
        """The books, and what the files hold. Raises QueueError."""
        books = {flow.name: audit_books(self._settings, flow) for flow in self._flows}
        self.crawls = {flow.name: read_crawls(self._settings, flow) for flow in self._flows}
        for check in self._checks:
            check.read(books[check.flow.name], lambda check=check: read_books(self._settings, check.flow))  # type: ignore[misc]
        return books, self._checks

    @property
    def crawls_differ(self) -> bool:
        """Return True where the books of a crawl don't balance."""
        return any(crawl.difference for crawls in self.crawls.values() for crawl in crawls)

    def say_unheard(self, books: Mapping[str, Books]) -> bool:
        """Say on standard error which of the flows this Redis has never heard of; True where there is one."""
        names = {flow.name: flow for flow in self._flows}
        unheard = [names[name] for name, found in books.items() if _is_blank(found)]
        unheard = [flow for flow in unheard if self._asked.never_heard_of(flow)]
        for flow in unheard:
            sys.stderr.write(
                f"{flow.name}: {self._asked.server} has never heard of it: no service has used the list "
                f"{flow.queue.key} there, so there is nothing to verify. Is it the Redis that you mean? "
                "REDIS_URL names another\n"
            )
        return bool(unheard)

    def follow(self, until: float, *, as_json: bool) -> int:
        """Look every second. Returns the exit code: 1 as soon as something differs, 4 if nobody ever answered, 2 if all
        that Redis knew of a flow, to the end, was nothing.
        """
        stopping = threading.Event()
        on_signal(lambda _: stopping.set(), signal.SIGTERM, signal.SIGINT)
        answered = False
        books: dict[str, Books] = {}
        while not stopping.is_set():
            try:
                books, checks = self.look()
            except (QueueUnavailable, SinkUnavailable) as error:
                who = "Redis" if isinstance(error, QueueUnavailable) else "the sink"
                sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S}  {who} doesn't answer: {error}\n")
            else:
                answered = True
                self.print_json(books, checks) if as_json else self._print_line(books, checks)
                if _differs(books, checks) or self.crawls_differ:
                    return FAILED
            if time.monotonic() >= until or stopping.wait(FOLLOW_SECONDS):
                break
        if not answered:
            return UNREACHED
        try:
            return WRONG if self.say_unheard(books) else 0
        except QueueUnavailable:
            return 0  # it answered before, and all was well

    def print(self, books: Mapping[str, Books], checks: list[SinkCheck]) -> None:
        """The sums, and a line or more on each sink's files."""
        print_books(dict(books), self._console)
        for name, crawls in self.crawls.items():
            for crawl in crawls:
                self._console.print(f"{name}: {crawl_line(crawl)}", markup=False)
        if checks:
            self._console.print("\n[bold]The files[/bold] (read again, record by record)")
        for check in checks:
            for line in check.told():
                self._console.print(f"  {line}")

    def print_json(self, books: Mapping[str, Books], checks: list[SinkCheck], indent: int | None = None) -> None:
        """All of it as JSON; a round of --follow takes one line, with its time."""
        said: dict[str, Any] = {
            name: {**found.as_dict(), "crawls": [crawl.as_dict() for crawl in self.crawls[name]]}
            for name, found in books.items()
        }
        for check in checks:
            flow = said[check.flow.name]
            if len(check.flow.sink.each) == 1:
                flow["sink"] = check.as_dict()
            else:
                flow.setdefault("sinks", []).append(check.as_dict())
        if indent is None:
            said = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "flows": said}
        sys.stdout.write(json.dumps(said, indent=indent) + "\n")
        sys.stdout.flush()

    def _print_line(self, books: Mapping[str, Books], checks: list[SinkCheck]) -> None:
        for name, found in books.items():
            self._console.print(
                f"{datetime.now(UTC):%H:%M:%S}  {name}  published {found.published:,}  delivered {found.delivered:,}  "
                f"lag {found.lag:,}  dead {found.dead:,}  {verdict(found)}"
                + (f": {not_looked_at(found)}" if found.unread else "")
            )
        for check in checks:
            for line in check.told():
                self._console.print(f"          {line}")


def _differs(books: Mapping[str, Books], checks: list[SinkCheck]) -> bool:
    return any(_wrong(found) for found in books.values()) or any(check.differs for check in checks)


def _is_blank(found: Books) -> bool:
    """Return True where nothing was ever counted, and nothing waits."""
    counted = (found.published, found.foreign, found.delivered, found.filtered, found.dead, found.discarded)
    return not any((*counted, found.variants, found.lag, found.checkpoints))


def _wrong(found: Books) -> bool:
    return found.difference < 0 or (found.difference > 0 and found.exact)


def _until(text: str | None) -> float:
    """When to stop, on the monotonic clock. Raises ConfigError."""
    if text is None:
        return float("inf")
    try:
        return time.monotonic() + seconds(text)
    except ValueError as error:
        raise ConfigError(f"--for {text}: {error}") from None
