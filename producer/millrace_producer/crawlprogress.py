"""Crawl progress: how far a source's crawl has come, told by whoever crawls to whoever says what the producer does."""

from __future__ import annotations

from contextvars import ContextVar

from millrace_pipeline.queue.presence import CrawlProgress


class CrawlWatch:
    """How far the crawl of one producer has come: `now`, or None where nothing crawls."""

    def __init__(self) -> None:
        self.now: CrawlProgress | None = None

    def listen(self) -> None:
        """Be told of it by what the source does in this thread from now on."""
        _listening.set(self)


_listening: ContextVar[CrawlWatch | None] = ContextVar("_listening", default=None)


def tell(crawl: CrawlProgress | None) -> None:
    """Say how far the crawl of the source that is read in this thread has come; None where it is over."""
    if (watch := _listening.get()) is not None:
        watch.now = crawl
