"""A crawl that four spiders share, over twenty hosts with traps, while spiders and Redis are killed and the way is cut.

`MILLRACE_CRAWL_PAGES` (300) says how large the site is; a kill comes every `MILLRACE_CRAWL_KILL_SECONDS` (2).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.embedded import Embedded
from millrace_pipeline.queue import Session
from millrace_pipeline.queue.frontier import crawl_books
from tests.faults.conftest import Row
from tests.faults.proxy import Proxy
from tests.integration.scrapyproject import make_project
from tests.integration.test_shared_crawl import SHARED, SPIDERS
from tests.linkedsite import STAMP, LinkedSite, gaps
from tests.services import NOWHERE, Place

PAGES = int(os.environ.get("MILLRACE_CRAWL_PAGES", "300"))
KILL_SECONDS = float(os.environ.get("MILLRACE_CRAWL_KILL_SECONDS", "2"))
HOSTS = 20
SPIDERS_AT_ONCE = 4
REDIS_KILLS = 5
LEASE = 3.0
DELAY = 0.05
CONCURRENCY = 4
IN_HAND = 16
"""CONCURRENT_REQUESTS: so many requests a spider has in its hands."""


class Spiders:
    """Four spiders of one project; one that is killed is started again."""

    def __init__(self, folder: Path, url: str, key: str, start: str) -> None:
        settings = SHARED + (
            f"MILLRACE_KEY = {key!r}\nMILLRACE_LEASE_SECONDS = {LEASE}\nMILLRACE_MAX_ATTEMPTS = 1000\n"
            f"DEPTH_LIMIT = 30\n"
            f"DOWNLOAD_DELAY = {DELAY}\nDOWNLOAD_DELAY_JITTER = 0\nCONCURRENT_REQUESTS_PER_DOMAIN = {CONCURRENCY}\n"
            f"CONCURRENT_REQUESTS = {IN_HAND}\nLOG_LEVEL = 'INFO'\n"
        )
        self.folder = make_project(folder, settings=settings, spiders=SPIDERS + STAMP)
        self.environ = os.environ | {"REDIS_URL": url}
        self.url = start
        self.running: list[subprocess.Popen[bytes]] = []
        self.kills = 0
        self._logs = 0

    def start(self) -> None:
        self._logs += 1
        with (self.folder / f"log-{self._logs}").open("wb") as log:
            command = [Path(sys.executable).parent / "scrapy", "crawl", "linked", "-a", f"url={self.url}"]
            self.running.append(subprocess.Popen(command, cwd=self.folder, env=self.environ, stderr=log))

    def kill_the_eldest(self) -> None:
        eldest = self.running.pop(0)
        if eldest.poll() is None:
            self.kills += 1
            eldest.kill()
        eldest.wait()

    def end(self) -> None:
        for spider in self.running:
            spider.send_signal(signal.SIGCONT)
            spider.kill()
            spider.wait()

    @property
    def all_ended(self) -> bool:
        return all(spider.poll() is not None for spider in self.running)

    def logged(self) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("log-*")))


@pytest.fixture
def site() -> Iterator[LinkedSite]:
    with LinkedSite(PAGES, hosts=HOSTS, seconds=0.02) as site:
        yield site


@pytest.mark.timeout(3600)
def test_four_spiders_that_are_killed_with_their_redis_lose_and_double_nothing(
    server: Embedded, proxy: Proxy, site: LinkedSite, tmp_path: Path, row: Row
) -> None:
    row("a shared crawl: spiders and Redis killed, cuts, a frozen spider", "CSDL")
    with Place(tmp_path, server.url, "crawl") as place:
        place.flow("linked", source=NOWHERE)
        key = place.key_of("linked")
        spiders = Spiders(tmp_path / "project", proxy.url, key, site.start)
        session = Session(server.url, key)
        frozen = 0
        try:
            for _ in range(SPIDERS_AT_ONCE):
                spiders.start()
            chance, pause, since = random.Random(7), threading.Event(), time.monotonic()
            while sum("/page/" in path for path in site.fetched) < 0.9 * PAGES and not spiders.all_ended:
                so_far = site.fetched.total()
                pause.wait(KILL_SECONDS)
                if site.fetched.total() == so_far:
                    continue  # on a slow machine a spider takes its time to begin
                spiders.kill_the_eldest()
                spiders.start()
                proxy.cut() if chance.random() < 0.3 else None
                if spiders.kills % 3 == 1 and spiders.kills // 3 < REDIS_KILLS:
                    server.kill()
                    server.start()
                if spiders.kills == 2:
                    frozen += 1
                    spiders.running[-2].send_signal(signal.SIGSTOP)
                    threading.Timer(LEASE + 2, spiders.running[-2].send_signal, [signal.SIGCONT]).start()
                books = crawl_books(session, "shared")
                assert books is None or books.difference == 0
                assert time.monotonic() - since < 3000, spiders.logged()[-5000:]
            for spider in spiders.running:
                spider.wait(600)
            assert [spider.returncode for spider in spiders.running] == [0] * SPIDERS_AT_ONCE, spiders.logged()[-5000:]
            books = crawl_books(session, "shared")
            assert books is not None
            assert books.over
            assert (books.difference, books.dead) == (0, 0), books
            place.deliver_the_rest()
            pages = Counter(record["page"] for record in place.records("linked"))
            assert pages == Counter(range(PAGES))
            assert site.refetched() <= 1 + (spiders.kills + frozen) * IN_HAND
            assert max(site.most.values()) <= CONCURRENCY
            for host, moments in site.moments.items():
                assert (len(moments) - 1) * DELAY <= 1.02 * (moments[-1] - moments[0]), host
            short = [(host, gap) for host, sent in site.sent.items() for gap in gaps(sent) if gap < DELAY]
            assert len(short) <= frozen, short  # a process may be stopped between its last look and the write
            sys.stdout.write(
                f"\n{PAGES} pages, {spiders.kills} kills, {site.refetched()} fetched again, most at once "
                f"{max(site.most.values())}, shortest delay {min(map(site.shortest, site.moments)):.3f} s, "
                f"as sent {min(gap for sent in site.sent.values() for gap in gaps(sent)):.3f} s, "
                f"{time.monotonic() - since:.0f} s"
            )
        finally:
            spiders.end()
            session.close()
