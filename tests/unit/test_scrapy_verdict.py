"""How a crawl that closed is judged, from its reason and its counters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from scrapy.http import Response

from millrace_pipeline.errors import SourceRefused, SourceUnavailable
from millrace_producer.sources.crawl import ItemWriter
from millrace_producer.sources.crawlprocess import Ended, without_secrets
from millrace_producer.sources.scrapy import CRAWL_AGAIN_SECONDS, ScrapySource, pages_fetched

FETCHED = {
    "downloader/request_count": 3,
    "downloader/response_status_count/200": 3,
    "robotstxt/response_status_count/200": 1,
}
NOTHING = {
    "downloader/request_count": 1,
    "downloader/response_status_count/200": 1,
    "robotstxt/response_status_count/200": 1,
}


def judge(reason: str, stats: dict[str, int], retry_after: float | None = None, **options: object) -> None:
    ScrapySource(spider="s", **options).judge(Ended(reason, dict(stats), retry_after))  # type: ignore[arg-type]


def test_robots_txt_is_no_page() -> None:
    assert pages_fetched(FETCHED) == 2
    assert pages_fetched(NOTHING) == 0


@pytest.mark.parametrize(
    "reason", ["finished", "closespider_itemcount", "closespider_pagecount", "closespider_timeout"]
)
def test_a_crawl_that_did_what_was_asked_has_come_to_its_end(reason: str) -> None:
    judge(reason, FETCHED)
    judge(reason, {"item_scraped_count": 1})


@pytest.mark.parametrize(
    "reason", ["shutdown", "cancelled", "start_error", "closespider_errorcount", "memusage_exceeded"]
)
def test_a_crawl_that_broke_off_is_tried_again_but_not_at_once(reason: str) -> None:
    with pytest.raises(SourceUnavailable, match=reason) as told:
        judge(reason, FETCHED)
    assert told.value.retry_after == CRAWL_AGAIN_SECONDS


def test_a_reason_of_the_spiders_own_is_an_end_only_where_the_flow_says_so() -> None:
    with pytest.raises(SourceUnavailable, match="up_to_date"):
        judge("up_to_date", FETCHED)
    judge("up_to_date", FETCHED, finish_reasons=["up_to_date"])


def test_a_crawl_that_fetched_nothing_is_no_success() -> None:
    with pytest.raises(SourceUnavailable, match="2 × ConnectionRefusedError"):
        judge(
            "finished", NOTHING | {"downloader/exception_type_count/twisted.internet.error.ConnectionRefusedError": 2}
        )


def test_a_crawl_whose_every_page_the_spider_failed_on_is_no_success() -> None:
    with pytest.raises(SourceUnavailable, match="2 × KeyError"):
        judge("finished", FETCHED | {"spider_exceptions/count": 2, "spider_exceptions/KeyError": 2})


def test_what_the_site_asked_for_is_how_long_to_wait() -> None:
    with pytest.raises(SourceUnavailable, match="4 × 429") as told:
        judge("finished", NOTHING | {"downloader/response_status_count/429": 4}, retry_after=120.0)
    assert told.value.retry_after == 120.0


@pytest.mark.parametrize(
    ("stats", "why"),
    [
        (NOTHING | {"robotstxt/forbidden": 1}, "forbidden by robots.txt"),
        (NOTHING | {"downloader/response_status_count/404": 1}, "1 × 404"),
        ({}, "async def start"),
    ],
)
def test_what_trying_again_will_not_change_is_refused(stats: dict[str, int], why: str) -> None:
    with pytest.raises(SourceRefused, match=why):
        judge("finished", stats)


@pytest.mark.parametrize("as_date", [False, True])
def test_a_site_may_say_by_a_date_when_to_come_again(as_date: bool) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=1200), usegmt=True)
    writer = ItemWriter.__new__(ItemWriter)
    writer.retry_after = None
    headers = {"Retry-After": date if as_date else "1200"}
    writer.response_received(Response("http://a.example", status=429, headers=headers))
    assert writer.retry_after is not None
    assert 600 < writer.retry_after <= 1200


@pytest.mark.parametrize("stats", [{"millrace/resumed": 1}, {"dupefilter/filtered": 3}])
def test_a_crawl_with_nothing_left_to_fetch_is_well(stats: dict[str, int], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    judge("finished", stats)
    assert "nothing was left to fetch" in caplog.text
    with pytest.raises(SourceUnavailable, match="1 × 500"):
        judge("finished", stats | NOTHING | {"downloader/response_status_count/500": 1})


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("<GET https://me:geheim@site.example/a?x=1>", "<GET https://***@site.example/a?x=1>"),
        ("https://site.example/?api_key=geheim&page=2", "https://site.example/?api_key=***&page=2"),
        ("/?access_token=geheim> Token", "/?access_token=***> Token"),
        ("invalid hostname: me:geheim@127.0.0.1", "invalid hostname: ***@127.0.0.1"),
        ("ERROR [a] 12:30: nothing@all", "ERROR [a] 12:30: nothing@all"),
    ],
)
def test_secrets_in_urls_are_left_out(said: str, told: str) -> None:
    assert without_secrets(said) == told
