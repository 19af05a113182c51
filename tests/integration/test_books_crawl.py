"""Crawling a shop: the example on the practice site, what is missing there, and the saved pages of a real one."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import redis

from millrace.practice import bookshop
from millrace.practice.site import PracticeSite
from millrace_producer.sources.base import Record
from millrace_producer.sources.scrapy import ScrapySource
from tests.conftest import DATA
from tests.integration.scrapyproject import QUICK
from tests.services import Place, on_the_list


def crawled(url: str, **arguments: str) -> list[dict[str, Any]]:
    source = ScrapySource(spider="books", args={"start_url": url, **arguments}, settings=QUICK | {"RETRY_TIMES": 0})
    return [json.loads(record.data) for record in source.read(None) if isinstance(record, Record)]


def by_url(books: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(books, key=lambda book: str(book["url"]))


def test_the_example_killed_in_the_middle_has_every_book_in_its_table_once(place: Place, client: redis.Redis) -> None:
    place.example("books")
    example = place.flows["books"]
    quick = example | {"source": {**example["source"], "settings": QUICK}, "publish": {"records": 5}}
    with PracticeSite() as site:
        place.flow("books", **quick | {"queue": {"max_ready": 10}})
        killed = place.produce("books", BOOKS_URL=site.shop_url)
        killed.await_event("producer_held_back")
        killed.kill()
        assert 10 <= client.llen(place.key_of("books")) < 20
        place.flow("books", **quick)
        again = place.produce("books", BOOKS_URL=site.shop_url)
        assert again.wait() == 0, again.said
        books = site.books
    assert by_url(on_the_list(client, place.key_of("books"))) == by_url(books)
    place.deliver_the_rest()
    table = pq.read_table(place.folder / "data" / "books")
    rows = table.select(list(books[0])).to_pylist()
    assert by_url([{**row, "price": str(row["price"])} for row in rows]) == by_url(books)


def test_a_book_whose_page_is_gone_is_said_to_be_missing_and_the_others_are_had(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gone = f"/catalogue/{bookshop.BOOKS[3].path}"
    pages = [f"/catalogue/page-{number}.html" for number in range(1, bookshop.LAST_PAGE + 1)]
    saved = {path: str(bookshop.page(path)).encode() for path in pages}
    saved |= {
        path: str(bookshop.page(path)).encode()
        for path in (f"/catalogue/{book.path}" for book in bookshop.BOOKS)
        if path != gone
    }
    with PracticeSite(saved=saved) as site, caplog.at_level(logging.WARNING):
        found = crawled(site.shop_url)
        expected = [book for book in site.books if not book["url"].endswith(gone)]
    assert by_url(found) == by_url(expected)
    assert "1 books without a page" in caplog.text


def test_the_saved_catalogue_of_books_to_scrape_is_crawled_page_by_page() -> None:
    folder = DATA / "quotes" / "books"
    if not folder.exists():
        pytest.skip(f"no saved pages at {folder}: set MILLRACE_TEST_DATA")
    saved = {path: gzip.decompress(file.read_bytes()) for path, file in _pages(folder).items()}
    last = "/catalogue/page-25.html"
    saved[last] = saved[last].replace(b'<li class="next">', b"<li>")  # no more were saved
    with PracticeSite(saved=saved) as site:
        found = crawled(site.shop_url, details="false")
    assert len({book["url"] for book in found}) == len(found) == 500
    assert found[0]["title"] == "A Light in the Attic"
    assert (found[0]["price"], found[0]["currency"], found[0]["rating"]) == ("51.77", "GBP", 3)


def _pages(folder: Path) -> dict[str, Path]:
    return {f"/catalogue/page-{number}.html": folder / f"page_{number}.html.gz" for number in range(1, 26)}
