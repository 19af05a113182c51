"""The books spider on single pages: ours, and saved ones of books.toscrape.com; and money as shops write it."""

from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from scrapy import Request
from scrapy.exceptions import CloseSpider
from scrapy.http import HtmlResponse
from scrapy.utils.test import get_crawler

from millrace.practice import bookshop
from millrace_producer.spiders.books import BooksSpider
from millrace_producer.spiders.models import Book
from millrace_producer.spiders.money import money
from tests.conftest import DATA

SITE = "https://books.example/"


def spider(**arguments: str) -> BooksSpider:
    crawler = get_crawler(BooksSpider)
    crawler._apply_settings()
    crawler.spider = BooksSpider.from_crawler(crawler, **arguments)
    return crawler.spider  # type: ignore[return-value]


def page(path: str, body: str | bytes | None = None) -> HtmlResponse:
    found = bookshop.page(f"/{path}") if body is None else body
    assert found is not None
    return HtmlResponse(SITE + path, body=found, encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "amount", "currency"),
    [
        ("£51.77", "51.77", "GBP"),
        ("Â£51.77", "51.77", "GBP"),
        (" £1,234.50\n", "1234.50", "GBP"),
        ("1.234,50 €", "1234.50", "EUR"),
        ("1 234,5 Kč", "1234.5", "CZK"),
        ("1\u202f234\u00a0€", "1234", "EUR"),
        ("CHF 1'234.50", "1234.50", "CHF"),
        ("$1,234", "1234", "USD"),
        ("-$5.00", "-5.00", "USD"),
        ("USD 0.10", "0.10", "USD"),
        ("¥1,234,567", "1234567", "JPY"),
    ],
)
def test_a_price_is_read_as_people_write_it(text: str, amount: str, currency: str) -> None:
    found = money(text)
    assert (found.amount, str(found.amount), found.currency) == (Decimal(amount), amount, currency)


@pytest.mark.parametrize("text", ["", "free", "£", "12.50", "£1 to £2 each", "£12.50 £13.50"])
def test_what_is_no_price_is_no_money(text: str) -> None:
    with pytest.raises(ValueError, match="no price"):
        money(text)


def test_the_catalogue_leads_to_every_book_and_to_the_next_page() -> None:
    paths: list[str] = []
    for number in range(1, bookshop.LAST_PAGE + 1):
        found = list(spider().parse(page(f"catalogue/page-{number}.html")))
        assert all(isinstance(request, Request) for request in found)
        urls = [request.url for request in found]
        follows = [url for url in urls if "/page-" in url]
        assert follows == ([f"{SITE}catalogue/page-{number + 1}.html"] if number < bookshop.LAST_PAGE else [])
        paths += [url for url in urls if url not in follows]
    assert paths == [book.expected(SITE)["url"] for book in bookshop.BOOKS]


def test_a_books_own_page_tells_all_of_it() -> None:
    for book in bookshop.BOOKS:
        (found,) = spider().parse_book(page(f"catalogue/{book.path}"))
        assert found.model_dump(mode="json") == book.expected(SITE)


def test_the_catalogue_alone_tells_the_whole_title_the_price_and_the_rating() -> None:
    found = [item for item in spider(details="false").parse(page("catalogue/page-1.html")) if isinstance(item, Book)]
    for book, known in zip(found, bookshop.BOOKS, strict=False):
        expected = known.expected(SITE) | {"upc": None, "category": None, "description": None}
        if book.in_stock:
            expected["available"] = None
        assert book.model_dump(mode="json") == expected
    assert len(found) == 20


def test_a_book_that_is_not_laid_out_as_expected_is_counted_and_the_others_are_kept() -> None:
    body = bookshop.page("/catalogue/page-1.html")
    assert body is not None
    crawling = spider(details="false")
    broken = page("catalogue/page-1.html", body.replace("£9.99", "sold").replace("star-rating Two", "star-rating", 1))
    assert len([item for item in crawling.parse(broken) if isinstance(item, Book)]) == 18
    assert crawling.crawler.stats is not None
    assert crawling.crawler.stats.get_value("books/malformed") == 2


def test_a_catalogue_without_any_book_closes_the_crawl_with_a_reason_of_its_own() -> None:
    with pytest.raises(CloseSpider) as closed:
        list(spider().parse(page("catalogue/page-1.html", "<html><body>Please log in</body></html>")))
    assert closed.value.reason == "no_books"


@pytest.fixture
def saved() -> Path:
    folder = DATA / "quotes" / "books"
    if not folder.exists():
        pytest.skip(f"no saved pages at {folder}: set MILLRACE_TEST_DATA")
    return folder


def test_every_saved_page_of_books_to_scrape_gives_its_twenty_books(saved: Path) -> None:
    books: list[Any] = []
    for number in range(1, 26):
        body = gzip.decompress((saved / f"page_{number}.html.gz").read_bytes())
        path = f"catalogue/page-{number}.html"
        *links, following = spider().parse(page(path, body))
        *found, again = spider(details="false").parse(page(path, body))
        assert following.url == again.url == f"{SITE}catalogue/page-{number + 1}.html"
        assert [link.url for link in links] == [book.url for book in found]
        assert len(found) == 20
        books += found
    assert len({book.url for book in books}) == 500
    assert {(book.currency, book.in_stock, book.available) for book in books} == {("GBP", True, None)}
    assert all(Decimal(10) <= book.price < Decimal(60) and -book.price.as_tuple().exponent == 2 for book in books)
    assert [sum(book.rating == stars for book in books) for stars in range(1, 6)] == [110, 102, 99, 92, 97]
    assert (books[0].title, books[0].price) == ("A Light in the Attic", Decimal("51.77"))
    assert books[0].url == f"{SITE}catalogue/a-light-in-the-attic_1000/index.html"
