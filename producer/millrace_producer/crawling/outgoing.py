"""Outgoing requests: on their way from a spider to the frontier."""

from __future__ import annotations

from scrapy import Request, signals
from scrapy.crawler import Crawler
from scrapy.exceptions import IgnoreRequest
from twisted.python.failure import Failure

from millrace_pipeline.queue.frontier import Waiting, print_of
from millrace_producer.crawling.requests import to_json

NO_HOST = "no host"
"""The slot of what Scrapy has none for, such as file: and data:. The frontier's nameless one is start()'s."""


class Outgoing:
    """Makes of Scrapy's requests what the frontier keeps."""

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler

    def waiting(self, request: Request) -> Waiting:
        """Return the request as the frontier keeps it. Raises RequestUnsayable."""
        fingerprinter, spider = self._crawler.request_fingerprinter, self._crawler.spider
        assert fingerprinter is not None
        assert spider is not None
        assert self._crawler.engine is not None
        fingerprint = fingerprinter.fingerprint(request)
        slot = self._crawler.engine.downloader.get_slot_key(request) or NO_HOST
        text = to_json(request, spider, fingerprint)
        print_ = b"" if request.dont_filter else print_of(fingerprint)
        return Waiting(slot, text, request.priority, print_)

    def schedule(self, request: Request) -> Waiting | None:
        """Tell Scrapy's extensions that a page asks for this, as the engine does.

        Returns None where one of them won't have it.
        """
        told = self._crawler.signals.send_catch_log(
            signals.request_scheduled, request=request, spider=self._crawler.spider, dont_log=IgnoreRequest
        )
        if any(isinstance(result, Failure) and isinstance(result.value, IgnoreRequest) for _, result in told):
            return None
        return self.waiting(request)
