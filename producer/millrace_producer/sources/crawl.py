"""The child process of a `scrapy` source: runs one crawl and writes its items to a pipe. See `crawlprocess`.

    python -m millrace_producer.sources.crawl FD < job

The project's own item pipelines run as ever; what comes out of them is written when Scrapy says `item_scraped`, the
signal that feed exports go by. While the pipe is full the handler waits, the item stays in Scrapy's hands, and Scrapy's
limits (CONCURRENT_ITEMS, SCRAPER_SLOT_MAX_ACTIVE_SIZE) stop the downloads. Nothing here blocks the reactor.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sized
from pathlib import Path
from typing import Any, cast

import msgspec
from scrapy import signals
from scrapy.crawler import AsyncCrawlerProcess, Crawler
from scrapy.http import Response
from scrapy.settings import SETTINGS_PRIORITIES
from scrapy.utils.conf import closest_scrapy_cfg
from scrapy.utils.misc import load_object
from scrapy.utils.project import ENVVAR, get_project_settings

from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.web import retry_after
from millrace_producer.crawling.scrapylog import log_as_scrapy_does
from millrace_producer.itemfields import ItemFields
from millrace_producer.items import record_of
from millrace_producer.sources.crawlprocess import (
    GRACE_SECONDS,
    LINE_BREAK,
    LOG_FORMAT,
    RESUMED,
    Ended,
    Failed,
    Item,
    Job,
    Message,
    NoItem,
    Under,
)

log = logging.getLogger("millrace_producer.sources.crawl")

OUR_PIPELINE = "millrace.scrapy.RedisPipeline"
OUR_SCHEDULER = "millrace_producer.crawling.scheduler.SharedScheduler"
OUR_MIDDLEWARE = "millrace_producer.crawling.middleware.SharedCrawl"
ASYNCIO_REACTOR = "twisted.internet.asyncioreactor.AsyncioSelectorReactor"

TELL_SECONDS = 1.0
"""So often it is told how far the crawl has come."""

ABOVE_ALL = SETTINGS_PRIORITIES["cmdline"] + 10

# What a wrong name, argument or setting raises; anything else (a database that is down) may mend itself.
MISTAKES = (ImportError, LookupError, NameError, AttributeError, TypeError, ValueError, SyntaxError)


def main() -> None:
    channel = int(sys.argv[1])
    os.set_inheritable(channel, False)
    lead = _standard_input_for_ourselves()
    job = msgspec.json.decode(_line(lead), type=Job)
    threading.Thread(target=_end_with_the_reader, args=(lead,), name="reader watch", daemon=True).start()
    last = _crawl(job, channel)
    os.set_blocking(channel, True)
    try:
        with os.fdopen(channel, "wb") as pipe:
            pipe.write(_wire(last))
    except BrokenPipeError:
        log.info("nobody reads any more")


def _crawl(job: Job, channel: int) -> Message:
    try:
        find_modules(job.path)
        settings = get_project_settings()
        settings.setdict(job.settings | {"TWISTED_REACTOR": ASYNCIO_REACTOR}, priority="cmdline")
        settings.set("LOG_INSTALL_ROOT_HANDLER", bool(settings.get("LOG_FILE")), priority="cmdline")
        process = AsyncCrawlerProcess(settings)
        _log_to_the_reader(job.settings.get("LOG_LEVEL", "WARNING"))
        known = process.spider_loader.list()
        if job.spider not in known:
            return Failed(
                f"there is no spider {job.spider!r} here: there is {', '.join(known) or 'none'}", lasting=True
            )
        crawler = process.create_crawler(job.spider)
        _leave_publishing_to_the_reader(crawler)
        if job.shared is not None:
            _share(crawler, job.shared)
    except Exception as error:
        log.exception("the crawl can't be set up")
        return Failed(f"{type(error).__name__}: {error}", lasting=True)

    resumed = job.shared is not None or _is_resumed(crawler)
    items = ItemWriter(crawler, channel, job.fields, writes=job.shared is None)
    task = process.crawl(crawler, **job.args)
    process.start()

    failure = task.exception() if task.done() and not task.cancelled() else None
    if failure is not None:
        log.error("the crawl failed", exc_info=failure)
        lasting = crawler.spider is None or isinstance(failure, MISTAKES)
        return Failed(f"{type(failure).__name__}: {failure}", lasting)
    stats = numbers_of(crawler)
    if resumed:
        stats[RESUMED] = 1
    return Ended(str(crawler.stats.get_value("finish_reason", "broken off")), stats, items.retry_after)


def numbers_of(crawler: Crawler) -> dict[str, int | float]:
    """Return what the crawl has counted."""
    stats = crawler.stats.get_stats() if crawler.stats else {}
    return {name: value for name, value in stats.items() if type(value) in (int, float)}


def waiting_in(crawler: Crawler) -> int:
    """Return how many requests are to be fetched: those of the scheduler, if it tells, and those under way."""
    engine = crawler.engine
    if engine is None:
        return 0
    scheduled = engine.scheduler
    return (len(scheduled) if isinstance(scheduled, Sized) else 0) + len(engine.downloader.active)


def _is_resumed(crawler: Crawler) -> bool:
    """True where the crawl has a folder (JOBDIR) in which an earlier one left the requests that it had seen."""
    folder = crawler.settings.get("JOBDIR")
    seen = Path(folder, "requests.seen") if folder else None
    return seen is not None and seen.is_file() and seen.stat().st_size > 0


def find_modules(path: list[str]) -> None:
    """Let the project import its own modules, then those of this path; never one of either in place of a library."""
    project = closest_scrapy_cfg()
    if project and ENVVAR not in os.environ:
        path = [str(Path(project).parent), *path]
    sys.path += [folder for folder in path if folder not in sys.path]


class ItemWriter(asyncio.Protocol):
    """Writes each scraped item to the pipe as one line, waiting while it is full."""

    def __init__(self, crawler: Crawler, channel: int, fields: ItemFields, *, writes: bool = True) -> None:
        self.retry_after: float | None = None
        self._channel = channel
        self._fields = fields
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._transport: asyncio.WriteTransport | None = None
        self._crawler = crawler
        self._writes = writes
        self._telling: asyncio.Task[None] | None = None
        handlers = [self.engine_started, self.response_received, self.spider_closed]
        for handler in [*handlers, self.item_scraped] if writes else handlers:
            crawler.signals.connect(handler, getattr(signals, handler.__name__))

    async def engine_started(self) -> None:
        pipe = os.fdopen(os.dup(self._channel), "wb", buffering=0)
        transport, _ = await asyncio.get_running_loop().connect_write_pipe(lambda: self, pipe)
        # No buffer of our own: an item is with the kernel, or its handler waits.
        transport.set_write_buffer_limits(high=0)
        self._transport = transport
        if self._writes:  # else the books of the shared crawl tell it
            self._telling = asyncio.create_task(self._tell_how_far())

    async def item_scraped(self, item: Any) -> None:
        record = record_of(item, self._fields)
        if isinstance(record, DeadLetter):
            message: Message = NoItem(record.original, record.reason)
        else:
            message = Item(msgspec.Raw(record.data), record.key, record.type, record.time)
        while not self._may_write.is_set():
            await self._may_write.wait()
        transport = cast(asyncio.WriteTransport, self._transport)
        if not transport.is_closing():
            transport.write(_wire(message))

    async def _tell_how_far(self) -> None:
        """Say every second how far the crawl has come; what doesn't fit into the pipe is left out."""
        while self._transport is not None and not self._transport.is_closing():
            if self._may_write.is_set():
                self._transport.write(_wire(Under(numbers_of(self._crawler), waiting_in(self._crawler))))
            await asyncio.sleep(TELL_SECONDS)

    def response_received(self, response: Response) -> None:
        if response.status in (429, 503):
            asked = (response.headers.get("Retry-After") or b"").decode(errors="replace")
            if (seconds := retry_after(asked)) is not None:  # a number, or a date
                self.retry_after = max(self.retry_after or 0.0, seconds)

    async def spider_closed(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
        await self._may_write.wait()  # all is with the kernel
        if self._transport is not None:
            self._transport.close()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def connection_lost(self, _: Exception | None) -> None:
        """Nobody reads any more: whoever waits goes on, and finds the pipe closing."""
        self._may_write.set()


class _OneLine(logging.Formatter):
    """A log record as one line, however many its traceback has: the reader logs it as one again."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", LINE_BREAK)


def _log_to_the_reader(level: str | int) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine(LOG_FORMAT))
    handler.setLevel(level)
    logging.root.addHandler(handler)
    logging.root.setLevel(min(handler.level, logging.root.level or handler.level))
    for name in ("scrapy.core.scraper", "scrapy.downloadermiddlewares.robotstxt"):
        logging.getLogger(name).addFilter(_without_download_traceback)


def _without_download_traceback(record: logging.LogRecord) -> bool:
    """A site that can't be reached is told in a line; sixty lines of Scrapy's insides add nothing."""
    if record.exc_info and str(record.msg).startswith("Error downloading"):
        said, why = record.getMessage(), str(record.exc_info[1])
        record.msg, record.args = "%s", (said if why in said else f"{said}: {why}",)
        record.exc_info = None
    return True


def _leave_publishing_to_the_reader(crawler: Crawler) -> None:
    """Takes Millrace's own item pipeline out: whoever reads our pipe publishes, and twice would be once too often."""
    kept = dict(crawler.settings.getdict("ITEM_PIPELINES"))
    for pipeline in list(kept):
        path = pipeline if isinstance(pipeline, str) else ""
        if path == OUR_PIPELINE or getattr(load_object(pipeline), "publishes_for_millrace", False):
            del kept[pipeline]
    crawler.settings.set("ITEM_PIPELINES", kept, priority=ABOVE_ALL)


def _share(crawler: Crawler, shared: dict[str, Any]) -> None:
    """Has the crawl be one that others share: its requests and its items go to Redis, page by page."""
    log_as_scrapy_does()
    middlewares = {**crawler.settings.getdict("SPIDER_MIDDLEWARES"), OUR_MIDDLEWARE: 0}
    settings = {**shared, "SCHEDULER": OUR_SCHEDULER, "SPIDER_MIDDLEWARES": middlewares}
    for name, value in settings.items():
        crawler.settings.set(name, value, priority=ABOVE_ALL)


def _standard_input_for_ourselves() -> int:
    """Moves standard input where no spider finds it."""
    lead = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return lead


def _line(lead: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        some = os.read(lead, 65536)
        if not some:
            sys.exit("no job on standard input")
        line += some
    return line


def _end_with_the_reader(lead: int) -> None:
    """Returns never: when the reader is gone, closes the spider in good order, and after the grace whatever is left."""
    while os.read(lead, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _wire(message: Message) -> bytes:
    return msgspec.json.encode(message) + b"\n"


if __name__ == "__main__":
    main()
