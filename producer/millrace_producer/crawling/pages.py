"""Pages: the requests that this spider has, and what Scrapy tells of each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import structlog
from scrapy import Request, signals
from scrapy.crawler import Crawler
from scrapy.http import Response

from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.web import retry_after
from millrace_producer.crawling.options import CrawlOptions
from millrace_producer.crawling.page import Page, is_answer_to
from millrace_producer.crawling.requests import MARK, RequestUnsayable
from millrace_producer.entries import Entries
from millrace_producer.itemfields import ItemFields
from millrace_producer.items import record_of

log = structlog.get_logger(__name__)


class Pages:
    """The pages in hand, by the number of their request. Each hears of its items, its failures and its answers."""

    def __init__(self, crawler: Crawler, options: CrawlOptions) -> None:
        self._crawler = crawler
        self._options = options
        self._pages: dict[str, Page] = {}
        self.entries: Entries | None = None
        """Makes envelopes, once there is a session."""
        for handler in (self._item_scraped, self._item_dropped, self._item_error, self._spider_error):
            crawler.signals.connect(handler, getattr(signals, handler.__name__[1:]))
        crawler.signals.connect(self._response_downloaded, signals.response_downloaded)

    def __len__(self) -> int:
        return len(self._pages)

    def __iter__(self) -> Iterator[Page]:
        return iter(list(self._pages.values()))

    def add(self, page: Page) -> None:
        """Take a page in hand."""
        self._pages[page.claimed.number] = page

    def drop(self, page: Page) -> None:
        """Take it out of our hands."""
        self._pages.pop(page.claimed.number, None)

    def of(self, response: Any) -> Page | None:
        """Return the page of a response, or of a failure; without any, that of start()."""
        if response is None:
            return next((page for page in self._pages.values() if page.request is None), None)
        request = is_answer_to(response)
        return None if request is None else self.of_request(request)

    def of_request(self, request: Request) -> Page | None:
        """Return the page that bears this request's mark."""
        return self._pages.get(request.meta.get(MARK, ""))

    def _item_scraped(self, item: Any, response: Any) -> None:
        page = self.of(response)
        if page is None:
            log.error("item_without_page", reason="an item came from no page of the crawl: it is not published")
            return
        assert self.entries is not None
        record = record_of(item, self._options.fields)
        if not isinstance(record, DeadLetter) and record.key is None:
            record.key = f"{self._options.crawl}-{page.claimed.number}-{page.yielded}-{page.pending}"
        entry = self.entries.make(record)
        if entry.dead is not None:
            page.dead.append(entry.dead)
        else:
            page.items.append(entry.line)
            page.bytes += len(entry.line)
        page.item_is_through()

    def _item_dropped(self, response: Any) -> None:
        if (page := self.of(response)) is not None:
            page.dropped += 1
            page.item_is_through()

    def _item_error(self, item: Any, response: Any, failure: Any) -> None:
        if (page := self.of(response)) is None:
            return
        record = record_of(item, ItemFields(key=None))
        original = record.original if isinstance(record, DeadLetter) else record.data
        page.dead.append(DeadLetter(original, f"an item pipeline failed: {failure.type.__name__}: {failure.value}"))
        page.item_is_through()

    def _spider_error(self, failure: Any, response: Any) -> None:
        if (page := self.of(response)) is not None:
            lasting = isinstance(failure.value, RequestUnsayable)
            page.fails(failure.value, failure.getTraceback(), lasting=lasting)

    def _response_downloaded(self, response: Response, request: Request) -> None:
        page = self.of_request(request)
        if page is not None and response.status in (429, 503):
            asked = (response.headers.get("Retry-After") or b"").decode(errors="replace")
            if (seconds := retry_after(asked)) is not None:
                page.retry_after_ms = round(max(0.0, seconds) * 1000)
