"""The practice site, as a container runs it and as a scraper meets it."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from html.parser import HTMLParser
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from millrace.practice.site import LAST_PAGE, PracticeSite


class TagsOpened(HTMLParser):
    """Counts opening tags by name and class."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: dict[tuple[str, str | None], int] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        name = (tag, dict(attrs).get("class"))
        self.seen[name] = self.seen.get(name, 0) + 1


def got(url: str) -> str:
    with urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_every_page_has_ten_quotes_in_the_markup_of_quotes_to_scrape() -> None:
    with PracticeSite() as site:
        for number in range(1, LAST_PAGE + 1):
            seen = TagsOpened(got(f"{site.url}page/{number}/")).seen
            assert [seen[name] for name in (("div", "quote"), ("span", "text"), ("small", "author"))] == [10, 10, 10]
            assert (("li", "next") in seen) == (number < LAST_PAGE)
        assert got(site.url) == got(f"{site.url}page/1/")
        with pytest.raises(HTTPError, match="404"):
            got(f"{site.url}page/{LAST_PAGE + 1}/")
    assert LAST_PAGE == 10


def test_the_hundred_quotes_are_all_different() -> None:
    with PracticeSite() as site:
        assert len({quote["text"] for quote in site.quotes}) == 100


def test_sigterm_stops_the_command_at_once_though_an_answer_is_due() -> None:
    command = [sys.executable, "-m", "millrace.practice.site", "--port", "0", "--delay", "600"]
    site = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert site.stdout is not None
        place = urlsplit(site.stdout.readline().strip())
        with socket.create_connection((place.hostname, place.port), 10) as asking:
            asking.sendall(b"GET / HTTP/1.1\r\nHost: practice\r\n\r\n")
            site.send_signal(signal.SIGTERM)
            assert site.wait(10) == 0
            with contextlib.suppress(ConnectionResetError):  # which says as well that nobody is there any more
                assert asking.recv(1) == b""
        site.stdout.close()
    finally:
        site.kill()
        site.wait()
