"""Outputs: what a callback, an errback or start() yields is counted, its requests are kept with the page it came of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from scrapy import Request
from scrapy.utils.asyncgen import as_async_generator
from scrapy.utils.defer import ensure_awaitable
from scrapy.utils.spider import iterate_spider_output
from twisted.python.failure import Failure

from millrace_pipeline.queue.frontier import Waiting
from millrace_producer.crawling.page import Page
from millrace_producer.crawling.requests import Errback

PART_OUTPUTS = 500
PART_BYTES = 1024 * 1024
"""A page that gives more than this is settled in parts."""


class Owner(Protocol):
    """Who keeps the pages of a crawl."""

    def schedule(self, request: Request) -> Waiting | None:
        """Return the request as the frontier keeps it; None where somebody won't have it."""

    async def put_part(self, page: Page) -> None:
        """Settle the outputs of a page so far."""


async def taken(owner: Owner, page: Page, outputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Yield the items among these, for the item pipelines; keep the requests with their page.

    What an attempt before this has put already is left out.
    """
    async for output in outputs:
        if output is None:
            continue
        page.yielded += 1
        if page.yielded <= page.claimed.outputs:
            continue
        if isinstance(output, Request):
            waiting = owner.schedule(output)
            if waiting is not None:
                page.requests.append(waiting)
                page.bytes += len(waiting.text)
        else:
            page.pending += 1
            yield output
        if page.yielded - page.put >= PART_OUTPUTS or page.bytes >= PART_BYTES:
            await owner.put_part(page)


def answers_of(owner: Owner, page: Page, failure: Failure) -> Any:
    """Take note of a failed download, and return what the spider's own errback gives, its requests kept with the page.

    Raises the failure where the spider has no errback.
    """
    page.failure = failure
    if page.lost:  # it is another spider's, which calls the errback if it comes to that
        failure.raiseException()
    errback = page.request.errback if page.request else None
    if not isinstance(errback, Errback) or errback.original is None:
        failure.raiseException()
    output = errback.original(failure)
    if isinstance(output, Failure):
        output.raiseException()
    return _answers(owner, page, output)


async def _answers(owner: Owner, page: Page, output: Any) -> AsyncIterator[Any]:
    found = await ensure_awaitable(iterate_spider_output(output))
    async for one in taken(owner, page, as_async_generator(found)):
        yield one
