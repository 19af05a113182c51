"""What a project's settings say of a shared crawl."""

from __future__ import annotations

from typing import Self

import msgspec
from scrapy.settings import BaseSettings

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.queue.frontier import Pace, Politeness
from millrace_producer.itemfields import ItemFields


class CrawlOptions(msgspec.Struct, frozen=True):
    """The list that items go to, the crawl's name, and how its requests are held."""

    key: str
    crawl: str
    flow: str
    fields: ItemFields
    max_ready: int
    lease_seconds: float
    max_attempts: int
    retry_seconds: float
    replicas: int
    politeness: Politeness
    throttled: bool
    """AutoThrottle finds each host's delay."""

    @classmethod
    def of(cls, settings: BaseSettings, spider: str) -> Self:
        """Read them. Raises ConfigError, which names the setting."""
        key = settings.get("MILLRACE_KEY")
        if not key:
            raise ConfigError("MILLRACE_KEY is not set: name the Redis list that items go to in the project's settings")
        if settings.get("JOBDIR"):
            raise ConfigError(
                "JOBDIR is set, and so is millrace.scrapy.Scheduler: the requests of a shared crawl are in Redis, "
                "where they outlive every spider; a folder of one machine would be a second truth. Take JOBDIR out"
            )
        lease = settings.getfloat("MILLRACE_LEASE_SECONDS", 60.0)
        if lease < 1:
            raise ConfigError(f"MILLRACE_LEASE_SECONDS: expected 1 or more, not {lease:g}")
        return cls(
            key=key,
            crawl=settings.get("MILLRACE_CRAWL") or "shared",
            flow=settings.get("MILLRACE_FLOW") or spider,
            fields=ItemFields.of(settings),
            max_ready=settings.getint("MILLRACE_MAX_READY", 1_000_000),
            lease_seconds=lease,
            max_attempts=max(1, settings.getint("MILLRACE_MAX_ATTEMPTS", 3)),
            retry_seconds=settings.getfloat("MILLRACE_RETRY_SECONDS", 5.0),
            replicas=settings.getint("MILLRACE_REPLICAS", 0),
            politeness=politeness_of(settings),
            throttled=settings.getbool("AUTOTHROTTLE_ENABLED"),
        )


def politeness_of(settings: BaseSettings) -> Politeness:
    """Return Scrapy's settings of delay and concurrency as they hold for all spiders together."""
    delay = settings.getfloat("DOWNLOAD_DELAY")
    if settings.getbool("AUTOTHROTTLE_ENABLED"):
        delay = max(delay, settings.getfloat("AUTOTHROTTLE_START_DELAY"))
    jitter = settings.getfloat("DOWNLOAD_DELAY_JITTER", 0.5 if settings.getbool("RANDOMIZE_DOWNLOAD_DELAY") else 0.0)
    concurrency = settings.getint("CONCURRENT_REQUESTS_PER_DOMAIN")
    own = {
        slot: Pace(
            float(said.get("delay", delay)),
            float(said.get("jitter", jitter)),
            int(said.get("concurrency", concurrency)),
        )
        for slot, said in settings.getdict("DOWNLOAD_SLOTS").items()
    }
    return Politeness(Pace(delay, jitter, concurrency), own)
