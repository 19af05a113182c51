"""Scheduler: Scrapy's way to a frontier in Redis, which many spiders share."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from typing import Any, Self

import structlog
from scrapy import Request, Spider
from scrapy.core.scheduler import BaseScheduler
from scrapy.crawler import Crawler
from scrapy.exceptions import CloseSpider
from scrapy.utils.asyncio import is_asyncio_available
from scrapy.utils.defer import deferred_from_coro
from twisted.internet.defer import Deferred

from millrace_pipeline.errors import ConfigError, MillraceError, QueueError
from millrace_pipeline.queue import Session
from millrace_pipeline.queue.frontier import Answer, Claimed, Frontier, Settlement, Waiting
from millrace_pipeline.queue.frontier.request import START
from millrace_producer.crawling.courier import LIMITS, Courier
from millrace_producer.crawling.ends import OWN_ENDS
from millrace_producer.crawling.helper import call_in, in_thread
from millrace_producer.crawling.middleware import SharedCrawl
from millrace_producer.crawling.options import CrawlOptions
from millrace_producer.crawling.outgoing import Outgoing
from millrace_producer.crawling.outputs import answers_of
from millrace_producer.crawling.page import Page
from millrace_producer.crawling.pages import Pages
from millrace_producer.crawling.requests import MARK, CallbackGone, Errback, RequestUnsayable, from_json
from millrace_producer.crawling.turns import Turns
from millrace_producer.entries import Entries

log = structlog.get_logger(__name__)

FAILED = "publish_failed"


class SharedScheduler(BaseScheduler):
    """Gives the engine requests of a crawl that many spiders share, and settles each when all its page gave is through.

    A request that a spider has is under a lease; what its page gave reaches Redis in one step, or not at all.
    """

    def __init__(self, crawler: Crawler) -> None:
        if not is_asyncio_available():
            raise ConfigError("a shared crawl needs asyncio's reactor: take TWISTED_REACTOR out of the settings")
        assert crawler.spider is not None
        self.crawler = crawler
        self.spider: Spider = crawler.spider
        self.options = CrawlOptions.of(crawler.settings, crawler.spider.name)
        self.start_page: asyncio.Future[Page] | None = None
        self.over = asyncio.Event()
        self._give_up = threading.Event()
        self._courier: Courier | None = None
        self._pages = Pages(crawler, self.options)
        self._outgoing = Outgoing(crawler)
        self._ready: deque[Claimed] = deque()
        self._parts: dict[int, asyncio.Future[bool]] = {}
        self._capacity = crawler.settings.getint("CONCURRENT_REQUESTS") or 16
        self._closing = False
        self._turns = Turns(crawler, self.options, self._pages.of_request)
        self._answer: Answer | None = None

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """See `BaseScheduler.from_crawler`. Raises ConfigError."""
        return cls(crawler)

    def redis_url(self) -> str:
        """Return where Redis is, once it is there. May block. Raises ConfigError or QueueUnavailable."""
        url = self.crawler.settings.get("REDIS_URL") or os.environ.get("REDIS_URL")
        if not url:
            raise ConfigError("REDIS_URL is not set: say where Redis is")
        return str(url)

    def open(self, spider: Spider) -> Deferred[None]:  # noqa: ARG002
        """See `BaseScheduler.open`."""
        return deferred_from_coro(self._open())

    def close(self, reason: str) -> Deferred[None]:
        """See `BaseScheduler.close`: what is done is settled, what is not is given back."""
        return deferred_from_coro(self._close(reason))

    def has_pending_requests(self) -> bool:
        """See `BaseScheduler.has_pending_requests`: True until the crawl is over, whoever works on it."""
        return not self.over.is_set() or bool(self._courier and self._courier.offers)

    def enqueue_request(self, request: Request) -> bool:
        """See `BaseScheduler.enqueue_request`.

        What the downloader middlewares return in place of a request (a redirect, a retry) is settled with it; what
        anything else asks for goes on the frontier by itself.
        """
        assert self._courier is not None
        try:
            waiting = self._outgoing.waiting(request)
        except RequestUnsayable as error:
            log.error("request_refused", reason=str(error))
            return False
        page = self._pages.of_request(request)
        if page is None:
            self.over.clear()
            self._courier.offer(waiting)
            return True
        if not page.answered and page.failure is None:
            page.went_on = True
            if page.retry_after_ms:
                waiting = Waiting(waiting.slot, waiting.text, waiting.priority, waiting.print, page.retry_after_ms)
        page.yielded += 1
        page.requests.append(waiting)
        return True

    def next_request(self) -> Request | None:
        """See `BaseScheduler.next_request`: settles what is finished, and returns a request that is under our lease."""
        self.settle_finished()
        assert self._courier is not None
        while self._ready and not self._closing:
            claimed = self._ready.popleft()
            if not self._courier.is_held(claimed):  # or it would be renewed for ever, and nobody work on it
                self._courier.settle(Settlement(claimed, "back", outputs=claimed.outputs))
                continue
            request = self._request(claimed)
            if request is not None:
                return request
        if not self._closing:
            self._courier.want(max(0, self._capacity - len(self._pages) - len(self._ready)))
        return None

    def page_of(self, response: Any) -> Page | None:
        """Return the page of a response; None where it is of no request of the crawl."""
        return self._pages.of(response)

    def schedule(self, request: Request) -> Waiting | None:
        """Return what a page asks for as the frontier keeps it; None where an extension won't have it."""
        return self._outgoing.schedule(request)

    async def start_turn(self) -> Page | None:
        """Return the page of start() once its request is ours; None when the crawl is over."""
        assert self.start_page is not None
        over: asyncio.Future[Any] = asyncio.ensure_future(self.over.wait())
        await asyncio.wait([over, self.start_page], return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        return self.start_page.result() if self.start_page.done() and not self._closing else None

    def finish_start(self, page: Page) -> None:
        """Settle the request for start(), which may have to be run again."""
        self.start_page = asyncio.get_running_loop().create_future()
        self.finish(page)

    async def put_part(self, page: Page) -> None:
        """Settle the outputs of a page so far, once the item pipelines are through with them."""
        await page.all_through()
        if page.lost or not (page.items or page.dead or page.requests or page.dropped):
            return
        assert self._courier is not None
        settlement = page.part()
        done = self._parts[id(settlement)] = asyncio.get_running_loop().create_future()
        self._courier.settle(settlement)
        page.lost = not await done

    def finish(self, page: Page) -> None:
        """Settle a page that nothing more will come of."""
        assert self._courier is not None
        self._pages.drop(page)
        if page.lost:
            return
        settlement = page.outcome(
            max_attempts=self.options.max_attempts, retry_ms=round(self.options.retry_seconds * 1000)
        )
        downloader = self.crawler.engine.downloader
        if self.options.throttled and page.request is not None:
            slot = downloader.slots.get(downloader.get_slot_key(page.request))
            settlement.delay_ms = round(slot.delay * 1000) if slot else None
        if settlement.why:
            log.warning(
                "request_set_aside", crawl=self.options.crawl, reason=settlement.why["reason"], slot=page.claimed.slot
            )
        self._courier.settle(settlement, at_once=page.request is None or self._closing)

    def settle_finished(self) -> None:
        """Settle each request that the engine is done with."""
        slot = self.crawler.engine._slot
        inprogress = slot.inprogress if slot is not None else ()
        for page in self._pages:
            if page.request is not None and page.request not in inprogress:
                self.finish(page)

    # -- the life of it -----------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        if not any(isinstance(one, SharedCrawl) for one in self.crawler.engine.scraper.spidermw.middlewares):
            raise ConfigError(
                "millrace.scrapy.Scheduler needs its spider middleware: put "
                '"millrace.scrapy.SharedCrawl": 0 into SPIDER_MIDDLEWARES'
            )
        loop = asyncio.get_running_loop()
        self.start_page = loop.create_future()
        try:
            url = await in_thread(self.redis_url)
            session = Session(url, self.options.key, replicas=self.options.replicas, give_up=self._give_up)
            frontier = Frontier(
                session,
                self.options.crawl,
                seconds=self.options.lease_seconds,
                max_attempts=self.options.max_attempts,
                politeness=self.options.politeness,
            )
            await in_thread(lambda: frontier.begin({"spider": self.spider.name}, [START]))
        except MillraceError as error:
            log.error("crawl_not_joined", crawl=self.options.crawl, reason=str(error))
            self.over.set()
            raise CloseSpider(FAILED) from None
        self._pages.entries = Entries(self.options.flow, mark=self.options.key, session=session.id)
        settings = self.crawler.settings
        self._courier = Courier(
            frontier,
            heard=lambda answer: call_in(loop, lambda: self._hear(answer)),
            settled=lambda settlement, ours: call_in(loop, lambda: self._hear_of(settlement, ours)),
            failed=lambda error: call_in(loop, lambda: self._fail(error)),
            max_ready=self.options.max_ready,
            limits={name: settings.getint(name) for name in LIMITS},
        )
        self._turns.begin(self._courier)
        self._courier.start()

    async def _close(self, reason: str) -> None:
        self._closing = True
        self.over.set()
        courier = self._courier
        if courier is None:
            return
        self.settle_finished()
        for page in self._pages:
            self._pages.drop(page)
            courier.settle(page.given_back())
        for claimed in self._ready:
            courier.settle(Settlement(claimed, "back", outputs=claimed.outputs))
        await in_thread(courier.close)
        answer = self._answer
        if answer is not None:
            for name in ("found", "done", "dead", "items"):
                self.crawler.stats.set_value(f"millrace/crawl/{name}", getattr(answer, name))
            if reason not in OWN_ENDS and not answer.stopped and courier.error is None:
                await in_thread(lambda: courier.stop_all(reason))
        self._give_up.set()

    def _hear(self, answer: Answer) -> None:
        """Take in what was claimed, and how the crawl stands."""
        self._answer = answer
        assert self._courier is not None
        if self._closing:
            for claimed in answer.requests:
                self._courier.settle(Settlement(claimed, "back", outputs=claimed.outputs))
            return
        for claimed in answer.requests:
            if claimed.slot:
                self._ready.append(claimed)
            else:
                self._begin_start(claimed)
        if answer.stopped:
            self.over.set()
            self._close_spider(answer.stopped)
        elif answer.over and not self._courier.offers and not len(self._pages):
            self.over.set()
        elif not answer.over:
            self.over.clear()
        if self.crawler.engine._slot is not None:
            self.crawler.engine._slot.nextcall.schedule()

    def _hear_of(self, settlement: Settlement, ours: bool) -> None:
        part = self._parts.pop(id(settlement), None)
        if part is not None and not part.done():
            part.set_result(ours)
        if not ours:
            self.crawler.stats.inc_value("millrace/leases_lost")
            log.warning("request_lost", crawl=self.options.crawl, reason="its lease ran out: another spider has it")

    def _begin_start(self, claimed: Claimed) -> None:
        assert self.start_page is not None
        assert self._courier is not None
        page = Page(claimed, None)
        if self.start_page.done():  # ours has ended, or is at it
            self._courier.settle(Settlement(claimed, "later", later_ms=1000, outputs=claimed.outputs))
            return
        self._pages.add(page)
        self.start_page.set_result(page)

    def _request(self, claimed: Claimed) -> Request | None:
        """Return the request of a claim; None where it can't be made, and is set aside."""
        page = Page(claimed, None)
        try:
            request = from_json(claimed.text, self.spider)
        except (CallbackGone, ValueError, TypeError, LookupError, ImportError) as error:
            page.fails(error, "", lasting=True)
            self.finish(page)
            return None
        page.request = request
        request.meta[MARK] = claimed.number
        request.errback = Errback(lambda failure: answers_of(self, page, failure), request.errback)
        self._pages.add(page)
        return request

    def _fail(self, error: QueueError) -> None:
        log.error("crawl_broken_off", crawl=self.options.crawl, reason=str(error))
        for part in self._parts.values():
            if not part.done():
                part.set_result(False)
        self._parts.clear()
        self.over.set()
        self._close_spider(FAILED)

    def _close_spider(self, reason: str) -> None:
        if not self._closing:
            self._closing = True
            self._ending = asyncio.ensure_future(self.crawler.engine.close_spider_async(reason=reason))
