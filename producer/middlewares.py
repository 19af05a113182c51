"""Downloader middlewares. This one keeps redirects out of private networks, in any Scrapy project:

DOWNLOADER_MIDDLEWARES = {"producer.middlewares.PublicRedirects": 50}
"""

from __future__ import annotations

from typing import Self

from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.exceptions import NotConfigured
from scrapy.http import Response
from scrapy.utils.defer import maybe_deferred_to_future
from scrapy.utils.httpobj import urlparse_cached
from twisted.internet.error import DNSLookupError

from producer.addresses import is_private, leads_elsewhere


class PrivateAddress(Exception):
    """A redirect led to a loopback, link-local or private address, and was not followed."""


class PublicRedirects:
    """Follows a redirect to another host or port only where that has a public address.

    What the spider asks for itself is trusted. Stands before robots.txt is asked for, which lies on the same host.
    Looks the name up as the downloader will, and that remembers the answer (DNSCACHE_ENABLED), so it connects to the
    address seen here; where it doesn't, the response is dropped all the same. Behind a proxy names are the proxy's
    business. MILLRACE_ALLOW_PRIVATE lets all redirects through.
    """

    def __init__(self, crawler: Crawler) -> None:
        if crawler.settings.getbool("MILLRACE_ALLOW_PRIVATE"):
            raise NotConfigured

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

    async def process_request(self, request: Request) -> None:
        if not _was_sent_elsewhere(request):
            return
        host = urlparse_cached(request).hostname or ""
        if is_private(host) or is_private(await _address_of(host)):
            raise _refusal(request)

    def process_response(self, request: Request, response: Response) -> Response:
        address = None if request.meta.get("proxy") else response.ip_address
        if address is not None and is_private(str(address)) and _was_sent_elsewhere(request):
            raise _refusal(request)
        return response


def _was_sent_elsewhere(request: Request) -> bool:
    came_by: list[str] = request.meta.get("redirect_urls", [])
    return bool(came_by) and leads_elsewhere(came_by[0], request.url)


async def _address_of(host: str) -> str:
    from twisted.internet import reactor

    try:
        found: str = await maybe_deferred_to_future(reactor.resolve(host))  # type: ignore[arg-type]  # as declared wrongly
    except (DNSLookupError, TimeoutError):
        return host  # the downloader will say what is wrong, or the proxy knows it
    return found


def _refusal(request: Request) -> PrivateAddress:
    host = urlparse_cached(request).hostname
    return PrivateAddress(f"redirected to {host}, a private address: if that is meant, set MILLRACE_ALLOW_PRIVATE")
