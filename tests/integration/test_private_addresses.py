"""A redirect doesn't lead a source into a private network, however the address is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace_pipeline.envelope import Record
from millrace_pipeline.errors import SourceError, SourceRefused
from millrace_producer.addresses import is_private, leads_elsewhere, strips_secrets
from millrace_producer.sources.scrapy import ScrapySource
from millrace_producer.sources.sse import SseSource
from tests.integration.scrapyproject import QUICK, make_project
from tests.integration.sse_server import OK, ScriptedServer, answer

EVENT = OK + b"data: 1\n\n"
NAMES_OF_LOOPBACK = ("127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "[::ffff:127.0.0.1]")


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "127.8.9.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
        ),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::"),
        *("0.0.0.0", "224.0.0.1", "255.255.255.255", "ff02::1", "localhost", "LOCALHOST.", "a.localhost"),
    ],
)
def test_these_are_private(host: str) -> None:
    assert is_private(host)


@pytest.mark.parametrize("host", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_these_are_public(host: str) -> None:
    assert not is_private(host)


@pytest.mark.parametrize(
    ("url", "target", "elsewhere"),
    [
        ("http://a/", "http://a/b", False),
        ("http://a/", "https://A:443/b", False),
        ("http://a:8000/", "http://a:8000/b", False),
        ("http://a/", "http://b/", True),
        ("http://a:8000/", "http://a:6379/", True),
        ("http://a:8000/", "https://a/", True),
        ("https://a/", "http://a/", True),
    ],
)
def test_a_place_is_host_and_port(url: str, target: str, elsewhere: bool) -> None:
    assert leads_elsewhere(url, target) is elsewhere


@pytest.mark.parametrize(
    ("url", "target", "strips"),
    [
        ("https://a/", "https://A/b", False),
        ("http://a/", "https://a/", False),
        ("http://a:80/", "https://a:443/", False),
        ("https://a/", "https://a:443/", False),
        ("https://a/", "http://a/", True),
        ("https://a:8443/", "http://a:8443/", True),
        ("http://a:8000/", "https://a:8000/", True),
        ("http://a/", "http://a:8000/", True),
        ("http://a/", "http://b.a/", True),
    ],
)
def test_secrets_go_to_the_very_host_port_and_scheme(url: str, target: str, strips: bool) -> None:
    assert strips_secrets(url, target) is strips


def events(url: str, **options: object) -> list[object]:
    source = SseSource(url=url, backoff_initial=0.01, **options)  # type: ignore[arg-type]
    return [record.data for record in source.read(None) if isinstance(record, Record)]


@pytest.mark.parametrize("name", NAMES_OF_LOOPBACK)
def test_an_event_stream_is_not_followed_to_a_private_address(name: str) -> None:
    with ScriptedServer(EVENT) as inside, ScriptedServer() as server:
        server.script.append(answer("302 Found", f"Location: {inside.url.replace('127.0.0.1', name)}?token=s3cret"))
        with pytest.raises(SourceRefused, match=r"private address.*allow_private") as refused:
            events(server.url)
        assert inside.asked == []
        assert "s3cret" not in str(refused.value)
        assert (refused.value.__cause__, refused.value.__context__) == (None, None)


def test_an_event_stream_is_not_followed_there_in_two_steps() -> None:
    with ScriptedServer(EVENT) as inside, ScriptedServer() as server:
        server.script.append(answer("302 Found", "Location: /there"))
        server.script.append(answer("302 Found", f"Location: {inside.url}"))
        with pytest.raises(SourceRefused, match="private address"):
            events(server.url)
        assert len(server.asked) == 2
        assert inside.asked == []


def test_an_event_stream_is_followed_there_where_that_is_allowed() -> None:
    with ScriptedServer(EVENT) as inside, ScriptedServer() as server:
        server.script.append(answer("302 Found", f"Location: {inside.url}"))
        assert events(server.url, allow_private=True) == [b"1"]


def test_the_place_that_the_flow_names_is_trusted_whatever_its_address() -> None:
    with ScriptedServer(answer("302 Found", "Location: /there"), EVENT) as server:
        assert events(server.url) == [b"1"]


SPIDER = """

class Lead(scrapy.Spider):
    name = "lead"

    async def start(self):
        yield scrapy.Request(self.url)

    def parse(self, response):
        yield {"body": response.text}
"""
PAGE = answer("200 OK", "Content-Type: text/plain", b"inside")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    middlewares = 'DOWNLOADER_MIDDLEWARES = {"millrace_producer.middlewares.PublicRedirects": 50}\n'
    return make_project(tmp_path / "project", settings=middlewares, spiders=SPIDER)


def crawled(project: Path, url: str, **settings: object) -> list[object]:
    source = ScrapySource(
        spider="lead", project=project, args={"url": url}, settings=QUICK | {"RETRY_ENABLED": False} | settings
    )
    return [record.data for record in source.read(None) if isinstance(record, Record)]


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "127.1"])
def test_a_crawl_is_not_followed_to_a_private_address(project: Path, name: str) -> None:
    with ScriptedServer(PAGE) as inside, ScriptedServer() as server:
        server.script.append(answer("302 Found", f"Location: {inside.url.replace('127.0.0.1', name)}"))
        with pytest.raises(SourceError, match="1 × PrivateAddress"):
            crawled(project, server.url, ROBOTSTXT_OBEY=False)
        assert inside.asked == []


def test_nor_is_robots_txt_asked_for_there(project: Path) -> None:
    with ScriptedServer() as inside, ScriptedServer(answer("404 Not Found")) as server:
        server.script.append(answer("302 Found", f"Location: {inside.url}"))
        with pytest.raises(SourceError, match="1 × PrivateAddress"):
            crawled(project, server.url, ROBOTSTXT_OBEY=True)
        assert [asked.line.split()[1] for asked in server.asked] == ["/robots.txt", "/events"]
        assert inside.asked == []


def test_a_crawl_is_followed_there_where_that_is_allowed(project: Path) -> None:
    with ScriptedServer(PAGE) as inside, ScriptedServer() as server:
        server.script.append(answer("302 Found", f"Location: {inside.url}"))
        assert len(crawled(project, server.url, ROBOTSTXT_OBEY=False, MILLRACE_ALLOW_PRIVATE=True)) == 1


def test_our_own_project_guards_its_crawls() -> None:
    with ScriptedServer(PAGE) as inside, ScriptedServer(answer("404 Not Found")) as server:
        server.script.append(answer("302 Found", f"Location: {inside.url}"))
        source = ScrapySource(spider="quotes", args={"start_url": server.url}, settings=QUICK)
        with pytest.raises(SourceError, match="PrivateAddress"):
            list(source.read(None))
        assert inside.asked == []
