"""A host's delay in a shared crawl, as its server measures it: requests that are long on their way, stopped spiders."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from scrapy import Request

from millrace_pipeline.queue.frontier import Claimed, Pace, Politeness
from millrace_producer.crawling.courier import Courier
from millrace_producer.crawling.page import Page
from millrace_producer.crawling.turns import LeaseLost, Turns
from tests.conftest import eventually
from tests.integration.test_shared_crawl import Rig, pages, rig  # noqa: F401
from tests.linkedsite import LinkedSite

WAYS = """
import asyncio, os, signal
from scrapy.core.downloader.handlers.http11 import HTTP11DownloadHandler

class SlowWay(HTTP11DownloadHandler):
    # as where a name is looked up and a connection made, for every other request
    sent = 0
    async def download_request(self, request):
        SlowWay.sent += 1
        if SlowWay.sent % 2:
            await asyncio.sleep(0.19)
        return await super().download_request(request)

class Stops:
    # as where a process is stopped between being given a request and sending it
    def process_request(self, request):
        if request.url.endswith("/page/3") and not os.path.exists("stopped"):
            with open("stopped", "x") as file:
                file.write(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
"""

DELAY = 0.2
POLITE = ("-s", f"DOWNLOAD_DELAY={DELAY}", "-s", "DOWNLOAD_DELAY_JITTER=0", "-s", "DEPTH_LIMIT=9")


@pytest.fixture
def ways(rig: Rig) -> Rig:  # noqa: F811
    (rig.folder / "theirs" / "ways.py").write_text(WAYS)
    return rig


@pytest.mark.parametrize("spiders", [1, 3])
def test_a_request_that_is_long_on_its_way_shortens_no_delay_at_the_server(ways: Rig, spiders: int) -> None:
    slow = ("-s", 'DOWNLOAD_HANDLERS={"http": "theirs.ways.SlowWay"}')
    with LinkedSite(16) as site:
        ways.crawl("linked", *POLITE, *slow, spiders=spiders, url=site.start)
        assert pages(ways) == Counter(range(16))
        assert site.shortest("127.0.0.1") >= DELAY


@pytest.mark.parametrize("spiders", [1, 2])
def test_a_spider_that_was_stopped_for_longer_than_its_lease_sends_nothing_that_is_anothers(
    ways: Rig, spiders: int
) -> None:
    stops = ("-s", 'DOWNLOADER_MIDDLEWARES={"theirs.ways.Stops": 999}', "-s", "MILLRACE_LEASE_SECONDS=1")
    with LinkedSite(16) as site:
        running = [ways.start("linked", *POLITE, *stops, url=site.start) for _ in range(spiders)]
        stopped = ways.folder / "stopped"
        eventually(lambda: stopped.exists() and stopped.read_text(), seconds=120)
        leases = time.monotonic() + 1.5
        eventually(lambda: time.monotonic() > leases and (spiders == 1 or _asked(site, 3)), seconds=30)
        os.kill(int(stopped.read_text()), signal.SIGCONT)
        for one in running:
            ways.finished(one)
        assert pages(ways) == Counter(range(16))
        assert _asked(site, 3) == 1
        assert site.shortest("127.0.0.1") >= DELAY


def _asked(site: LinkedSite, page: int) -> int:
    return site.fetched[f"127.0.0.1/page/{page}"]


class Sender:
    """A spider of which only the way to the handlers is there, and a courier that hears who was asked."""

    def __init__(self, *, held: bool = True, delay: float = 0.01) -> None:
        self.said: list[Claimed] = []
        self.settled: list[Any] = []
        self.sent: list[Request] = []
        self.is_held = lambda claimed: held
        self.settle, self.say_asked = self.settled.append, self.said.append
        self.request = Request("http://host/", meta={"download_slot": "host"})
        self.page = Page(Claimed(b"host\0" + b"0" * 25, "token", 1, 0, b"{}"), self.request)
        slot = SimpleNamespace(delay=delay, jitter=0.0)
        self.handlers = SimpleNamespace(download_request_async=self._download)
        crawler: Any = SimpleNamespace(
            signals=SimpleNamespace(connect=lambda *_: None),
            engine=SimpleNamespace(downloader=SimpleNamespace(slots={"host": slot}, handlers=self.handlers)),
        )
        options: Any = SimpleNamespace(throttled=False, politeness=Politeness(Pace(delay)))
        self.turns = Turns(crawler, options, lambda _: self.page)
        self.turns.begin(self)  # type: ignore[arg-type]

    async def send(self) -> None:
        self.turns._request_reached_downloader(self.request)
        await self.handlers.download_request_async(self.request)

    async def _download(self, request: Request) -> None:
        self.sent.append(request)


def test_while_a_process_stands_still_a_silent_host_doesnt_count_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millrace_producer.crawling.turns.SECONDS", 0.05)

    async def stand_still() -> None:
        sender = Sender()
        await sender.send()
        for _ in range(8):
            time.sleep(0.05)  # as long as all looks together
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert sender.said == []
        while not sender.said:
            await asyncio.sleep(0.005)
        assert sender.said == [sender.page.claimed]

    asyncio.run(asyncio.wait_for(stand_still(), 30))


def test_what_isnt_held_any_more_is_given_back_instead_of_sent() -> None:
    sender = Sender(held=False)
    with pytest.raises(LeaseLost):
        asyncio.run(sender.send())
    assert sender.sent == []
    assert sender.page.lost
    assert [settlement.outcome for settlement in sender.settled] == ["back"]


def test_after_an_outage_nothing_is_held_until_redis_says_so() -> None:
    session = SimpleNamespace(outages=0)
    frontier: Any = SimpleNamespace(
        session=session, name="shared", lease_ms=60_000, renew=lambda held: [one.token == "known" for one in held]
    )
    courier = Courier(frontier, heard=print, settled=print, failed=print, max_ready=9, limits={})
    known = Claimed(b"host\0" + b"1" * 25, "known", 1, 0, b"{}")
    forgotten = Claimed(b"host\0" + b"2" * 25, "gone", 1, 0, b"{}")
    courier._held = {one.number: (one, float("inf")) for one in (known, forgotten)}
    assert [courier.is_held(one) for one in (known, forgotten)] == [True, True]
    session.outages = 1
    assert [courier.is_held(one) for one in (known, forgotten)] == [False, False]
    courier._renew()
    assert [courier.is_held(one) for one in (known, forgotten)] == [True, False]
