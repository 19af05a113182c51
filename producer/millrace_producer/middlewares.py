"""Downloader middlewares. This one keeps redirects out of private networks, in any Scrapy project:

DOWNLOADER_MIDDLEWARES = {"millrace_producer.middlewares.PublicRedirects": 50}
"""

from __future__ import annotations

from typing import Self

from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.exceptions import NotConfigured
from scrapy.http import Response
from scrapy.utils.defer import maybe_deferred_to_future
from scrapy.utils.httpobj import urlparse_cached

from millrace_producer.addresses import PrivateAddress, is_private, leads_elsewhere
from millrace_producer.pins import PinnedNames


class PublicRedirects:
    """A downloader middleware that follows a redirect to another host or port only where that has a public address.

    What the spider asks for itself is trusted. Stands before robots.txt is asked for, which lies on the same host.
    Looks the name up by the crawl's own resolver, and pins what it found: the downloader then connects to the very
    addresses that were judged. A download handler that looks names up by itself, past Twisted's reactor, has its
    response dropped where that came from a private address. Behind a proxy names are the proxy's business.
    MILLRACE_ALLOW_PRIVATE lets all redirects through.
    """

    def __init__(self, crawler: Crawler) -> None:
        if crawler.settings.getbool("MILLRACE_ALLOW_PRIVATE"):
            raise NotConfigured
        if not crawler.settings.getbool("TWISTED_REACTOR_ENABLED"):
            raise ValueError("PublicRedirects pins names in Twisted's reactor: set TWISTED_REACTOR_ENABLED to True")

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

    async def process_request(self, request: Request) -> None:
        if not _was_sent_elsewhere(request):
            return
        host = urlparse_cached(request).hostname or ""
        if is_private(host):
            raise _refusal(request)
        names = _pinned_names()
        addresses = await maybe_deferred_to_future(names.look_up(host))
        if any(is_private(address) for address in addresses):
            raise _refusal(request)
        names.pin(request, host, addresses)

    def process_response(self, request: Request, response: Response) -> Response:
        _pinned_names().unpin(request)
        address = None if request.meta.get("proxy") else response.ip_address
        if address is not None and is_private(str(address)) and _was_sent_elsewhere(request):
            raise _refusal(request)
        return response

    def process_exception(self, request: Request, exception: Exception) -> None:  # noqa: ARG002 - Scrapy's names
        _pinned_names().unpin(request)


def _was_sent_elsewhere(request: Request) -> bool:
    came_by: list[str] = request.meta.get("redirect_urls", [])
    return bool(came_by) and leads_elsewhere(came_by[0], request.url)


def _pinned_names() -> PinnedNames:
    from twisted.internet import reactor

    return PinnedNames.of(reactor)


def _refusal(request: Request) -> PrivateAddress:
    host = urlparse_cached(request).hostname
    return PrivateAddress(f"redirected to {host}, a private address: if that is meant, set MILLRACE_ALLOW_PRIVATE")
