"""Crawl progress: how far a source's crawl has come, told by whoever crawls to whoever says what the producer does."""

from __future__ import annotations

from contextvars import ContextVar

from millrace_pipeline.queue.presence import Crawl


class CrawlProgress:
    """How far the crawl of one producer has come: `now`, or None where nothing crawls."""

    def __init__(self) -> None:
        self.now: Crawl | None = None

    def listen(self) -> None:
        """Be told of it by what the source does in this thread from now on."""
        _listening.set(self)


_listening: ContextVar[CrawlProgress | None] = ContextVar("_listening", default=None)


def tell(crawl: Crawl | None) -> None:
    """Say how far the crawl of the source that is read in this thread has come; None where it is over."""
    if (progress := _listening.get()) is not None:
        progress.now = crawl
