"""Turns: when a host was asked, so that the next request of it may go out, by whichever spider."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from scrapy import Request, signals
from scrapy.crawler import Crawler

from millrace_pipeline.queue.frontier import Claimed
from millrace_producer.crawling.options import CrawlOptions
from millrace_producer.crawling.page import Page

SHARE = 0.5
"""A host that hasn't begun to answer this share of its delay after a request was sent has been asked for all that."""


class Turns:
    """Says of each request of a host with a delay that its host was asked: once the head of the answer is here.

    Before that nobody knows when the server had it: names are looked up, connections made, and this process may stand
    still. A server that takes long to answer isn't waited for.
    """

    def __init__(self, crawler: Crawler, options: CrawlOptions, page_of: Callable[[Request], Page | None]) -> None:
        self._crawler = crawler
        self._options = options
        self._page_of = page_of
        self.say: Callable[[Claimed], None] | None = None
        """Tells Redis, once there is somebody who speaks to it."""
        for handler in (self._request_reached_downloader, self._headers_received):
            crawler.signals.connect(handler, getattr(signals, handler.__name__[1:]))

    def _request_reached_downloader(self, request: Request) -> None:
        page, slot = self._page_of(request), self._slot_of(request)
        if page is None or slot is None:
            return
        delay = slot.delay
        if not self._options.throttled:  # it is spaced by Redis, and what the spider asks for by itself from it
            pace = self._options.politeness.of(page.claimed.slot)
            slot.delay, slot.jitter, delay = pace.shortest, 0.0, pace.delay
        if delay:
            page.turn = True
            self._look_later(request, page, SHARE * delay)

    def _headers_received(self, request: Request) -> None:
        if (page := self._page_of(request)) is not None:
            self._say(page)

    def _look_later(self, request: Request, page: Page, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._look, request, page, seconds)

    def _look(self, request: Request, page: Page, seconds: float) -> None:
        slot = self._slot_of(request)
        if page.turn and slot is not None and any(waiting is request for waiting, _ in slot.queue):
            self._look_later(request, page, seconds)
        else:
            self._say(page)

    def _say(self, page: Page) -> None:
        if page.turn and self.say is not None:
            page.turn = False
            self.say(page.claimed)

    def _slot_of(self, request: Request) -> Any:
        return self._crawler.engine.downloader.slots.get(request.meta.get("download_slot", ""))
