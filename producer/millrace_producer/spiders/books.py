"""The books spider: `scrapy crawl books -a start_url=https://books.toscrape.com/catalogue/page-1.html`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

from scrapy import Request, Spider
from scrapy.exceptions import CloseSpider, IgnoreRequest
from scrapy.http import Response, TextResponse
from scrapy.spidermiddlewares.httperror import HttpError
from twisted.python.failure import Failure

from millrace_producer.spiders.models import Book
from millrace_producer.spiders.money import money

RATINGS = {"One": 1, "Two": 2, "Three": 3, "Four": 4, "Five": 5}

_AVAILABLE = re.compile(r"\((\d+) available\)")


class BooksSpider(Spider):
    """A spider for books.toscrape.com, or any shop laid out like it.

    Follows the catalogue from `start_url` by its "next" links, and from there to each book's own page, and yields a
    `Book` for each. With `details=false` it stays in the catalogue, whose pages tell less, with one request for twenty
    books.

    A book whose page can't be had is left out, and counted. Each page of the catalogue leads to the next, so one that
    can't be had ends the crawl, with a reason of its own: `page_failed`, `robots_forbidden`; so does one without any
    book, `no_books`. It never looks finished when it isn't.
    """

    name = "books"
    start_url = "https://books.toscrape.com/catalogue/page-1.html"
    details = "true"

    async def start(self) -> AsyncIterator[Any]:
        yield Request(self.start_url, callback=self.parse, errback=self.page_failed)

    def parse(self, response: Response, **_: Any) -> Iterator[Any]:
        """A page of the catalogue."""
        cards = response.css("article.product_pod") if isinstance(response, TextResponse) else []
        if not cards:
            self.logger.error("no books on %s", response.url)
            raise CloseSpider("no_books")
        for card in cards:
            link = card.css("h3 > a::attr(href)").get("")
            if self.details == "true":
                yield response.follow(link, callback=self.parse_book, errback=self.book_failed)
            else:
                title = card.css("h3 > a::attr(title)").get("")
                yield from self.book(card, title=title, url=response.urljoin(link))
        following = response.css("li.next > a::attr(href)").get()
        if following:
            yield response.follow(following, callback=self.parse, errback=self.page_failed)

    def parse_book(self, response: Response, **_: Any) -> Iterator[Any]:
        """A book's own page."""
        facts = {row.css("th::text").get(""): row.css("td::text").get() for row in response.css("table tr")}
        yield from self.book(
            response.css("div.product_main"),
            title=response.css("div.product_main h1::text").get(""),
            url=response.url,
            upc=facts.get("UPC"),
            category=response.css("ul.breadcrumb li:nth-child(3) a::text").get(),
            description=response.css("#product_description + p::text").get(),
        )

    def book(self, part: Any, **known: Any) -> Iterator[Book]:
        """The book, unless a part of it isn't laid out as expected: that is counted."""
        try:
            price = money(_text(part, "p.price_color"))
            stock = _text(part, "p.availability")
            count = _AVAILABLE.search(stock)
            in_stock = stock.startswith("In stock")
            yield Book(
                price=price.amount,
                currency=price.currency,
                rating=RATINGS.get(_rating(part), 0),
                in_stock=in_stock,
                available=int(count[1]) if count else None if in_stock else 0,
                **known,
            )
        except ValueError as error:
            self.crawler.stats.inc_value("books/malformed")
            self.logger.error("%s is not laid out as expected: %s", known["url"], error)

    def book_failed(self, failure: Failure) -> None:
        """Errback: a book's page is not to be had, however often it was tried. The others are."""
        self.crawler.stats.inc_value("books/missing")
        self.logger.error("%s: %s", getattr(failure, "request", "a book"), failure.getErrorMessage())

    def page_failed(self, failure: Failure) -> None:
        """Errback: a page of the catalogue is not to be had."""
        forbidden = isinstance(failure.value, IgnoreRequest) and not isinstance(failure.value, HttpError)
        self.logger.error("%s: %s", getattr(failure, "request", self.start_url), failure.getErrorMessage())
        raise CloseSpider("robots_forbidden" if forbidden else "page_failed")


def _text(part: Any, css: str) -> str:
    """The text within the first such element, trimmed; empty where there is none."""
    return str(part.css(css).xpath("normalize-space(string(.))").get(""))


def _rating(part: Any) -> str:
    """`Three` of `star-rating Three`."""
    classes: str = part.css("p.star-rating::attr(class)").get("")
    return classes.removeprefix("star-rating").strip()
