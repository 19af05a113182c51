"""The key names of one crawl, all in the slot of its flow's list."""

from __future__ import annotations

import re

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.queue.keys import Keys

_NAME = re.compile(r"[\w.-]{1,100}")


class CrawlKeys:
    """The keys of the crawl of this name, in the order in which scripts take them."""

    def __init__(self, keys: Keys, crawl: str) -> None:
        """Raises ConfigError where no crawl can have this name."""
        if not _NAME.fullmatch(crawl):
            raise ConfigError(f"crawl: {crawl!r} is no name: letters, digits, dots, hyphens, underscores, 100 at most")
        self.crawl = keys.crawl(crawl)
        """hash: began, about, number, found, done, dropped, duplicates, items, items_dropped, prints, buckets, stopped,
        paused, and error:<kind> → how many"""
        self.requests = self._beside("requests")
        """hash: number → the request, as JSON"""
        self.waiting = self._beside("waiting")
        """zset of places, all with the score 0: slot, zero byte, rank, number"""
        self.delayed = self._beside("delayed")
        """zset: place → when it is due, in milliseconds of Redis time"""
        self.leases = self._beside("leases")
        """zset: place → deadline, in milliseconds of Redis time"""
        self.tokens = self._beside("tokens")
        """hash: number → the token of who holds it"""
        self.attempts = self._beside("attempts")
        """hash: number → how often it was given out"""
        self.parts = self._beside("parts")
        """hash: number → how many outputs of its page are put already"""
        self.dead = self._beside("dead")
        """hash: number → why it was set aside, as JSON {reason, kind, traceback, attempts, at, place}"""
        self.seen = self._beside("seen")
        """hash: bucket → fingerprints of eight bytes, one behind the other"""
        self.turns = self._beside("turns")
        """zset: slot of which a request waits → when it may be asked next, in milliseconds of Redis time"""
        self.busy = self._beside("busy")
        """hash: slot → how many of its requests are out"""
        self.next = self._beside("next")
        """hash: slot → when it may be asked next, also while nothing waits for it; slot and a zero byte → rank and
        number of the request that has its turn, a colon, the delay from when it was asked"""
        self.delays = self._beside("delays")
        """hash: slot → the delay that AutoThrottle found, in milliseconds"""

    @property
    def all(self) -> list[str]:
        """Every key of the crawl, as scripts take them."""
        return [
            *(self.crawl, self.requests, self.waiting, self.delayed, self.leases, self.tokens, self.attempts),
            *(self.parts, self.dead, self.seen, self.turns, self.busy, self.next, self.delays),
        ]

    def _beside(self, name: str) -> str:
        return f"{self.crawl}:{name}"
