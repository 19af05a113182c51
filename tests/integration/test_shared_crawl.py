"""`scrapy crawl` by several spiders that share a crawl: any project, with our scheduler and our spider middleware."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from millrace.practice.site import PracticeSite
from millrace_pipeline.envelope import decode
from millrace_pipeline.queue import Session, books_of
from millrace_pipeline.queue.frontier import CrawlBooks, crawl_books
from millrace_pipeline.queue.frontier.dead import DeadRequest, DeadRequests
from tests.conftest import eventually
from tests.integration.scrapyproject import make_project
from tests.linkedsite import STAMP, LinkedSite, gaps

SHARED = """
SCHEDULER = "millrace.scrapy.Scheduler"
SPIDER_MIDDLEWARES = {"millrace.scrapy.SharedCrawl": 0}
MILLRACE_RETRY_SECONDS = 0.1
LOG_LEVEL = "INFO"
"""

SPIDERS = '''
class Hostless(scrapy.Spider):
    name = "hostless"

    async def start(self):
        for url in self.urls.split():
            yield scrapy.Request(url)

    def parse(self, response):
        yield {"url": response.url}


class Linked(scrapy.Spider):
    name = "linked"

    async def start(self):
        yield scrapy.Request(self.url)

    def parse(self, response):
        if response.css("h1"):
            yield {"page": int(response.css("h1::text").get()), "depth": response.meta.get("depth")}
        for link in response.css("a::attr(href)").getall():
            try:
                yield response.follow(link, callback=self.parse)
            except ValueError:
                pass


class Odd(scrapy.Spider):
    """Does what `what` says on the page that it fetches."""
    name = "odd"
    attempts = 0

    async def start(self):
        yield {"from": "start"}
        yield scrapy.Request(self.url, errback=self.failed, cb_kwargs={"word": "é"}, meta={"list": [1, {"a": None}]})

    def parse(self, response, word):
        assert word == "é" and response.meta["list"] == [1, {"a": None}]
        return getattr(self, self.what)(response)

    def failed(self, failure):
        yield {"failed": failure.type.__name__}
        yield scrapy.Request(self.url + "?again", callback=self.last)

    def last(self, response):
        yield {"last": response.status}

    def raises(self, response):
        yield {"before": "it"}
        raise ValueError("a bug")

    def unsayable(self, response):
        yield {"before": "it"}
        yield response.follow("?x", callback=self.last, cb_kwargs={"seen": {1, 2}})

    def session(self, response):
        yield response.follow("?x", callback=self.last, meta={"cookiejar": 1})

    def many(self, response):
        for n in range(2500):
            yield {"n": n}
            yield response.follow(f"/gone/{n % 3}")

    async def inline(self, response):
        other = await self.crawler.engine.download_async(scrapy.Request(self.url + "?inline"))
        yield {"inline": other.status}

    def enough(self, response):
        yield {"n": 1}
        raise CloseSpider("up_to_date")

    def dies(self, response):
        os.kill(os.getpid(), signal.SIGKILL)
'''

PIPELINES = """
from scrapy.exceptions import DropItem

class Picky:
    def process_item(self, item):
        if item.get("n", 1) % 10 == 7:
            raise DropItem("a seven")
        if item.get("n") == 5:
            raise RuntimeError("five")
        return item
"""

ON_THE_WAY = (
    STAMP
    + '''
import asyncio
from scrapy.core.downloader.handlers.http11 import HTTP11DownloadHandler

class Sticks(HTTP11DownloadHandler):
    """Stands still again and again before a request is sent."""
    async def download_request(self, request):
        for _ in range(4):
            time.sleep(0.4)
            await asyncio.sleep(0)
        return await super().download_request(request)
'''
)


class Rig:
    """A project, a list and the spiders that crawl onto it."""

    def __init__(self, folder: Path, url: str, key: str) -> None:
        settings = SHARED + f"MILLRACE_KEY = {key!r}\n" + 'ITEM_PIPELINES = {"theirs.picky.Picky": 100}\n'
        self.folder = make_project(folder, settings=settings, spiders=SPIDERS + STAMP)
        (folder / "theirs" / "picky.py").write_text(PIPELINES)
        (folder / "theirs" / "way.py").write_text(ON_THE_WAY)
        self.url, self.key = url, key
        self.session = Session(url, key)
        self.running: list[subprocess.Popen[str]] = []

    def start(self, spider: str, *options: str, **arguments: str) -> subprocess.Popen[str]:
        given = [word for name, value in arguments.items() for word in ("-a", f"{name}={value}")]
        process = subprocess.Popen(
            [Path(sys.executable).parent / "scrapy", "crawl", spider, *given, *options],
            cwd=self.folder,
            env=os.environ | {"REDIS_URL": self.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.running.append(process)
        return process

    def crawl(self, spider: str, *options: str, spiders: int = 1, **arguments: str) -> str:
        """Crawl to the end with so many spiders, and return what they logged."""
        processes = [self.start(spider, *options, **arguments) for _ in range(spiders)]
        return "".join(self.finished(process) for process in processes)

    def finished(self, process: subprocess.Popen[str]) -> str:
        said, _ = process.communicate(timeout=120)
        assert process.returncode in (0, -9), said
        return said

    @property
    def books(self) -> CrawlBooks:
        found = crawl_books(self.session, "shared")
        assert found is not None
        assert found.difference == 0
        return found

    @property
    def dead(self) -> Sequence[DeadRequest]:
        return list(DeadRequests(self.session, "shared"))

    def items(self) -> list[dict[str, Any]]:
        (lines,) = self.session.ask(("LRANGE", self.key, 0, -1))
        assert books_of(self.session).published == len(lines) + books_of(self.session).dead
        return [json.loads(bytes(decode(line, foreign_id=str).data)) for line in reversed(lines)]


@pytest.fixture
def rig(tmp_path: Path, redis_url: str, key: str) -> Iterator[Rig]:
    rig = Rig(tmp_path, redis_url, key)
    yield rig
    for process in rig.running:
        process.kill()
    rig.session.close()


def pages(rig: Rig) -> Counter[int]:
    return Counter(item["page"] for item in rig.items())


def test_several_spiders_crawl_a_site_once_between_them_and_all_end(rig: Rig) -> None:
    with LinkedSite(150, hosts=3) as site:
        said = rig.crawl("linked", "-s", "DEPTH_LIMIT=12", spiders=3, url=site.start)
        assert pages(rig) == Counter(range(150))
        assert site.refetched() <= 1  # the first, which start() asks for without looking whether it was seen
    assert said.count("'finish_reason': 'finished'") == 3
    assert rig.books.over
    assert rig.books.dead == 0
    assert rig.books.errors["http 404"] == 2


def test_a_killed_spider_loses_and_doubles_nothing(rig: Rig) -> None:
    with LinkedSite(150, hosts=3, seconds=0.05) as site:
        lease = ("-s", "MILLRACE_LEASE_SECONDS=2", "-s", "DEPTH_LIMIT=12")
        first, second = (rig.start("linked", *lease, url=site.start) for _ in range(2))
        eventually(lambda: len(site.fetched) > 30, seconds=60)
        first.kill()
        rig.finished(second)
        assert pages(rig) == Counter(range(150))
        assert site.refetched() <= 1 + 16


def test_a_crawl_goes_on_where_all_its_spiders_were_killed(rig: Rig) -> None:
    with LinkedSite(60, seconds=0.05) as site:
        lease = ("-s", "MILLRACE_LEASE_SECONDS=1", "-s", "DEPTH_LIMIT=12")
        first = rig.start("linked", *lease, url=site.start)
        eventually(lambda: len(site.fetched) > 10, seconds=60)
        first.kill()
        rig.crawl("linked", *lease, url=site.start)
        assert pages(rig) == Counter(range(60))
        fetched = sum(site.fetched.values())
        assert "'finish_reason': 'finished'" in rig.crawl("linked", *lease, url=site.start)
        assert sum(site.fetched.values()) == fetched  # it is over


@pytest.mark.parametrize("spiders", [1, 2])
def test_a_host_is_asked_as_slowly_as_one_spider_would(rig: Rig, spiders: int) -> None:
    polite = ("-s", "DOWNLOAD_DELAY=0.2", "-s", "DOWNLOAD_DELAY_JITTER=0", "-s", "CONCURRENT_REQUESTS_PER_DOMAIN=1")
    with LinkedSite(12, hosts=2) as site:
        rig.crawl("linked", *polite, "-s", "DEPTH_LIMIT=3", spiders=spiders, url=site.start)
        assert pages(rig) == Counter(range(12))
        assert min(site.shortest(host) for host in site.moments) > 0.15
        assert set(site.most.values()) == {1}


@pytest.mark.parametrize("seconds", [0.0, 0.15, 0.7])
def test_the_server_measures_no_shorter_delay_however_many_spiders_there_are(rig: Rig, seconds: float) -> None:
    polite = ("-s", "DOWNLOAD_DELAY=0.2", "-s", "DOWNLOAD_DELAY_JITTER=0", "-s", "CONCURRENT_REQUESTS_PER_DOMAIN=3")
    with LinkedSite(30, hosts=2, seconds=seconds) as site:
        rig.crawl("linked", *polite, "-s", "DEPTH_LIMIT=9", spiders=3, url=site.start)
        assert pages(rig) == Counter(range(30))
        assert min(site.shortest(host) for host in site.moments) >= 0.2
        assert 1 <= max(site.most.values()) <= 3


POLITE = ("-s", "DOWNLOAD_DELAY=0.2", "-s", "DOWNLOAD_DELAY_JITTER=0", "-s", "CONCURRENT_REQUESTS_PER_DOMAIN=3")


def test_a_server_that_stands_still_measures_no_shorter_delay(rig: Rig) -> None:
    with LinkedSite(20) as site:
        spiders = [rig.start("linked", *POLITE, "-s", "DEPTH_LIMIT=9", url=site.start) for _ in range(2)]
        while any(spider.poll() is None for spider in spiders):
            site.stand_still(0.45)
        assert pages(rig) == Counter(range(20))
        assert site.shortest("127.0.0.1") >= 0.2


def test_a_spider_that_stands_still_before_it_sends_comes_no_closer_to_another(rig: Rig) -> None:
    sticks = ("-s", 'DOWNLOAD_HANDLERS={"http": "theirs.way.Sticks"}')
    with LinkedSite(30) as site:
        slow = rig.start("linked", *POLITE, *sticks, "-s", "DEPTH_LIMIT=9", url=site.start)
        rig.crawl("linked", *POLITE, "-s", "DEPTH_LIMIT=9", url=site.start)
        rig.finished(slow)
        assert pages(rig) == Counter(range(30))
        assert min(gaps(site.sent["127.0.0.1"])) >= 0.2
        assert site.shortest("127.0.0.1") >= 0.2


def test_retry_after_holds_for_all_spiders(rig: Rig) -> None:
    with LinkedSite(5) as site:
        site.busy_until = time.monotonic() + 600
        process = rig.start("linked", "-s", "RETRY_TIMES=20", "-s", "DEPTH_LIMIT=3", url=site.start)
        eventually(lambda: len(site.moments["127.0.0.1"]) >= 3, seconds=60)
        site.busy_until = 0
        rig.finished(process)
        first, second, third = site.moments["127.0.0.1"][:3]
        assert min(second - first, third - second) > 0.9
        assert pages(rig) == Counter(range(5))


def test_what_a_spider_of_every_kind_of_output_yields_arrives(rig: Rig) -> None:
    with LinkedSite(1) as site:
        rig.crawl("odd", what="inline", url=site.start)
    assert rig.items() == [{"from": "start"}, {"inline": 200}]


@pytest.mark.parametrize("throttled", ["True", "False"])
def test_what_has_no_host_is_crawled_like_a_page(rig: Rig, tmp_path: Path, throttled: str) -> None:
    (tmp_path / "saved.html").write_text("a saved page")
    urls = ["data:,one", (tmp_path / "saved.html").as_uri(), "data:text/html,two"]
    said = rig.crawl("hostless", "-s", f"AUTOTHROTTLE_ENABLED={throttled}", spiders=2, urls=" ".join(urls))
    assert sorted(item["url"] for item in rig.items()) == sorted(urls)
    assert "Traceback" not in said


def test_a_failed_download_is_its_errbacks(rig: Rig) -> None:
    rig.crawl("odd", "-s", "RETRY_ENABLED=False", what="raises", url="http://127.0.0.1:1/")
    assert rig.items() == [{"from": "start"}, {"failed": "DownloadConnectionRefusedError"}]
    (dead,) = rig.dead  # the last has no errback
    assert dead.url == "http://127.0.0.1:1/?again"
    assert "DownloadConnectionRefusedError" in dead.reason


def test_a_bug_is_tried_again_then_set_aside_with_its_traceback(rig: Rig) -> None:
    with LinkedSite(1) as site:
        rig.crawl("odd", what="raises", url=site.start)
        assert site.fetched["127.0.0.1/page/0"] == 3
    (dead,) = rig.dead
    assert (dead.reason, dead.attempts, dead.kind) == ("ValueError: a bug", 3, "ValueError")
    assert 'raise ValueError("a bug")' in dead.traceback
    assert rig.items() == [{"from": "start"}, {"before": "it"}]


@pytest.mark.parametrize(
    ("what", "said"), [("unsayable", "cb_kwargs['seen'] is set {1, 2}"), ("session", "meta['cookiejar']")]
)
def test_what_json_cant_say_is_an_error_that_names_the_field(rig: Rig, what: str, said: str) -> None:
    with LinkedSite(1) as site:
        rig.crawl("odd", what=what, url=site.start)
        assert site.fetched["127.0.0.1/page/0"] == 1
    (dead,) = rig.dead
    assert said in dead.reason


def test_a_page_of_thousands_is_settled_in_parts_and_what_is_dropped_counts(rig: Rig) -> None:
    with LinkedSite(1) as site:
        rig.crawl("odd", what="many", url=site.start)
    found = rig.items()[1:]
    assert sorted(item["n"] for item in found) == [n for n in range(2500) if n % 10 != 7 and n != 5]
    assert (rig.books.items_dropped, rig.books.found) == (250, 5)
    (letter,) = rig.session.ask(("XRANGE", rig.session.keys.dead, "-", "+"))
    assert "an item pipeline failed: RuntimeError: five" in str(letter)


def test_a_callback_that_is_gone_makes_a_dead_request_to_be_replayed(rig: Rig) -> None:
    with LinkedSite(1) as site:
        process = rig.start("odd", "-s", "CLOSESPIDER_PAGECOUNT=1", what="many", url=site.start)
        rig.finished(process)
        name = rig.session.keys.crawl("shared")
        rig.session.ask(("HDEL", name, "stopped"))
        (numbers,) = rig.session.ask(("HGETALL", f"{name}:requests"))
        for number, text in zip(numbers[::2], numbers[1::2], strict=True):
            said = json.loads(text) | {"callback": "renamed"}
            rig.session.ask(("HSET", f"{name}:requests", number, json.dumps(said)))
        rig.crawl("odd", what="many", url=site.start)
    assert len(rig.dead) == len(numbers) // 2 > 0
    assert "has no method 'renamed' any more" in rig.dead[0].reason


def test_a_spider_that_closes_itself_ends_the_crawl_for_all(rig: Rig) -> None:
    with LinkedSite(1) as site:
        assert "up_to_date" in rig.crawl("odd", what="enough", url=site.start)
        assert "'finish_reason': 'up_to_date'" in rig.crawl("odd", what="enough", url=site.start)
    assert rig.items() == [{"from": "start"}, {"n": 1}]


def test_a_limit_of_items_holds_for_the_whole_crawl(rig: Rig) -> None:
    with LinkedSite(200, seconds=0.02) as site:
        said = rig.crawl("linked", "-s", "CLOSESPIDER_ITEMCOUNT=40", spiders=2, url=site.start)
    assert said.count("'finish_reason': 'closespider_itemcount'") == 2
    assert 40 <= len(rig.items()) <= 40 + 2 * 16


def test_what_kills_its_spider_is_set_aside(rig: Rig) -> None:
    with LinkedSite(1) as site:
        lease = ("-s", "MILLRACE_LEASE_SECONDS=1", "-s", "MILLRACE_MAX_ATTEMPTS=2")
        for _ in range(2):
            rig.finished(rig.start("odd", *lease, what="dies", url=site.start))
        assert "'finish_reason': 'finished'" in rig.crawl("odd", *lease, what="dies", url=site.start)
        assert site.fetched["127.0.0.1/page/0"] == 2
    (dead,) = rig.dead
    assert (dead.kind, dead.attempts) == ("lease", 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-s", "JOBDIR=job"], "JOBDIR is set"),
        (["-s", "SPIDER_MIDDLEWARES={}"], "needs its spider middleware"),
        (["-s", "MILLRACE_KEY="], "MILLRACE_KEY is not set"),
        (["-s", "SCHEDULER=scrapy.core.scheduler.Scheduler"], "its SCHEDULER is another"),
    ],
)
def test_what_cant_be_is_refused_with_the_mend(rig: Rig, options: list[str], said: str) -> None:
    with LinkedSite(1) as site:
        process = rig.start("linked", *options, url=site.start)
        logged, _ = process.communicate(timeout=60)
        assert said in logged
        assert not site.fetched


@pytest.mark.parametrize("spider", ["quotes", "books"])
def test_the_shipped_spiders_give_the_same_shared_or_not(tmp_path: Path, redis_url: str, key: str, spider: str) -> None:
    with PracticeSite() as site:
        url = site.url if spider == "quotes" else site.shop_url
        found = []
        for shared in (True, False):
            name = f"{key}:{shared}"
            options = {"DOWNLOAD_DELAY": "0", "AUTOTHROTTLE_ENABLED": "False", "MILLRACE_KEY": name}
            if shared:
                options["SCHEDULER"] = "millrace.scrapy.Scheduler"
                options["SPIDER_MIDDLEWARES"] = '{"millrace.scrapy.SharedCrawl": 0}'
            words = [word for option, value in options.items() for word in ("-s", f"{option}={value}")]
            process = subprocess.run(
                [Path(sys.executable).parent / "scrapy", "crawl", spider, "-a", f"start_url={url}", *words],
                cwd=Path(__file__).parents[2] / "producer",
                env=os.environ | {"REDIS_URL": redis_url},
                capture_output=True,
                text=True,
                check=True,
                timeout=120,
            )
            assert "'finish_reason': 'finished'" in process.stderr, process.stderr
            with redis.Redis.from_url(redis_url) as client:
                lines = client.lrange(name, 0, -1)
            found.append(sorted(bytes(decode(line, foreign_id=str).data) for line in lines))  # type: ignore[union-attr]
    assert found[0] == found[1] != []
