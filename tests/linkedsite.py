"""A site of linked pages over several hosts, all of them on loopback, that measures how it is crawled.

Pages form a tree, with links across and back, and with traps: pages that link to themselves without end, redirects in a
circle, links to nowhere, addresses with odd letters.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
import time
from collections import Counter, defaultdict
from types import TracebackType
from typing import Self

TRAPS = """<a href="/trap/1">on and on</a> <a href="/round/1">round</a> <a href="/gone/ä?ö=%FF#x">gone</a>
<a href="//[">?</a>"""


TURNS = 50
"""A connection is accepted in one turn of the server's loop, and a request on it read in another."""

STAMP = """
import time
from twisted.web import _newclient

def _stamped(self, transport, write=_newclient.Request.writeTo):
    self.headers.setRawHeaders(b"X-Sent", [b"%.6f" % time.monotonic()])
    return write(self, transport)

_newclient.Request.writeTo = _stamped
"""
"""For a module of spiders: each request says when it was written, by the clock that all processes here have."""


def gaps(moments: list[float]) -> list[float]:
    """The times from each to the next, in seconds."""
    return [later - sooner for sooner, later in itertools.pairwise(sorted(moments))]


class LinkedSite:
    """Serves `pages` pages over so many `hosts`, each 127.0.0.n, for as long as the block lasts."""

    def __init__(self, pages: int, hosts: int = 1, *, seconds: float = 0.0) -> None:
        self.pages = pages
        self.hosts = hosts
        self.seconds = seconds
        self.fetched: Counter[str] = Counter()
        self.moments: defaultdict[str, list[float]] = defaultdict(list)
        self.sent: defaultdict[str, list[float]] = defaultdict(list)
        """When each request was written, as its spider says, where it does (`STAMP`)."""
        self.most: Counter[str] = Counter()
        self.busy_until = 0.0
        """Until then each answer is 503, with a Retry-After."""
        self._out: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="linked site", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def start(self) -> str:
        """The page from which all others can be reached."""
        return self.url(0)

    def url(self, number: int) -> str:
        """Where a page is."""
        return f"http://{self.host(number)}:{self.port}/page/{number}"

    def host(self, number: int) -> str:
        """The host that a page is on."""
        return f"127.0.0.{1 + number % self.hosts}"

    def stand_still(self, seconds: float) -> None:
        """Have the server hear nothing for so long, and then what has come meanwhile."""

        async def sleep() -> None:
            time.sleep(seconds)  # the loop is what stands still
            for _ in range(TURNS):
                await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(sleep(), self._loop).result()

    def refetched(self) -> int:
        """How many fetches of pages were not the first."""
        return sum(count - 1 for path, count in self.fetched.items() if "/page/" in path)

    def shortest(self, host: str) -> float:
        """The shortest time between two requests of a host, in seconds."""
        return min(gaps(self.moments[host]), default=float("inf"))

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        names = [f"127.0.0.{n + 1}" for n in range(self.hosts)]
        first = self._loop.run_until_complete(asyncio.start_server(self._serve, names[0], 0))
        self.port = first.sockets[0].getsockname()[1]
        others = [asyncio.start_server(self._serve, name, self.port) for name in names[1:]]
        servers = [first, *(self._loop.run_until_complete(other) for other in others)]
        self._ready.set()
        self._loop.run_forever()
        for server in servers:
            server.close()
        for task in (tasks := asyncio.all_tasks(self._loop)):
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = writer.get_extra_info("sockname")[0]
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                path = request.split(b" ", 2)[1].decode("latin-1")
                self._out[host] += 1
                self.most[host] = max(self.most[host], self._out[host])
                self.moments[host].append(time.monotonic())
                if stamp := re.search(rb"\r\nX-Sent: *([0-9.]+)", request, re.IGNORECASE):
                    self.sent[host].append(float(stamp[1]))
                self.fetched[f"{host}{path}"] += 1
                try:
                    await asyncio.sleep(self.seconds)
                finally:
                    self._out[host] -= 1
                writer.write(self._answer(path))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, path: str) -> bytes:
        kind, _, number = path.partition("?")[0].strip("/").partition("/")
        if time.monotonic() < self.busy_until:
            return _response("503 Busy", "", "Retry-After: 1\r\n")
        if kind == "page" and number.isdigit() and int(number) < self.pages:
            return _response("200 OK", self._page(int(number)))
        if kind == "trap":
            return _response("200 OK", f'<a href="/trap/{int(number) + 1}">on</a>')
        if kind == "round":
            return _response("302 Found", "", f"Location: /round/{1 - int(number) % 2}\r\n")
        return _response("404 Not Found", "")

    def _page(self, number: int) -> str:
        links = {2 * number + 1, 2 * number + 2, (number * 7 + 3) % self.pages, 0, number}
        anchors = [f'<a href="{self.url(link)}">{link}</a>' for link in sorted(links) if link < self.pages]
        return f"<h1>{number}</h1> {' '.join(anchors)} {TRAPS if number % 100 == 3 else ''}"


def _response(status: str, body: str, headers: str = "") -> bytes:
    text = body.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\n{headers}Content-Length: {len(text)}\r\n\r\n"
    )
    return head.encode() + text
