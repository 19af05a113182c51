"""A Scrapy crawl of many pages: with one item pipeline or none (`none`, `millrace`, `scrapy-redis`), or with a frontier
in Redis (`shared`, `scrapy-redis frontier`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from scrapy import Request, Spider, signals
from scrapy.crawler import CrawlerProcess
from scrapy.http import Response

from bench.peers.stopwatch import mark
from millrace_producer.spiders.quotes import QuotesSpider

SETTINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "millrace": {"ITEM_PIPELINES": {"millrace.scrapy.RedisPipeline": 900}},
    "scrapy-redis": {"ITEM_PIPELINES": {"scrapy_redis.pipelines.RedisPipeline": 900}},
    "shared": {
        "SCHEDULER": "millrace.scrapy.Scheduler",
        "SPIDER_MIDDLEWARES": {"millrace.scrapy.SharedCrawl": 0},
    },
    "scrapy-redis frontier": {
        "SCHEDULER": "scrapy_redis.scheduler.Scheduler",
        "DUPEFILTER_CLASS": "scrapy_redis.dupefilter.RFPDupeFilter",
        "ITEM_PIPELINES": {"scrapy_redis.pipelines.RedisPipeline": 900},
    },
}


class PagesSpider(QuotesSpider):
    """The bundled quotes spider, which asks for all pages at once."""

    name = "pages"
    pages = 0

    async def start(self) -> AsyncIterator[Any]:
        mark(folder, "began")
        for number in range(1, self.pages + 1):
            yield Request(f"{self.start_url}page/{number}/", callback=self.parse_page)

    def parse_page(self, response: Response) -> Iterator[Any]:
        for quote in response.css("div.quote"):
            yield self.quote(quote, response.url).model_dump()


def crawl(url: str, key: str, site: str, pages: int, pipeline: str) -> None:
    process = CrawlerProcess(
        {
            **SETTINGS[pipeline],
            "REDIS_URL": url,
            "MILLRACE_KEY": key,
            "REDIS_ITEMS_KEY": key,
            "LOG_LEVEL": "INFO",
            "ROBOTSTXT_OBEY": False,
            "TELNETCONSOLE_ENABLED": False,
            "CONCURRENT_REQUESTS_PER_DOMAIN": 16,
            "DOWNLOAD_DELAY": 0,
        }
    )
    crawler = process.create_crawler(PagesSpider)
    crawler.signals.connect(_closed, signals.spider_closed)
    process.crawl(crawler, start_url=site, pages=pages)
    process.start()
    found = {name: crawler.stats.get_value(name, 0) for name in ("item_scraped_count", "finish_reason")}
    (folder / "stats.json").write_text(json.dumps(found))


def _closed(spider: Spider, reason: str) -> None:  # noqa: ARG001
    """Sent once the pipelines are closed, so with all items on the list."""
    mark(folder, "ended")


if __name__ == "__main__":
    os.environ.pop("REDIS_URL", None)
    folder = Path(sys.argv[3])
    crawl(sys.argv[1], sys.argv[2], sys.argv[4], int(sys.argv[5]), sys.argv[6])
