"""The quotes spider on single pages: ours, and saved ones of quotes.toscrape.com."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scrapy import Request
from scrapy.exceptions import CloseSpider
from scrapy.http import HtmlResponse
from scrapy.utils.test import get_crawler

from millrace.practice.site import LAST_PAGE, page
from millrace_producer.spiders.models import Quote
from millrace_producer.spiders.quotes import QuotesSpider
from tests.conftest import DATA

URL = "https://quotes.example/page/2/"
ONE = '<div class="quote"><span class="text">{text}</span><small class="author">{author}</small></div>'


def parsed(body: str | bytes, url: str = URL) -> list[Any]:
    crawler = get_crawler(QuotesSpider)
    crawler._apply_settings()
    crawler.spider = QuotesSpider.from_crawler(crawler)
    return list(crawler.spider.parse(HtmlResponse(url, body=body, encoding="utf-8")))


def quotes_of(found: list[Any]) -> list[dict[str, Any]]:
    return [quote.model_dump() for quote in found if isinstance(quote, Quote)]


@pytest.fixture
def saved() -> Path:
    folder = DATA / "quotes"
    if not folder.exists():
        pytest.skip(f"no saved pages at {folder}: set MILLRACE_TEST_DATA")
    return folder


@pytest.mark.parametrize(
    ("file", "number"),
    [*((f"page_{number:02}.html", number) for number in range(1, 6)), ("saved_page_01_scrapy_docs.html", 1)],
)
def test_a_page_of_quotes_to_scrape_gives_the_quotes_of_its_own_data_file(saved: Path, file: str, number: int) -> None:
    known = [quote for quote in json.loads((saved / "expected_quotes.json").read_text()) if quote.pop("page") == number]
    found = quotes_of(parsed((saved / file).read_bytes()))
    assert len(known) == 10
    assert found == [{**quote, "url": URL} for quote in known]


def test_the_next_page_is_followed_and_the_last_has_none() -> None:
    following = [found.url for found in parsed(page(2)) if isinstance(found, Request)]
    assert following == ["https://quotes.example/page/3/"]
    assert not [found for found in parsed(page(LAST_PAGE)) if isinstance(found, Request)]


def test_a_quote_that_lacks_a_part_is_counted_and_the_others_are_kept() -> None:
    found = quotes_of(parsed(ONE.format(text="A", author="B") + ONE.format(text="C", author="")))
    assert [quote["text"] for quote in found] == ["A"]


def test_markup_within_a_quote_is_not_lost_text() -> None:
    (quote,) = quotes_of(parsed(ONE.format(text="so <em>very</em> &lt;nested&gt; &amp; late", author="B")))
    assert quote["text"] == "so very <nested> & late"
    assert quote["tags"] == []


def test_a_page_without_any_quote_closes_the_crawl_with_a_reason_of_its_own() -> None:
    with pytest.raises(CloseSpider) as closed:
        parsed("<html><body>Please log in</body></html>")
    assert closed.value.reason == "no_quotes"
