"""Names for the settings of any Scrapy project. One line and one setting put its items on a Redis list:

    ITEM_PIPELINES = {"millrace.scrapy.RedisPipeline": 900}
    MILLRACE_KEY = "DATA-PIPELINE-KEY"

Nothing else changes: `scrapy crawl` runs as before, and what comes out of your own item pipelines is published.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, Self, TypeVar

from scrapy import signals
from scrapy.crawler import Crawler
from scrapy.exceptions import CloseSpider
from scrapy.utils.asyncio import is_asyncio_available
from twisted.internet.defer import Deferred

from millrace.awaiting import await_redis
from millrace.server import Server, folder_with_flows, server_of
from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.errors import ConfigError, MillraceError, QueueError
from millrace_pipeline.process.settings import Settings
from millrace_pipeline.process.traces import traces_of_list
from millrace_pipeline.queue import Publishing, Session
from millrace_producer.crawling.middleware import SharedCrawl
from millrace_producer.crawling.scheduler import SharedScheduler
from millrace_producer.crawling.scrapylog import log_as_scrapy_does
from millrace_producer.itemfields import ItemFields
from millrace_producer.items import record_of
from millrace_producer.middlewares import PublicRedirects
from millrace_producer.publisher import Publisher

__all__ = ["PublicRedirects", "RedisPipeline", "Scheduler", "SharedCrawl"]

log = logging.getLogger(__name__)
T = TypeVar("T")

PUBLISH_FAILED = "publish_failed"


class RedisPipeline:
    """An item pipeline that publishes every item to a Redis list, in batches, and passes it on.

    An item that JSON can't say is set aside as a dead letter. While the publisher's buffer is full, because Redis is
    away or consumers are behind, items wait here, and Scrapy's own limits stop the crawl; the reactor is never blocked.
    Closing the spider waits until all is on the list. A Redis that isn't there, or won't do, when the crawl begins, and
    later an error that waiting won't mend, close the spider with `publish_failed`, also in the stats of a crawl that
    was already closing.

    Settings:

    - `MILLRACE_KEY`: the list; required.
    - `REDIS_URL`: else the environment's `REDIS_URL` or `REDIS_URL_FILE`, else the embedded Valkey of the flows in this
      folder or one above it, where `millrace run` has run them, else `redis://localhost:6379/0`.
    - `MILLRACE_FLOW`: the envelopes' `source`; the spider's name.
    - `MILLRACE_RECORD_KEY`: what names a record, as the `key` of a scrapy source; `content`.
    - `MILLRACE_RECORD_TIME`, `MILLRACE_RECORD_TIME_UNIT`: when a record happened, as `time` and `time_unit` of one.
    - `MILLRACE_MAX_READY`: records on the list and in flight at which the crawl is held back; 1,000,000.
    - `MILLRACE_REDIS_SECONDS`: how long a Redis that isn't there may take to come up, before anything is crawled; the
      environment's, or 30.
    - `MILLRACE_FLUSH_SECONDS`: how long closing may take; as long as it takes.

    Beside `Scheduler` it does nothing: that puts the items on the list with their page.

    Stats: `millrace/published`, `millrace/duplicates`, `millrace/dead`, `millrace/unpublished`.
    """

    publishes_for_millrace = True
    """A sign for a `scrapy` source, which publishes by itself, to leave this pipeline out."""

    def __init__(self, crawler: Crawler) -> None:
        settings = crawler.settings
        key = settings.get("MILLRACE_KEY")
        if not key:
            raise ConfigError("MILLRACE_KEY is not set: name the Redis list that items go to in the project's settings")
        self._crawler = crawler
        self._list = key
        known = Settings.load()
        self._server = _server(settings.get("REDIS_URL"), known)
        self._redis_seconds = settings.getfloat("MILLRACE_REDIS_SECONDS", known.redis_seconds)
        self._fields = ItemFields.of(settings)
        self._max_ready = settings.getint("MILLRACE_MAX_READY", 1_000_000)
        self._flush_seconds = settings.getfloat("MILLRACE_FLUSH_SECONDS") or None
        self._give_up = threading.Event()
        self._waiting = 0
        self._failed = False
        self._published = 0  # as the stats say it
        self._closing: object = None
        self._helper = _Helper()
        self._publisher: Publisher | None = None  # until Redis was seen
        self._passes = False  # the scheduler puts items on the list
        crawler.signals.connect(self.spider_closed, signals.spider_closed)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

    async def open_spider(self) -> None:
        assert self._crawler.spider is not None
        assert self._crawler.engine is not None
        # Scrapy has every class that looks like a scheduler count as an instance of any.
        if SharedScheduler in type(self._crawler.engine.scheduler).__mro__:
            self._passes = True
            return
        log_as_scrapy_does()
        try:
            await self._helper.do(lambda: await_redis(self._server.url, self._redis_seconds, self._give_up))
        except MillraceError as error:
            self._failed = True
            log.error("items can't be published to %s, and nothing is crawled: %s", self._list, error)
            raise CloseSpider(PUBLISH_FAILED) from None
        name = self._crawler.settings.get("MILLRACE_FLOW") or self._crawler.spider.name
        publishing = Publishing(Session(self._server.url, self._list, give_up=self._give_up))
        traces = traces_of_list(name, self._list)
        self._publisher = Publisher(publishing, flow=name, source=name, max_ready=self._max_ready, traces=traces)

    async def process_item(self, item: Any) -> Any:
        if self._passes:
            return item
        assert self._publisher is not None
        publisher = self._publisher
        record = record_of(item, self._fields)
        if isinstance(record, DeadLetter):
            log.warning("item set aside as a dead letter: %s", record.reason)
        try:
            # Behind those that wait already, so that the list keeps the order of the crawl.
            if publisher.has_room and not self._waiting:
                publisher.put(record)
            else:
                self._waiting += 1
                try:
                    await self._helper.do(lambda: publisher.put(record))
                finally:
                    self._waiting -= 1
        except QueueError as error:
            self._fail(error, publisher)
            self._close_the_spider()
            raise
        if publisher.published != self._published:
            self._count(publisher)
        return item

    async def close_spider(self) -> None:
        publisher = self._publisher
        try:
            if publisher is not None:
                await self._helper.do(lambda: publisher.close(self._flush_seconds))
        except QueueError as error:
            self._fail(error, publisher)
        finally:
            self._give_up.set()
            self._helper.close()
            self._server.close()
            if publisher is not None:
                self._count(publisher)

    def spider_closed(self) -> None:
        """Come last: whoever looks at how the crawl ended must not find "finished"."""
        if self._failed:
            self._crawler.stats.set_value("finish_reason", PUBLISH_FAILED)

    def _fail(self, error: QueueError, publisher: Publisher | None) -> None:
        if not self._failed:
            self._failed = True
            lost = publisher.unpublished if publisher else 0
            log.error("items can't be published to %s, %d are lost: %s", self._list, lost, error)

    def _close_the_spider(self) -> None:
        if self._closing is None:
            closing = self._crawler.engine.close_spider_async(reason=PUBLISH_FAILED)
            self._closing = (
                asyncio.ensure_future(closing) if is_asyncio_available() else Deferred.fromCoroutine(closing)
            )

    def _count(self, publisher: Publisher) -> None:
        self._published = publisher.published
        stats = self._crawler.stats
        for name in ("published", "duplicates", "dead", "unpublished"):
            stats.set_value(f"millrace/{name}", getattr(publisher, name))


class Scheduler(SharedScheduler):
    """A scheduler whose requests are in Redis, where as many spiders as one likes share them, and none is ever lost.

        SCHEDULER = "millrace.scrapy.Scheduler"
        SPIDER_MIDDLEWARES = {"millrace.scrapy.SharedCrawl": 0}
        MILLRACE_KEY = "DATA-PIPELINE-KEY"

    Each request is claimed under a lease. When its callback and the item pipelines are through, its items are put on
    the list and its new requests on the frontier, and it is done: in one step, once, whatever dies. See
    docs/how-to/crawl-together.md for what it promises, and for its settings.
    """

    def redis_url(self) -> str:
        """Return where Redis is, as `RedisPipeline` finds it, once it is there."""
        settings, known = self.crawler.settings, Settings.load()
        log_as_scrapy_does()
        self._server = _server(settings.get("REDIS_URL"), known)
        await_redis(self._server.url, settings.getfloat("MILLRACE_REDIS_SECONDS", known.redis_seconds))
        return self._server.url


def _server(url: str | None, settings: Settings) -> Server:
    if url:
        return Server(url, "told")
    server = server_of(settings, folder=folder_with_flows(settings))
    log.info("publishing to %s", server)
    return server


class _Helper:
    """A thread for calls that may block, one after the other.

    Not the reactor's thread pool, whose few threads DNS needs, and a daemon, so that a second Ctrl-C ends Scrapy though
    Redis is away.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="millrace helper", daemon=True)

    async def do(self, call: Callable[[], T]) -> T:
        if self._thread.ident is None:
            self._thread.start()
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                done.set_result(call())
            except BaseException as error:
                done.set_exception(error)

        if self._thread.ident is None:
            self._thread.start()
        self._calls.put(run)
        if is_asyncio_available():
            return await asyncio.wrap_future(done)
        return await _deferred(done)

    def close(self) -> None:
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def _deferred(done: concurrent.futures.Future[T]) -> Deferred[T]:
    """The same for a project that has set another reactor than asyncio's."""
    from twisted.internet import reactor

    deferred: Deferred[T] = Deferred()

    def fire() -> None:
        error = done.exception()
        if error is None:
            deferred.callback(done.result())
        else:
            deferred.errback(error)

    done.add_done_callback(lambda _: reactor.callFromThread(fire))
    return deferred
