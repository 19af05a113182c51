"""Turns: a request of the crawl on its way to its host, and when the host was asked, so that the next may go out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from scrapy import Request, signals
from scrapy.crawler import Crawler
from scrapy.exceptions import IgnoreRequest
from scrapy.http import Response

from millrace_producer.crawling.courier import Courier
from millrace_producer.crawling.options import CrawlOptions
from millrace_producer.crawling.page import Page

SHARE, SECONDS = 0.5, 0.5
"""A host that hasn't begun to answer this share of its delay after a request was sent, and so long at least, has been
asked for all that."""

LOOKS = 5
"""So many looks that is, each of them on time: while this process stands still its request doesn't get on either."""


class LeaseLost(IgnoreRequest):
    """A request was not sent, since another spider may have it by now."""


class Turns:
    """Looks at a request's lease right before it is sent, and says of a host with a delay that it was asked.

    That is once the head of the answer is here. Before that nobody knows when the server had it: names are looked up,
    connections made, and this process may stand still. A server that takes long to answer isn't waited for.
    """

    def __init__(self, crawler: Crawler, options: CrawlOptions, page_of: Callable[[Request], Page | None]) -> None:
        self._crawler = crawler
        self._options = options
        self._page_of = page_of
        self._courier: Courier | None = None
        for handler in (self._request_reached_downloader, self._headers_received):
            crawler.signals.connect(handler, getattr(signals, handler.__name__[1:]))

    def begin(self, courier: Courier) -> None:
        """Stand between the downloader, whose slots may hold a request back, and its handlers."""
        self._courier = courier
        handlers: Any = self._crawler.engine.downloader.handlers
        self._send: Callable[[Request], Awaitable[Response]] = handlers.download_request_async
        handlers.download_request_async = self._send_if_held

    def _request_reached_downloader(self, request: Request) -> None:
        page, slot = self._page_of(request), self._slot_of(request)
        if page is None or slot is None:
            return
        delay = slot.delay
        if not self._options.throttled:  # it is spaced by Redis, and what the spider asks for by itself from it
            pace = self._options.politeness.of(page.claimed.slot)
            slot.delay, slot.jitter, delay = pace.shortest, 0.0, pace.delay
        page.turn = delay

    async def _send_if_held(self, request: Request) -> Response:
        page = self._page_of(request)
        if page is not None and self._courier is not None:
            if not self._courier.is_held(page.claimed):
                page.lost = True
                self._courier.settle(page.given_back())
                raise LeaseLost("its lease ran out before it was sent: another spider may have it")
            if page.turn:
                self._look_later(page, max(SHARE * page.turn, SECONDS) / LOOKS, LOOKS)
        return await self._send(request)

    def _headers_received(self, request: Request) -> None:
        if (page := self._page_of(request)) is not None:
            self._say(page)

    def _look_later(self, page: Page, seconds: float, looks: int) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(seconds, self._look, page, seconds, looks, loop.time() + seconds)

    def _look(self, page: Page, seconds: float, looks: int, due: float) -> None:
        if asyncio.get_running_loop().time() < due + seconds:
            looks -= 1
        if not looks:
            self._say(page)
        elif page.turn:
            self._look_later(page, seconds, looks)

    def _say(self, page: Page) -> None:
        if page.turn and self._courier is not None:
            page.turn = 0.0
            self._courier.say_asked(page.claimed)

    def _slot_of(self, request: Request) -> Any:
        return self._crawler.engine.downloader.slots.get(request.meta.get("download_slot", ""))
