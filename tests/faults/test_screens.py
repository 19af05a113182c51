"""Screens: at any instant, whatever is killed meanwhile, `top`, the page and the history say what `verify` does.

`MILLRACE_INSTANTS` says at how many of them; an instant lasts as long as Redis takes no writes.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

import pytest
import redis

from millrace.cli.columns import COLUMNS
from millrace.cli.topview import View
from millrace.embedded import Embedded
from millrace.equation import CREDIT, DEBIT
from millrace.figures import number
from millrace.observing import FlowSeen, Observer
from millrace.server import Server
from millrace.ui.door import Door
from millrace.ui.flows import flow_parts, overview_parts
from millrace.ui.site import Site
from millrace.ui.watch import Looked
from millrace_pipeline.queue import Books
from millrace_pipeline.queue.auditing import audit
from millrace_pipeline.queue.spans import MOVED, STOOD, read_notes, spans
from tests.conftest import eventually
from tests.faults.conftest import Row
from tests.faults.shippedrun import STREAM_FLOW, ShippedRun
from tests.pages import text_of
from tests.queues import Queue
from tests.services import PATIENCE, Service

INSTANTS = int(os.environ.get("MILLRACE_INSTANTS", "100"))
KILLS_EVERY, REDIS_EVERY = 7, 60
"""So many instants lie between two deaths of a service, and of Redis."""

DAY = 24 * 3600
IN_TOP = {"ready": "ready", "flight": "in_flight", "delayed": "delayed", "dead": "dead"} | {
    name: name for name in ("published", "delivered", "filtered", "variants")
}
"""Columns of `top` that are lines of the books."""


@contextmanager
def standstill(client: redis.Redis) -> Iterator[None]:
    """An instant: nothing in Redis changes until the block is over."""
    client.execute_command("CLIENT", "PAUSE", 30_000, "WRITE")
    try:
        yield
    finally:
        client.execute_command("CLIENT", "UNPAUSE")


class Screens:
    """All that people look at, of all flows of a run."""

    def __init__(self, shipped: ShippedRun, url: str) -> None:
        flows = list(shipped.flows.values())
        self._observer = Observer(url, flows)
        self._site = Site(shipped.flows, Server(url, "told"), url, Door(), 0)
        self._site.watch.start()
        self._shipped = shipped

    def close(self) -> None:
        self._observer.close()
        self._site.watch.close()

    def agree(self) -> dict[str, int]:
        """Compare them all, and return how many records each flow has published."""
        seen = self._look()
        rows = {flow.name: flow for flow, consumer in View().rows(list(seen.values())) if consumer is None}
        for name in self._shipped.flows:
            books = audit(self._shipped.queues[name])
            assert (books.difference, books.exact) == (0, True), books
            in_top = {line: COLUMNS[column].flow(rows[name]) for column, line in IN_TOP.items()}
            assert in_top == {line: number(getattr(books, line)) for line in IN_TOP.values()}
            in_books, in_all = self._page_of(name)
            assert in_books == lines_that_count(books)
            assert f"Ready {books.ready:,} In flight {books.in_flight:,}" in in_all
            self._compare_history(books, self._shipped.queues[name])
        return {name: one.books.published for name, one in seen.items() if one.books}

    def _look(self) -> dict[str, FlowSeen]:
        """What `top` sees. Its connection may have died with Redis: then the next look has another."""
        seen: dict[str, FlowSeen] = {}

        def answers() -> bool:
            seen.update({one.name: one for one in self._observer.look()})
            return not any(one.unreachable for one in seen.values())

        eventually(answers)
        return seen

    def _page_of(self, name: str) -> tuple[dict[str, int], str]:
        """The lines of a flow's books on its page, and the sums on the page of all.

        It shows what was seen last where Redis takes long to answer, as after its death.
        """
        watch, flow = self._site.watch, self._shipped.flows[name]
        since = time.monotonic()
        looked = Looked()

        def is_fresh() -> bool:
            nonlocal looked
            watch.forget(name)
            looked = watch.look([name], [name])
            return looked.at.get(name, 0.0) >= since and not looked.flows[name].unreachable

        eventually(is_fresh)
        parts = flow_parts(self._site, looked, flow, "")
        return lines_on_the_page(parts["books"]), text_of(overview_parts(self._site, looked, name)["sums"])

    @staticmethod
    def _compare_history(books: Books, queue: Queue) -> None:
        notes = read_notes(queue)
        for seconds in (10, 60, 3600, DAY):
            found = spans(notes, 0, seconds)
            for name in ("published", "delivered", "filtered", "foreign", "discarded"):
                moved = [getattr(span, name) for span in found]
                assert min(moved) >= 0, (name, moved)
                assert sum(moved) == getattr(books, name), name
            stood = dict(zip(STOOD, notes[-1].numbers[len(MOVED) :], strict=True))
            assert stood == {
                "in_flight": books.in_flight + books.delayed,
                "ready": books.ready,
                "dead": books.dead,
                "variants": books.variants,
            }


def lines_on_the_page(html: str) -> dict[str, int]:
    rows = re.findall(r'<th scope="row"><span[^>]*>[^<]*</span>([^<]*)</th><td class="n">([\d,]+)</td>', html)
    return {name.replace(" ", "_"): int(count.replace(",", "")) for name, count in rows if count != "0"}


def lines_that_count(books: Books) -> Mapping[str, int]:
    return {name: getattr(books, name) for name in (*DEBIT, *CREDIT) if getattr(books, name)}


@pytest.mark.timeout(300 + 3 * INSTANTS)
def test_at_each_instant_all_screens_say_what_verify_does(shipped: ShippedRun, server: Embedded, row: Row) -> None:
    row("screens under chaos", shipped)
    dice = random.Random(1000)
    running: list[Service] = [*shipped.produce(), *(shipped.consume() for _ in range(3))]
    shipped.await_delivered(1)
    kills, published = 0, 0
    with closing(Screens(shipped, server.url)) as screens:
        for instant in range(1, INSTANTS + 1):
            if instant % KILLS_EVERY == 0:
                running = [one for one in running if one.running]
                victim = dice.choice(running)
                victim.kill()
                running.remove(victim)
                name = victim.arguments[1]
                running += [shipped.consume()] if victim.arguments[0] == "consume" else shipped.produce(name)
                kills += 1
            if instant % REDIS_EVERY == 0:
                server.kill()
                server.start()
                kills += 1
            with redis.Redis.from_url(server.url) as client:
                eventually(client.ping, PATIENCE)
                with standstill(client):
                    published = screens.agree()[STREAM_FLOW]
                eventually(lambda: shipped.published()[STREAM_FLOW] > published, PATIENCE)  # noqa: B023
    assert kills >= INSTANTS // KILLS_EVERY
    shipped.settle()
    for queue in shipped.queues.values():
        Screens._compare_history(audit(queue), queue)
