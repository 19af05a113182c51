"""The spider middleware of a shared crawl: what a callback yields, on its way to the engine."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import AsyncIterator
from typing import Any, Self

import structlog
from scrapy import signals
from scrapy.crawler import Crawler
from scrapy.exceptions import CloseSpider
from scrapy.http import Response
from twisted.python.failure import Failure

from millrace_pipeline.errors import ConfigError
from millrace_producer.crawling.outputs import taken
from millrace_producer.crawling.page import Page

log = structlog.get_logger(__name__)

PART_SECONDS = 0.2
"""So often what start() has given is put on the frontier."""


class SharedCrawl:
    """Keeps what a page gives with its request, until all of it is settled in one step.

    It stands nearest to the engine, behind all other spider middlewares: `SPIDER_MIDDLEWARES = {"…SharedCrawl": 0}`.
    """

    def __init__(self, crawler: Crawler) -> None:
        self.crawler = crawler

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """See Scrapy's components."""
        return cls(crawler)

    async def process_start(self, start: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Run start() where its request is ours; another spider that shares the crawl may be at it, or be done."""
        owner = self._owner()
        while (page := await owner.start_turn()) is not None:
            parting = asyncio.ensure_future(_put_parts(owner, page))
            try:
                async for item in taken(owner, page, start):
                    yield item
                await page.all_through()
                page.answered = True
            except CloseSpider:
                page.answered = True
                raise
            except Exception as error:
                self._tell(page, error)
            finally:
                parting.cancel()
            owner.finish_start(page)
            assert self.crawler.spider is not None
            start = self.crawler.spider.start()

    async def process_spider_output(self, response: Response, result: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Keep the requests of a page with it, and pass its items on."""
        owner = self._owner()
        page = owner.page_of(response)
        if page is None:
            async for output in result:
                yield output
            return
        page.answered = True
        async for item in taken(owner, page, result):
            yield item

    def _owner(self) -> Any:
        scheduler = self.crawler.engine.scheduler
        if not hasattr(scheduler, "start_turn"):
            raise ConfigError(
                f"{type(self).__name__} is a spider middleware of this project, and its SCHEDULER is another: "
                'set SCHEDULER = "millrace.scrapy.Scheduler"'
            )
        return scheduler

    def _tell(self, page: Page, error: Exception) -> None:
        """Say that start() failed, as Scrapy does."""
        page.fails(error, traceback.format_exc())
        assert self.crawler.spider is not None
        log.exception("start_failed", spider=self.crawler.spider.name)
        failure = Failure(error)  # type: ignore[no-untyped-call]
        self.crawler.signals.send_catch_log(
            signal=signals.spider_error, failure=failure, response=None, spider=self.crawler.spider
        )
        self.crawler.stats.inc_value("spider_exceptions/count")
        self.crawler.stats.inc_value(f"spider_exceptions/{type(error).__name__}")


async def _put_parts(owner: Any, page: Page) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        while not page.lost:
            await asyncio.sleep(PART_SECONDS)
            await owner.put_part(page)
