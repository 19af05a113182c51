"""A web site to practise on: ten pages of ten quotes, laid out as quotes.toscrape.com lays out its own.

    with PracticeSite() as site:
        crawl(site.url)
        assert crawled == site.quotes

Under `/catalogue/` it is a bookshop, laid out as books.toscrape.com (`millrace.practice.bookshop`).

Its text is ours (`millrace.practice.quotes`), so demos and tests need no network and bother nobody. It can also
misbehave on purpose: be slow, answer 429 for a while, break on a page, forbid robots. For a container:

    python -m millrace.practice.site --host 0.0.0.0 --port 8000
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from string import Template
from typing import Any, NamedTuple, cast
from urllib.parse import quote

from millrace.practice import bookshop
from millrace.practice.quotes import QUOTES
from millrace.practice.server import PracticeServer

QUOTES_A_PAGE = 10
RETRY_AFTER_SECONDS = 1

_PAGE_PATH = re.compile(r"/page/([1-9][0-9]{0,3})/?")

_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
    <meta charset="UTF-8">
    <title>Quotes to practise on</title>
</head>
<body>
    <div class="container">
        <h1><a href="/" style="text-decoration: none">Quotes to practise on</a></h1>
        <div class="row">
            <div class="col-md-8">
$quotes
                <nav>
                    <ul class="pager">$previous$next
                    </ul>
                </nav>
            </div>
        </div>
    </div>
    <footer class="footer"><p class="text-muted">Page $number of $last. Nobody said any of this.</p></footer>
</body>
</html>
""")

_QUOTE = Template("""\
                <div class="quote" itemscope itemtype="http://schema.org/CreativeWork">
                    <span class="text" itemprop="text">$text</span>
                    <span>by <small class="author" itemprop="author">$author</small></span>
                    <div class="tags">
                        Tags:
                        <meta class="keywords" itemprop="keywords" content="$keywords">
$tags
                    </div>
                </div>
""")

_TAG = Template('                        <a class="tag" href="/tag/$slug/page/1/">$tag</a>\n')
_PREVIOUS = Template('\n                        <li class="previous"><a href="/page/$number/">&larr; Previous</a></li>')
_NEXT = Template('\n                        <li class="next"><a href="/page/$number/">Next &rarr;</a></li>')


class Visit(NamedTuple):
    """One request that the site answered."""

    path: str
    status: int
    user_agent: str


class PracticeSite(PracticeServer):
    """The practice site on loopback, in a thread, for as long as the block lasts.

    `port` 0 takes a free one. Each answer is `delay` seconds late. The first `busy` requests for a page are answered
    429 with `Retry-After`, the pages numbered in `broken` always 500. `robots=False` forbids everything in robots.txt.
    `saved` puts other pages (path → HTML) in the place of our own.

    `url` is where it starts, `quotes` what a crawl from there should find, `visits` what was asked for so far. The
    bookshop starts at `shop_url`, and `books` is what a crawl from there should find.
    """

    def __init__(
        self,
        port: int = 0,
        delay: float = 0.0,
        *,
        host: str = "127.0.0.1",
        busy: int = 0,
        broken: Collection[int] = (),
        robots: bool = True,
        saved: Mapping[str, bytes] | None = None,
    ) -> None:
        super().__init__(host, port, _Handler)
        self.delay = delay
        self.busy = busy
        self.broken = frozenset(broken)
        self.robots = robots
        self.saved = saved
        self.visits: list[Visit] = []
        self._lock = threading.Lock()

    @property
    def shop_url(self) -> str:
        return f"{self.url}{bookshop.START}"

    @property
    def books(self) -> list[dict[str, Any]]:
        """What a crawl from `shop_url` should yield, in the order of the catalogue."""
        return [book.expected(self.url) for book in bookshop.BOOKS]

    @property
    def quotes(self) -> list[dict[str, Any]]:
        """What a crawl from `url` should yield: text, author, tags and url, in the order of the pages."""
        found = []
        for at, (text, author, tags) in enumerate(QUOTES):
            number = at // QUOTES_A_PAGE + 1
            url = self.url if number == 1 else f"{self.url}page/{number}/"
            found.append({"text": f"“{text}”", "author": author, "tags": list(tags), "url": url})
        return found

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a path."""
        if path == "/robots.txt":
            return 200, "text/plain", b"User-agent: *\n" + (b"Disallow:\n" if self.robots else b"Disallow: /\n")
        with self._lock:
            if self.busy > 0:
                self.busy -= 1
                return 429, "text/plain", b"too many requests\n"
        if self.saved is not None:
            body = self.saved.get(path)
            return (200, "text/html; charset=utf-8", body) if body is not None else _NOT_FOUND
        if (of_shop := bookshop.page(path)) is not None:
            return 200, "text/html; charset=utf-8", of_shop.encode()
        number = 1 if path == "/" else _page_number(path)
        if number in self.broken:
            return 500, "text/plain", b"broken on purpose\n"
        if not 1 <= number <= LAST_PAGE:
            return _NOT_FOUND
        return 200, "text/html; charset=utf-8", page(number).encode()


LAST_PAGE = -(-len(QUOTES) // QUOTES_A_PAGE)
_NOT_FOUND = (404, "text/plain", b"no such page\n")


def page(number: int) -> str:
    """The HTML of one page, from 1."""
    first = (number - 1) * QUOTES_A_PAGE
    return _PAGE.substitute(
        quotes="".join(_quote(*quoted) for quoted in QUOTES[first : first + QUOTES_A_PAGE]),
        previous=_PREVIOUS.substitute(number=number - 1) if number > 1 else "",
        next=_NEXT.substitute(number=number + 1) if number < LAST_PAGE else "",
        number=number,
        last=LAST_PAGE,
    )


def _quote(text: str, author: str, tags: Sequence[str]) -> str:
    return _QUOTE.substitute(
        text=escape(f"“{text}”"),
        author=escape(author),
        keywords=escape(",".join(tags)),
        tags="".join(_TAG.substitute(slug=quote(tag), tag=escape(tag)) for tag in tags),
    )


def _page_number(path: str) -> int:
    match = _PAGE_PATH.fullmatch(path)
    return int(match[1]) if match else 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "MillracePractice"

    def do_GET(self) -> None:
        site = cast(PracticeSite, self.server.practice)  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        if site.stopping.wait(site.delay):
            self.close_connection = True
            return
        status, content_type, body = site.answer(path)
        site.visits.append(Visit(path, status, self.headers.get("User-Agent", "")))
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self.send_header("Retry-After", str(RETRY_AFTER_SECONDS))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Visits are in `PracticeSite.visits`; nothing is written."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m millrace.practice.site", description="A web site to practise on.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer (default: %(default)s)")
    options = parser.parse_args(arguments)

    # Waited for rather than handled: a handler that sets an Event can deadlock with the thread that waits for it.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with PracticeSite(options.port, options.delay, host=options.host) as site:
        sys.stdout.write(f"{site.url}\n")
        sys.stdout.flush()
        signal.sigwait(ends)


if __name__ == "__main__":
    main()
