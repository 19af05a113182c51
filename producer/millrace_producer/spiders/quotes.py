"""The quotes spider: `scrapy crawl quotes -a start_url=https://quotes.toscrape.com/tag/humor/`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from parsel import Selector
from pydantic import ValidationError
from scrapy import Request, Spider
from scrapy.exceptions import CloseSpider, IgnoreRequest
from scrapy.http import Response, TextResponse
from scrapy.spidermiddlewares.httperror import HttpError
from twisted.python.failure import Failure

from millrace_producer.spiders.models import Quote


class QuotesSpider(Spider):
    """A spider for quotes.toscrape.com, or any site laid out like it.

    Follows the pages from `start_url` by their "Next" links and yields a `Quote` for each quote.

    Each page leads to the next, so one that can't be had ends the crawl with what came before it. The crawl then
    closes with a reason of its own, `page_failed` or `robots_forbidden`, and never looks finished. A page without any
    quote (`no_quotes`) is a start_url that is wrong, or a site that has changed.
    """

    name = "quotes"
    start_url = "https://quotes.toscrape.com/"

    async def start(self) -> AsyncIterator[Any]:
        yield Request(self.start_url, callback=self.parse, errback=self.page_failed)

    def parse(self, response: Response, **_: Any) -> Iterator[Any]:
        quotes = response.css("div.quote") if isinstance(response, TextResponse) else []
        if not quotes:
            self.logger.error("no quotes on %s", response.url)
            raise CloseSpider("no_quotes")
        for quote in quotes:
            try:
                yield self.quote(quote, response.url)
            except ValidationError as error:
                self.crawler.stats.inc_value("quotes/malformed")
                self.logger.error("a quote on %s is not laid out as expected: %s", response.url, error)
        following = response.css("li.next > a::attr(href)").get()
        if following:
            yield response.follow(following, callback=self.parse, errback=self.page_failed)

    def quote(self, quote: Selector, url: str) -> Quote:
        """One `div.quote`. Raises ValidationError where a part is missing."""
        return Quote(
            text=quote.xpath("string(.//span[@class='text'])").get("").strip(),
            author=quote.xpath("string(.//small[@class='author'])").get("").strip(),
            tags=quote.css("a.tag::text").getall(),
            url=url,
        )

    def page_failed(self, failure: Failure) -> None:
        """Errback: the page is not to be had, however often it was tried."""
        forbidden = isinstance(failure.value, IgnoreRequest) and not isinstance(failure.value, HttpError)
        self.logger.error("%s: %s", getattr(failure, "request", self.start_url), failure.getErrorMessage())
        raise CloseSpider("robots_forbidden" if forbidden else "page_failed")
