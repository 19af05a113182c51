"""`scrapy crawl` by itself, against a real server: our own spider, and anybody's project with our item pipeline."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from millrace.embedded import Embedded
from millrace.practice.site import PracticeSite
from millrace_pipeline.envelope import Envelope, decode
from tests.conftest import DATA, eventually
from tests.integration.ports import free_port
from tests.integration.scrapyproject import make_project, settled
from tests.queues import Queue

OUR_PROJECT = Path(__file__).parents[2] / "producer"
LIST = "DATA-PIPELINE-KEY"
THEIRS = f'ITEM_PIPELINES = {{"millrace.scrapy.RedisPipeline": 900}}\nMILLRACE_KEY = "{LIST}"\n'
GONE = "redis://127.0.0.1:1/0"
QUICK = ("-s", "DOWNLOAD_DELAY=0", "-s", "AUTOTHROTTLE_ENABLED=False")


@pytest.fixture(scope="module")
def server() -> Iterator[Embedded]:
    """A server of our own: these tests fill the list of the shipped settings, and the memory."""
    with Embedded() as server:
        yield server


@pytest.fixture
def client(server: Embedded) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        yield client


def start(folder: Path, spider: str, url: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [Path(sys.executable).parent / "scrapy", "crawl", spider, *options],
        cwd=folder,
        env=os.environ | {"REDIS_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def crawl(folder: Path, spider: str, url: str, *options: str) -> str:
    """Runs a crawl to its end and returns its log."""
    status, said = finished(start(folder, spider, url, *options))
    assert status == 0, said
    return said


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Waits for a crawl to end by itself; returns its exit status and its log."""
    try:
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, said


def published(client: redis.Redis) -> list[Envelope]:
    """What is on the list, oldest first."""
    return [decode(line, foreign_id=str) for line in reversed(client.lrange(LIST, 0, -1))]  # type: ignore[arg-type]


def data(client: redis.Redis) -> list[Any]:
    return [envelope.value for envelope in published(client)]


def test_scrapy_crawl_quotes_puts_every_quote_of_the_practice_site_on_the_list(
    server: Embedded, client: redis.Redis
) -> None:
    with PracticeSite() as site:
        log = crawl(OUR_PROJECT, "quotes", server.url, "-a", f"start_url={site.url}")
        assert client.llen(LIST) == 100
        assert data(client) == site.quotes
    assert len({envelope.id for envelope in published(client)}) == 100
    assert {(envelope.source, envelope.type) for envelope in published(client)} == {("quotes", "Quote")}
    assert "'millrace/published': 100" in log
    queue = Queue(server.url, LIST)
    assert queue.books().published == 100
    queue.close_all()


def test_the_saved_pages_of_quotes_to_scrape_give_exactly_its_quotes(server: Embedded, client: redis.Redis) -> None:
    folder = DATA / "quotes"
    if not folder.exists():
        pytest.skip(f"no saved pages at {folder}: set MILLRACE_TEST_DATA")
    pages = {f"/page/{n}/": (folder / f"page_{n:02}.html").read_bytes() for n in range(1, 6)}
    pages["/page/5/"] = pages["/page/5/"].replace(b'<li class="next">', b'<li class="not saved">')
    known = json.loads((folder / "expected_quotes.json").read_text())
    with PracticeSite(saved=pages) as site:
        crawl(OUR_PROJECT, "quotes", server.url, "-a", f"start_url={site.url}page/1/", *QUICK)
        assert data(client) == [
            {
                "text": quote["text"],
                "author": quote["author"],
                "tags": quote["tags"],
                "url": f"{site.url}page/{quote['page']}/",
            }
            for quote in known
        ]


def test_one_line_and_one_setting_publish_the_items_of_any_project(
    server: Embedded, client: redis.Redis, tmp_path: Path
) -> None:
    log = crawl(make_project(tmp_path, settings=THEIRS), "kinds", server.url)
    assert [envelope.type for envelope in published(client)] == ["record", "Field", "Data", "Attrs", "Model"]
    assert data(client) == [{"name": name} for name in ("dict", "Field", "Data", "Attrs", "Model")]
    queue = Queue(server.url, LIST)
    assert (queue.books().published, queue.books().dead) == (6, 1)
    queue.close_all()
    assert "set aside as a dead letter: dict item: not JSON" in log
    assert "'millrace/dead': 1" in log


def test_a_redis_that_is_full_holds_the_crawl_back_until_there_is_room_and_nothing_is_lost(
    server: Embedded, client: redis.Redis
) -> None:
    page = "".join(
        f'<div class="quote"><span class="text">quote {n}</span><small class="author">A</small></div>'
        for n in range(50)
    )
    pages = 80
    saved = {f"/{n}": f'{page}<li class="next"><a href="/{n + 1}"></a></li>'.encode() for n in range(1, pages)}
    with PracticeSite(saved=saved | {f"/{pages}": page.encode()}) as site:
        client.config_set("maxmemory", 1)
        limits = ("-s", "SCRAPER_SLOT_MAX_ACTIVE_SIZE=1", "-s", "LOGSTATS_INTERVAL=0.1")
        options = ("-a", f"start_url={site.url}1", *QUICK, *limits)
        process = start(OUR_PROJECT, "quotes", server.url, *options)
        try:
            eventually(lambda: len(site.visits) > 10)
            asked = settled(site.visits)
            assert asked < 50
            assert client.llen(LIST) == 0
            client.config_set("maxmemory", 0)
            said, _ = process.communicate(timeout=60)
        finally:
            client.config_set("maxmemory", 0)
            process.kill()
            process.wait()
        assert "'finish_reason': 'finished'" in said
        assert "producer_held_back" in said
        reports = Counter(re.findall(r"Crawled (\d+) pages", said))
        assert max(reports.values()) >= 5, "the reactor stood still while the crawl was held back"
        numbered = [(quote["url"].rpartition("/")[2], quote["text"]) for quote in data(client)]
        assert numbered == [(str(n), f"quote {m}") for n in range(1, pages + 1) for m in range(50)]


def test_items_that_cannot_be_published_are_counted_and_the_crawl_is_not_called_finished(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", settings=THEIRS)
    with Embedded() as server:
        options = ("-a", f"lock={tmp_path / 'lock'}", "-s", "MILLRACE_FLUSH_SECONDS=0.5")
        process = start(project, "endless", server.url, *options)
        queue = Queue(server.url, LIST)
        eventually(lambda: queue.books().published)
        queue.close()
        server.kill()
    process.send_signal(signal.SIGTERM)
    _, said = finished(process)
    assert "'finish_reason': 'publish_failed'" in said
    assert re.search(r"items can't be published to DATA-PIPELINE-KEY, [1-9]\d* are lost", said)


def test_without_a_redis_a_crawl_says_so_at_once_asks_for_no_page_and_ends(tmp_path: Path) -> None:
    with PracticeSite() as site:
        options = ("-a", f"start_url={site.url}", *QUICK, "-s", "MILLRACE_REDIS_SECONDS=1")
        log = crawl(OUR_PROJECT, "quotes", GONE, *options)
        assert site.visits == []
    first, last = (log.index(words) for words in ("redis_unavailable", "and nothing is crawled"))
    assert first < last
    assert "127.0.0.1:1" in log[first:last]
    said = log[last:].splitlines()[0]
    assert "no Redis at redis://127.0.0.1:1/0 for 1 s" in said
    assert "refused. Start it, or set REDIS_URL" in said
    assert "'finish_reason': 'publish_failed'" in log
    assert "Traceback" not in log


def test_a_redis_that_comes_up_while_the_crawl_waits_gets_its_items(tmp_path: Path) -> None:
    server = Embedded(port=free_port())
    url = f"redis://127.0.0.1:{server.port}/0"
    process = start(make_project(tmp_path, settings=THEIRS), "names", url)
    try:
        lines = iter(process.stdout.readline, "")  # type: ignore[union-attr]
        assert any("redis_unavailable" in line for line in lines)
        with server:
            status, said = finished(process)
            queue = Queue(server.url, LIST)
            assert queue.books().published == 2, said
            queue.close()
    finally:
        process.kill()
    assert (status, "'finish_reason': 'finished'" in said) == (0, True)


def test_a_redis_that_would_throw_items_away_is_refused_at_once(
    server: Embedded, client: redis.Redis, tmp_path: Path
) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        log = crawl(make_project(tmp_path, settings=THEIRS), "names", server.url)
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    assert "maxmemory-policy is allkeys-lru" in log
    assert "'finish_reason': 'publish_failed'" in log
    assert "Traceback" not in log


def test_a_list_that_holds_something_else_closes_the_spider(
    server: Embedded, client: redis.Redis, tmp_path: Path
) -> None:
    client.set(LIST, "a string")
    lock = tmp_path / "lock"
    log = crawl(
        make_project(tmp_path / "p", settings=THEIRS), "endless", server.url, "-a", f"lock={lock}", "-L", "INFO"
    )
    assert "Spider closed (publish_failed)" in log


def test_a_project_without_the_setting_does_not_start(tmp_path: Path) -> None:
    theirs = 'ITEM_PIPELINES = {"millrace.scrapy.RedisPipeline": 900}\n'
    process = start(make_project(tmp_path, settings=theirs), "names", "redis://127.0.0.1:1/0")
    status, said = finished(process)
    assert status == 1
    assert "MILLRACE_KEY is not set" in said
