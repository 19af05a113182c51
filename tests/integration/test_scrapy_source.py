"""The scrapy source, with real crawls in real processes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import msgspec
import pytest

from millrace.practice.site import PracticeSite
from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import SourceRefused, SourceUnavailable
from millrace_producer.sources.crawlprocess import GRACE_SECONDS
from millrace_producer.sources.scrapy import CRAWL_AGAIN_SECONDS, ScrapySource
from tests.conftest import eventually
from tests.integration.scrapyproject import QUICK, is_locked, make_project, settled

NOBODY = "redis://127.0.0.1:1/0"
PROMPTLY = GRACE_SECONDS + 7.0


def quotes(site: PracticeSite, **settings: Any) -> ScrapySource:
    return ScrapySource(spider="quotes", args={"start_url": site.url}, settings=QUICK | settings)


def crawled(source: ScrapySource) -> list[Any]:
    return [msgspec.json.decode(record.data) for record in source.read(None) if isinstance(record, Record)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


def test_a_crawl_gives_every_quote_in_order_under_a_key_that_the_next_crawl_gives_too() -> None:
    with PracticeSite() as site:
        source = quotes(site)
        first = [record for record in source.read(None) if isinstance(record, Record)]
        again = [record for record in source.read(None) if isinstance(record, Record)]
        assert [msgspec.json.decode(record.data) for record in first] == site.quotes
        assert all("Millrace/" in visit.user_agent for visit in site.visits)
        assert site.visits[0].path == "/robots.txt"
    assert len({record.key for record in first}) == 100
    assert [record.key for record in first] == [record.key for record in again]
    assert {record.type for record in first} == {"Quote"}
    assert {record.position for record in first} == {None}


def test_a_resumed_crawl_with_nothing_left_has_come_to_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    project = make_project(tmp_path / "project")
    (project / "theirs" / "spiders" / "once.py").write_text(
        textwrap.dedent("""
            import scrapy

            class Once(scrapy.Spider):
                name = "once"

                async def start(self):
                    yield scrapy.Request(self.url)

                def parse(self, response):
                    yield {"url": response.url}
        """)
    )
    with PracticeSite() as site:
        args = {"url": f"{site.url}/"}
        source = ScrapySource(
            spider="once", project=project, args=args, settings=QUICK | {"JOBDIR": str(tmp_path / "job")}
        )
        assert crawled(source) == [{"url": f"{site.url}/"}]
        caplog.set_level("INFO")
        assert crawled(source) == []
    assert "nothing was left to fetch" in caplog.text


def test_a_busy_site_is_asked_again_until_it_answers() -> None:
    with PracticeSite(busy=3) as site:
        assert crawled(quotes(site)) == site.quotes


def test_a_page_that_stays_broken_fails_the_crawl_after_what_came_before_it() -> None:
    got: list[object] = []
    with PracticeSite(broken={3}) as site, pytest.raises(SourceUnavailable, match=r"page_failed.* 2 × 500") as told:
        got.extend(quotes(site, RETRY_TIMES=1).read(None))
    assert len(got) == 20
    assert told.value.retry_after == CRAWL_AGAIN_SECONDS


def test_robots_txt_that_forbids_everything_is_a_refusal() -> None:
    with PracticeSite(robots=False) as site:
        with pytest.raises(SourceRefused, match=r"forbidden by robots\.txt"):
            crawled(quotes(site))
        assert [visit.path for visit in site.visits] == ["/robots.txt"]


def test_a_site_that_is_too_busy_says_when_to_come_again() -> None:
    with PracticeSite(busy=1000) as site, pytest.raises(SourceUnavailable, match="1 × 429") as told:
        crawled(quotes(site, RETRY_TIMES=0))
    assert told.value.retry_after == 1.0


def test_a_site_that_is_down_is_unavailable_and_no_secret_is_told(caplog: pytest.LogCaptureFixture) -> None:
    url = "http://127.0.0.1:1/?api_key=geheim"
    source = ScrapySource(spider="quotes", args={"start_url": url}, settings={"RETRY_TIMES": 0})
    with caplog.at_level(logging.INFO), pytest.raises(SourceUnavailable, match="ConnectionRefused") as told:
        crawled(source)
    assert "Gave up retrying" in caplog.text
    assert "Traceback" not in caplog.text
    assert "geheim" not in caplog.text + str(told.value) + repr(source)


def test_the_projects_own_pipelines_run_and_nothing_is_published_twice(project: Path) -> None:
    pipelines = {"theirs.pipelines.Shout": 300, "millrace.scrapy.RedisPipeline": 900}
    settings = {"ITEM_PIPELINES": pipelines, "MILLRACE_KEY": "x", "REDIS_URL": NOBODY, "MILLRACE_FLUSH_SECONDS": 0.1}
    assert crawled(ScrapySource(spider="names", project=project, settings=settings)) == [
        {"name": "ADA"},
        {"name": "GRACE"},
    ]


def test_every_kind_of_item_is_a_record_and_what_json_cannot_say_a_dead_letter(project: Path) -> None:
    *records, last = ScrapySource(spider="kinds", project=project, key="/name").read("a checkpoint from elsewhere")
    assert [(r.key, r.type) for r in records if isinstance(r, Record)] == [
        ("dict", None),
        ("Field", "Field"),
        ("Data", "Data"),
        ("Attrs", "Attrs"),
        ("Model", "Model"),
    ]
    assert isinstance(last, DeadLetter)
    assert b"object at" in last.original


def test_a_wrong_name_argument_folder_or_setting_is_refused_with_the_reason(project: Path, tmp_path: Path) -> None:
    broken = make_project(tmp_path / "broken", settings="import no_such_module\n")
    for source, why in (
        (ScrapySource(spider="nope"), "no spider 'nope' here: there is books, quotes"),
        (ScrapySource(spider="needy", project=project), "wanted"),
        (ScrapySource(spider="old", project=project), r"async def start"),
        (ScrapySource(spider="names", project=tmp_path), r"no scrapy\.cfg"),
        (ScrapySource(spider="names", project=broken), "no_such_module"),
    ):
        with pytest.raises(SourceRefused, match=why):
            crawled(source)


def test_a_crawl_whose_process_dies_is_unavailable(project: Path, tmp_path: Path) -> None:
    source = ScrapySource(spider="endless", project=project, args={"lock": str(tmp_path / "lock"), "then": "die"})
    with pytest.raises(SourceUnavailable, match="broke off with signal 9"):
        crawled(source)


def test_a_reader_that_waits_holds_the_crawl_back_and_then_misses_nothing() -> None:
    page = "".join(
        f'<div class="quote"><span class="text">{number} {"x" * 2000}</span><small class="author">A</small></div>'
        for number in range(50)
    )
    pages = 40
    saved = {f"/{n}": f'{page}<li class="next"><a href="/{n + 1}"></a></li>'.encode() for n in range(1, pages)}
    with PracticeSite(saved=saved | {f"/{pages}": page.encode()}) as site:
        settings = QUICK | {"SCRAPER_SLOT_MAX_ACTIVE_SIZE": 200_000}
        source = ScrapySource(spider="quotes", args={"start_url": f"{site.url}1"}, settings=settings)
        records = source.read(None)
        next(records)
        asked = settled(site.visits)
        assert 1 < asked < 15
        assert len(list(records)) == pages * 50 - 1
        assert len(site.visits) == pages + 1


def test_leaving_the_records_ends_the_crawl(project: Path, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    records = ScrapySource(spider="endless", project=project, args={"lock": str(lock)}).read(None)
    next(records)
    assert is_locked(lock)
    records.close()  # type: ignore[attr-defined]
    assert not is_locked(lock)


@pytest.mark.parametrize("then", ["go on", "block"])
def test_a_reader_that_is_killed_leaves_no_crawl_behind(project: Path, tmp_path: Path, then: str) -> None:
    lock = tmp_path / "lock"
    code = f"""
        from pathlib import Path
        from millrace_producer.sources.scrapy import ScrapySource
        args = {{"lock": {str(lock)!r}, "then": {then!r}}}
        source = ScrapySource(spider="endless", project=Path({str(project)!r}), args=args)
        for number, _ in enumerate(source.read(None), 1):
            if number == 5:
                print("reading", flush=True)
    """
    reader = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    with reader.stdout as said:
        assert said.readline() == "reading\n"
    assert is_locked(lock)
    os.kill(reader.pid, signal.SIGKILL)
    reader.wait()
    eventually(lambda: not is_locked(lock), PROMPTLY)
