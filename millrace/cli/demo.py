"""`millrace demo`: everything at once on this machine, with a consumer killed in the middle."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from millrace.cli.books import print_books
from millrace.cli.bundled import bundled_flows, bundled_sites
from millrace.cli.tables import console_for_all
from millrace.embedded import Embedded
from millrace_pipeline.flows.flow import Flows, load
from millrace_pipeline.process import logs
from millrace_pipeline.process.supervisor import Supervisor
from millrace_pipeline.queue import Books, Session, books_of

app = typer.Typer()

LIVE = {
    "QUOTES_URL": "https://quotes.toscrape.com/",
    "WIKIPEDIA_URL": "https://stream.wikimedia.org/v2/stream/recentchange",
}
LEASE = "3s"  # short, so that one can watch the killed consumer's batch being taken over
CRAWL_PATIENCE_SECONDS = 15.0
DRAIN_SECONDS = 30.0
SAMPLED = ("text", "author", "wiki", "type", "title", "user")
KILL_AFTER = 0.35  # of the demo's time


@app.command(epilog="Example: `millrace demo --seconds 30`")
def demo(
    seconds: Annotated[float, typer.Option(min=4, max=3600, help="How long the sources run.")] = 12,
    live: Annotated[bool, typer.Option("--live", help="Read the real sites instead of the bundled ones.")] = False,
    into: Annotated[Path | None, typer.Option(help="Folder for the files; else a new one below ./data.")] = None,
) -> None:
    """Runs both flows with two consumers, kills one of them with SIGKILL, drains, and counts what arrived.

    Needs no Docker, no Redis and no network: it starts an embedded Valkey, a practice web site of ten pages and a
    stream of events as Wikimedia sends them.

    Exit codes: 0 every record arrived once; 1 something is missing or doubled, or a site can't be reached.
    """
    console = console_for_all()
    logs.configure("pretty", "error")  # what the supervisor does is told on the screen
    folder = into or Path("data") / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
    with contextlib.ExitStack() as stack:
        sites = LIVE if live else stack.enter_context(bundled_sites())
        if live and not _reachable(console, sites):
            sys.exit(1)
        server = stack.enter_context(Embedded())
        environ = {**os.environ, **sites, "DATA": str(folder), "LEASE": LEASE, "REDIS_URL": server.url}
        environ |= {"BATCH": "500", "LINGER": "1s", "MILLRACE_LOG": "json", "MILLRACE_HTTP": ""}
        flows_file = bundled_flows()
        flows = load(flows_file, environ)
        console.print(f"[bold]Millrace demo[/bold]: {len(flows)} flows, 2 consumers, about {seconds + 5:.0f} s")
        for name, flow in flows.items():
            console.print(f"  {name:<10} {_source(sites, name)}", soft_wrap=True)
            console.print(f"  {'':<10} → list {flow.queue.key} → {folder / name}/", soft_wrap=True)
        console.print(
            f"  look inside meanwhile: [cyan]redis-cli -p {server.port} LLEN {flows['quotes'].queue.key}[/cyan]"
        )
        console.print()
        ok = _Show(console, flows, server.url, folder, environ, flows_file).run(seconds)
    sys.exit(0 if ok else 1)


class _Show:
    """The demo while it runs: the services, the table on the screen, the kill, and the count at the end."""

    def __init__(
        self, console: Console, flows: Flows, url: str, folder: Path, environ: Mapping[str, str], flows_file: Path
    ) -> None:
        self.console = console
        self.flows = flows
        self.folder = folder
        self.queues = {name: Session(url, flow.queue.list_name) for name, flow in flows.items()}
        self.log_path = folder / "services.log"
        self.supervisor = Supervisor(environ=environ, say=self._log)
        self.where = ["--flows", str(flows_file)]
        self.news: list[str] = []
        self.started = time.monotonic()
        self.shown_at = 0.0
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, seconds: float) -> bool:
        try:
            for name in self.flows:
                self.supervisor.add(f"producer-{name}", "produce", name, *self.where)
            for number in (1, 2):
                self.supervisor.add(f"consumer-{number}", "consume", *self.where)
            books = self._watch(seconds)
        finally:
            self.supervisor.stop(grace_seconds=15)
        books = {name: books_of(queue) for name, queue in self.queues.items()}
        return self._report(books)

    def _watch(self, seconds: float) -> dict[str, Books]:
        with Live(console=self.console, auto_refresh=False, transient=False) as live:
            victim: str | None = None
            producing = True
            while True:
                time.sleep(0.1)
                self.supervisor.look()
                books = {name: books_of(queue) for name, queue in self.queues.items()}
                elapsed = time.monotonic() - self.started
                if victim is None and elapsed > seconds * KILL_AFTER:
                    victim = self._kill_a_consumer(books)
                if producing and elapsed > seconds and self._crawled(elapsed - seconds):
                    producing = False
                    self._tell("stopping the producers, draining the lists")
                    self.supervisor.stop([f"producer-{name}" for name in self.flows], grace_seconds=10)
                self._show(live, books)
                drained = not producing and all(found.lag == 0 for found in books.values())
                if drained or elapsed > seconds + CRAWL_PATIENCE_SECONDS + DRAIN_SECONDS:
                    return books

    def _crawled(self, waited: float) -> bool:
        """Whether the crawl has come to its end, or has been waited for long enough."""
        return self.supervisor.children["producer-quotes"].done or waited > CRAWL_PATIENCE_SECONDS

    def _kill_a_consumer(self, books: Mapping[str, Books]) -> str | None:
        """Kills a consumer that holds a batch right now; None where none does yet."""
        for name, found in books.items():
            for lease in found.leases:
                pid = int(lease.consumer.rpartition(":")[2])
                for child in self.supervisor.children.values():
                    if child.pid == pid and child.name.startswith("consumer"):
                        child.signal(signal.SIGKILL)
                        self._tell(
                            f"[red]kill -9 {pid}[/red]: {child.name} dies holding {lease.records} records of {name}; "
                            f"its batch is taken over after {LEASE}"
                        )
                        return child.name
        return None

    def _tell(self, what: str) -> None:
        self.news.append(f"{time.monotonic() - self.started:5.1f} s  {what}")
        if not self.console.is_terminal:
            self.console.print(self.news[-1], soft_wrap=True)

    def _show(self, live: Live, books: Mapping[str, Books]) -> None:
        elapsed = time.monotonic() - self.started
        if self.console.is_terminal:
            table = Table(box=None, pad_edge=False, header_style="bold")
            table.add_column("flow")
            for column in ("published", "delivered", "filtered", "lag", "rate"):
                table.add_column(column, justify="right", min_width=9)
            for name, found in books.items():
                counts = (found.published, found.delivered, found.filtered, found.lag)
                table.add_row(name, *(f"{count:,}" for count in counts), f"{found.delivered / elapsed:,.0f}/s")
            live.update(Group(table, Text(), *(Text.from_markup(line) for line in self.news)), refresh=True)
        elif elapsed - self.shown_at >= 2:
            self.shown_at = elapsed
            line = "   ".join(
                f"{name}: published {found.published:,}, delivered {found.delivered:,}, lag {found.lag:,}"
                for name, found in books.items()
            )
            self.console.print(f"{elapsed:5.1f} s  {line}", soft_wrap=True)

    def _report(self, books: dict[str, Books]) -> bool:
        from millrace.cli.sinkcheck import SinkCheck  # only here: no other command pays for the sinks

        self.console.print("\n[bold]The books[/bold] (from counters that move in the same step as the records)")
        print_books(books, self.console)
        ok = all(found.difference == 0 and found.lag == 0 for found in books.values())
        self.console.print("\n[bold]The files[/bold] (read again, record by record)")
        for name, found in books.items():
            check = SinkCheck(self.flows[name])
            check.read(found, lambda found=found: found)  # type: ignore[misc]
            ok &= check.found is not None and check.found.records == found.delivered and not check.differs
            for line in check.told():
                self.console.print(f"  {line}", soft_wrap=True)
            files = sorted(path for path in (self.folder / name).rglob("[!.]*") if path.is_file())
            if files:
                self.console.print(f"    e.g. {files[0]}", style="dim", soft_wrap=True)
            for line in _sample(files[0]) if files else ():
                self.console.print(f"    {line}", style="cyan", markup=False, no_wrap=True, overflow="ellipsis")
        for name, found in books.items():
            if not found.published or self.supervisor.children[f"producer-{name}"].gave_up:
                ok = False
                self.console.print(f"\n[bold red]{name} was not read[/bold red]: the log of its producer says why")
        end = (
            "[green]nothing lost, nothing twice[/green]" if ok else "[bold red]this should not have happened[/bold red]"
        )
        self.console.print(f"\n{end}; {time.monotonic() - self.started:.0f} s, log in {self.log_path}")
        return ok

    def _log(self, name: str, line: str) -> None:
        with self.log_path.open("a") as file:
            file.write(f"{name} {line}\n")


def _reachable(console: Console, sites: Mapping[str, str]) -> bool:
    reached = True
    for url in sites.values():
        host = urlsplit(url).hostname or ""
        connection = http.client.HTTPSConnection(host, timeout=10)
        try:
            connection.request("HEAD", "/", headers={"User-Agent": "millrace-demo"})
            connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            reached = False
            console.print(f"[red]{host} can't be reached[/red]: {error}. Try `millrace demo` without --live.")
        finally:
            connection.close()
    return reached


def _source(sites: Mapping[str, str], name: str) -> str:
    return sites["QUOTES_URL"] if name == "quotes" else sites["WIKIPEDIA_URL"]


def _sample(file: Path) -> Iterator[str]:
    """The first few records of a file, in a few of their fields."""
    records: Iterable[dict[str, Any]]
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        records = pq.ParquetFile(file).read().to_pylist()
    else:
        records = map(json.loads, file.read_text().splitlines())
    for record in islice(records, 3):
        yield "  ".join(f"{name}={record[name]}" for name in SAMPLED if record.get(name) is not None)
