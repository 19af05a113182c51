"""Scrapy: a spider of this project or of your own."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec
from pydantic import ConfigDict, Field, PrivateAttr

from millrace_pipeline.errors import MillraceError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue.presence import CrawlProgress
from millrace_producer import crawlprogress
from millrace_producer.crawling.ends import OWN_ENDS
from millrace_producer.itemfields import ItemFields
from millrace_producer.sources.base import DeadLetter, Position, Record, Source, SourceRefused, SourceUnavailable
from millrace_producer.sources.crawlprocess import (
    RESUMED,
    CrawlProcess,
    Ended,
    Failed,
    Item,
    Job,
    NoItem,
    Under,
    without_secrets,
)
from millrace_producer.sources.recordoptions import TimeOptions
from millrace_producer.sources.spiders import check_spider

log = logging.getLogger(__name__)

CRAWL_AGAIN_SECONDS = 60.0
"""A crawl that broke off half way begins anew at its first page: no sooner than this, for the site's sake."""

ENDS = frozenset({"finished", "closespider_itemcount", "closespider_pagecount", "closespider_timeout"})
"""Scrapy's reasons for closing that mean that all is well: no more pages, or as many as were asked for."""

LOSSES = (
    "retry/max_reached",
    "httperror/response_ignored_count",
    "spider_exceptions/count",
    "robotstxt/forbidden",
    "quotes/malformed",
    "books/malformed",
    "books/missing",
)
"""Counters of a crawl that missed something although it came to its end."""

GONE = frozenset({404, 410})


class _Place(msgspec.Struct, frozen=True):
    """The flow that a shared crawl is of, and where its Redis is."""

    flow: Flow
    redis_url: str


class ScrapySource(TimeOptions, Source):
    """Runs a Scrapy spider and reads its items.

    The crawl runs in a process of its own with the project's settings and item pipelines; each item that comes out of
    them becomes a record. A crawl can't go on where it stopped: after a restart it begins anew, and the flow's `dedupe`
    keeps what was published before off the list.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    about: ClassVar[str] = "any spider, yours or ours"

    spider: str = Field(min_length=1, description="The spider's name, as `scrapy list` shows it.")
    project: Path | None = Field(
        default=None, description="Folder that holds the project's scrapy.cfg. Default: Millrace's own project."
    )
    args: dict[str, str | bool | int | float] = Field(
        default_factory=dict, repr=False, description="Arguments of the spider, as `scrapy crawl -a` takes them."
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, repr=False, description="Scrapy settings for this crawl, as `scrapy crawl -s` takes them."
    )
    key: str | None = Field(
        default="content",
        description="What names a record: a JSON pointer into the item (/id), or content for a hash of all it holds.",
    )
    crawl: str = Field(
        default="own",
        pattern=r"^[\w.-]{1,100}$",
        description="own: each producer crawls the whole site. Else the name of a crawl that all producers share, such "
        "as shared, and that goes on where it stopped.",
    )
    finish_reasons: list[str] = Field(
        default_factory=list,
        description="Reasons of the spider's own (CloseSpider) that mean that the crawl is done, not that it failed.",
    )

    _place: _Place | None = PrivateAttr(default=None)

    @property
    def read_together(self) -> bool:
        """See `Source.read_together`."""
        return self.crawl != "own"

    def for_flow(self, flow: Flow, redis_url: str) -> Self:
        """See `Source.for_flow`: a shared crawl puts its items on the list by itself."""
        if not self.read_together:
            return self
        source = self.model_copy()
        source._place = _Place(flow, redis_url)
        return source

    @property
    def ends(self) -> bool:
        """See `Source.ends`."""
        return True

    def check(self) -> None:
        """Refuse a folder that holds no project, and a spider that the project hasn't got."""
        check_spider(self.spider, self.project, self.settings, sys.path)

    def pointers(self) -> tuple[str | None, str | None]:
        """See `Source.pointers`."""
        return self.key, self.time

    def sample(self, text: bytes) -> Record | DeadLetter:
        """See `Source.sample`."""
        try:
            key, moment = self._fields().names(text)
            return Record(text, key=key, time=moment)
        except (MillraceError, ValueError):  # it is no JSON, which is for others to say
            return Record(text)

    def describe(self, position: Position) -> str:  # noqa: ARG002
        """See `Source.describe`: there are none."""
        raise SourceRefused("a crawl has no positions: each begins at the beginning")

    def read(self, resume_from: Position | None) -> Iterator[Record | DeadLetter]:
        """See `Source.read`. There are no positions: every crawl begins at the beginning."""
        if resume_from is not None:
            log.info("the checkpoint of spider %s is of no use: a crawl begins at the beginning", self.spider)
        project = self.project.expanduser().resolve() if self.project else None
        if project and not (project / "scrapy.cfg").is_file():
            raise SourceRefused(f"{project} holds no scrapy.cfg: project is the folder of one")
        args = {name: _argument(value) for name, value in self.args.items()}
        place = self._place
        if self.read_together and place is None:
            log.warning(
                "spider %s crawls by itself: there is no Redis here to share crawl %r in", self.spider, self.crawl
            )
        shared = None if place is None else self._shared_settings(place.flow)
        job = Job(self.spider, args, self.settings, self._fields(), sys.path, shared)
        last: Ended | Failed | None = None
        with CrawlProcess(job, project, environ=None if place is None else {"REDIS_URL": place.redis_url}) as crawl:
            for message in crawl:
                if isinstance(message, Item):
                    yield Record(bytes(message.data), key=message.key, type=message.type, time=message.time)
                elif isinstance(message, NoItem):
                    yield DeadLetter(message.original, message.reason)
                elif isinstance(message, Under):
                    crawlprogress.tell(progress_of(message))
                else:
                    last = message
            crawlprogress.tell(None)
            status = crawl.exit_status()
            if isinstance(last, Ended):
                self.judge(last)
            elif isinstance(last, Failed):
                failed = SourceRefused if last.lasting else SourceUnavailable
                raise failed(_told(f"spider {self.spider} can't be run: {last.message}", crawl.last_words))
            else:
                how = f"signal {-status}" if status < 0 else f"exit status {status}"
                raise SourceUnavailable(_told(f"the crawl of {self.spider} broke off with {how}", crawl.last_words))

    def _fields(self) -> ItemFields:
        return ItemFields(self.key, self.time, self.time_unit)

    def _shared_settings(self, flow: Flow) -> dict[str, Any]:
        return {
            "MILLRACE_KEY": flow.queue.key,
            "MILLRACE_CRAWL": self.crawl,
            "MILLRACE_FLOW": flow.name,
            **self._fields().settings(),
            "MILLRACE_MAX_READY": flow.queue.max_ready,
            "MILLRACE_REPLICAS": flow.queue.replicas,
            "MILLRACE_LEASE_SECONDS": max(1.0, flow.lease),
            "MILLRACE_MAX_ATTEMPTS": flow.max_attempts,
        }

    def judge(self, crawl: Ended) -> None:
        """Returns if the crawl did what it should. Raises SourceUnavailable or SourceRefused, saying why, if not."""
        stats = crawl.stats
        pages, items = pages_fetched(stats), int(stats.get("item_scraped_count", 0))
        trouble = troubles(stats)
        told = f"the crawl of {self.spider} closed with {crawl.finish_reason!r} after {pages} pages and {items} items"
        if trouble:
            told += f": {', '.join(trouble)}"

        if self._place is not None and (dead := int(stats.get("millrace/crawl/dead", 0))):
            log.warning("crawl %s has %d dead requests: millrace crawl dead ls", self.crawl, dead)
        if self._place is not None and crawl.finish_reason == "finished":
            log.info("%s", told)
            return
        if self._place is not None and crawl.finish_reason not in {*ENDS, *OWN_ENDS, *self.finish_reasons}:
            mend = f"it is stopped for all: `millrace crawl resume {self._place.flow.name}` has it go on"
            raise SourceRefused(f"{told}; {mend}")
        if crawl.finish_reason in ENDS or crawl.finish_reason in self.finish_reasons:
            if items or (pages and not stats.get("spider_exceptions/count")):
                lost = any(name in stats for name in LOSSES)
                log.log(logging.WARNING if lost else logging.INFO, "%s", told)
                return
            if not trouble and not stats.get("downloader/request_count"):
                if stats.get(RESUMED) or stats.get("dupefilter/filtered"):
                    log.info("%s: nothing was left to fetch, all had been seen before", told)
                    return
                hint = "a spider needs start_urls or `async def start(self)`; Scrapy no longer calls start_requests()"
                raise SourceRefused(f"spider {self.spider} made no request: {hint}")
            statuses = set(_statuses(stats))
            if not pages and (stats.get("robotstxt/forbidden") or (statuses and statuses <= GONE)):
                raise SourceRefused(told)
        elif crawl.finish_reason == "robots_forbidden":
            raise SourceRefused(told)
        raise SourceUnavailable(told, retry_after=crawl.retry_after or (CRAWL_AGAIN_SECONDS if pages else None))


def progress_of(crawl: Under) -> CrawlProgress:
    """Return how far a crawl has come, from its counters."""
    stats = crawl.stats
    failed = sum(count for status, count in _statuses(stats).items() if status >= 400)
    errors = ("downloader/exception_count", "spider_exceptions/count")
    return CrawlProgress(
        pages_fetched(stats),
        int(stats.get("item_scraped_count", 0)),
        crawl.waiting,
        failed + sum(int(stats.get(name, 0)) for name in errors),
        int(stats.get("request_depth_max", 0)),
    )


def pages_fetched(stats: Mapping[str, int | float]) -> int:
    """Responses with a 2xx status, robots.txt not counted."""
    return sum(count for status, count in _statuses(stats).items() if 200 <= status < 300)


def troubles(stats: Mapping[str, int | float]) -> list[str]:
    """What went wrong in a crawl, from its counters: "6 × 500", "2 × ConnectionRefusedError"."""
    found = [f"{count} × {status}" for status, count in _statuses(stats).items() if status >= 400]
    for prefix in ("downloader/exception_type_count/", "spider_exceptions/"):
        for name, count in stats.items():
            kind = name.removeprefix(prefix)
            if kind not in (name, "count") and not kind.endswith("IgnoreRequest"):
                found.append(f"{count} × {kind.rpartition('.')[2]}")
    for name, meaning in (
        ("robotstxt/forbidden", "forbidden by robots.txt"),
        ("offsite/filtered", "outside allowed_domains"),
        ("quotes/malformed", "not laid out as expected"),
        ("books/malformed", "not laid out as expected"),
        ("books/missing", "books without a page"),
    ):
        if stats.get(name):
            found.append(f"{stats[name]} {meaning}")
    return found


def _statuses(stats: Mapping[str, int | float]) -> dict[int, int]:
    """How many responses had which status, those for robots.txt not counted."""
    counts: dict[int, int] = {}
    for prefix, sign in (("downloader/response_status_count/", 1), ("robotstxt/response_status_count/", -1)):
        for name, count in stats.items():
            status = name.removeprefix(prefix)
            if status != name and status.isdigit():
                counts[int(status)] = counts.get(int(status), 0) + sign * int(count)
    return {status: count for status, count in sorted(counts.items()) if count > 0}


def _argument(value: str | bool | int | float) -> str:
    """As it would stand on the command line: spiders expect text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _told(reason: str, last_words: list[str]) -> str:
    return "\n  ".join([without_secrets(reason), *last_words])
