"""What a redirect leads to is looked up and judged before anything connects to it, by every source that follows one."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from millrace_pipeline.envelope import Record
from millrace_pipeline.errors import SourceError, SourceRefused, SourceUnavailable
from millrace_producer import addresses
from millrace_producer.sources.rest import RestSource
from millrace_producer.sources.scrapy import ScrapySource
from millrace_producer.sources.sse import SseSource
from millrace_producer.sources.websocket import WebsocketSource
from tests.integration.api_server import ApiServer, json_answer
from tests.integration.scrapyproject import QUICK, make_project
from tests.integration.socket_server import SocketServer
from tests.integration.sse_server import OK, ScriptedServer, answer
from tests.integration.test_tls import Authority, Terminator

WAYS_TO_WRITE_IT = [
    *("127.0.0.1", "127.0.0.1.", "localhost", "a.localhost", "127.1", "0x7f.1", "0177.0.0.1", "2130706433"),
    *("0x7f000001", "017700000001", "0", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
]
INSIDE, MIXED, PUBLIC = "inside.example", "mixed.example", "public.example"
OUTSIDE = "9.9.9.9"
"""An address of the internet, which nothing here may connect to."""

QUICKLY: dict[str, Any] = {"max_failures": 1, "backoff_initial": 0.01, "connect_timeout": 2}


class Door:
    """Listens, and says whether anybody knocked: a handshake is over before the one who knocks hears of it."""

    def __init__(self) -> None:
        self._listener = self._listen()
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]

    @staticmethod
    def _listen() -> socket.socket:
        """On a port that the system gives nobody: another may have been a test's before, whose clients still knock."""
        while True:
            with contextlib.suppress(OSError):
                return socket.create_server(("127.0.0.1", random.randrange(20_000, 32_000)))

    def knocked(self) -> bool:
        try:
            self._listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    yield door
    door.close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """What names stand for in this process: each time one is looked up the next of these, and then the last again."""
    known = {INSIDE: [["127.0.0.1"]], MIXED: [[OUTSIDE, "127.0.0.1"]]}
    really = socket.getaddrinfo

    def look_up(host: str, port: int, *args: int, **options: int) -> list[object]:
        if host not in known:
            return really(host, port, *args, **options)  # type: ignore[arg-type, return-value]
        found = known[host].pop(0) if len(known[host]) > 1 else known[host][0]
        return [place for address in found for place in really(address, port, *args, **options)]  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


@contextmanager
def redirects(location: str) -> Iterator[str]:
    """The URL of a server that sends whoever asks elsewhere."""
    with ScriptedServer(*[answer("302 Found", f"Location: {location}")] * 3) as server:
        yield server.url


def sse(there: str) -> list[object]:
    with redirects(f"http://{there}/") as url:
        events = SseSource(url=url, read_timeout=2, **QUICKLY).read(None)  # type: ignore[arg-type]
        return [record.data for record in islice(events, 1) if isinstance(record, Record)]


def rest(there: str) -> list[object]:
    with redirects(f"http://{there}/") as url:
        source = RestSource(url=url, read_timeout=2, **QUICKLY)
        return [record.data for record in source.read(None) if isinstance(record, Record)]


def rest_by_a_link(there: str) -> list[object]:
    with ApiServer() as server:
        server.script.append(json_answer([], Link=f'<http://{there}/>; rel="next"'))
        source = RestSource(url=server.url, read_timeout=2, pagination={"type": "link"}, **QUICKLY)  # type: ignore[arg-type]
        return [record.data for record in source.read(None) if isinstance(record, Record)]


def websocket(there: str) -> list[object]:
    with redirects(f"ws://{there}/") as url:
        source = WebsocketSource(url=url.replace("http", "ws"), end_at_close=True, **QUICKLY)
        return [record.data for record in source.read(None) if isinstance(record, Record)]


Follow = Callable[[str], list[object]]
IN_PROCESS = [sse, rest, rest_by_a_link, websocket]


@pytest.mark.parametrize("follow", IN_PROCESS)
@pytest.mark.parametrize("host", [*WAYS_TO_WRITE_IT, INSIDE, MIXED])
@pytest.mark.usefixtures("names")
def test_no_private_address_gets_a_handshake(follow: Follow, host: str, door: Door) -> None:
    with pytest.raises(SourceRefused, match=r"private address.*allow_private") as refused:
        follow(f"{host}:{door.port}")
    assert not door.knocked()
    assert (refused.value.__cause__, refused.value.__context__) == (None, None)


@pytest.mark.parametrize("follow", IN_PROCESS)
@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433", "localhost"])
def test_nor_is_a_proxy_asked_for_one(follow: Follow, host: str, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{door.port}")
    monkeypatch.setitem(QUICKLY, "proxy", "environment")
    with pytest.raises(SourceRefused, match=r"private address.*allow_private"):
        follow(f"{host}:{door.port}")
    assert not door.knocked()


SPEAKS = {
    sse: OK + b'data: "it"\n\n',
    rest: answer("200 OK", "Content-Type: application/json", b'["it"]'),
    rest_by_a_link: answer("200 OK", "Content-Type: application/json", b'["it"]'),
}


@pytest.mark.parametrize("follow", SPEAKS)
def test_what_was_judged_is_what_is_connected_to_whatever_the_name_means_next(
    follow: Follow, names: dict[str, list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """127.0.0.2 stands for the internet here, and 127.0.0.1 for what is inside."""
    _is_public("127.0.0.2", monkeypatch)
    names[PUBLIC] = [["127.0.0.2"], ["127.0.0.1"]]
    with ScriptedServer(SPEAKS[follow], host="127.0.0.2") as public:
        there = public.url.split("/")[2].replace("127.0.0.2", PUBLIC)
        assert follow(there) == [b'"it"']
        assert public.asked[0].headers["host"] == there


def test_so_it_is_of_a_websocket(names: dict[str, list[list[str]]], monkeypatch: pytest.MonkeyPatch) -> None:
    _is_public("127.0.0.1", monkeypatch)
    names[PUBLIC] = [["127.0.0.1"], ["127.0.0.3"]]
    with SocketServer(lambda client: client.send('"it"')) as public:
        there = public.url.removeprefix("ws://").replace("127.0.0.1", PUBLIC)
        assert websocket(there) == [b'"it"']
        assert public.asked[0].headers["host"] == there


@pytest.mark.parametrize("named", [PUBLIC, "other.example"])
@pytest.mark.parametrize("follow", [sse, websocket])
def test_the_certificate_has_to_be_the_names_and_not_the_addresses(
    follow: Follow,
    named: str,
    names: dict[str, list[list[str]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both certificates are good for 127.0.0.1 as well."""
    authority = Authority(tmp_path, "authority")
    monkeypatch.setitem(QUICKLY, "ca_file", authority.file)
    _is_public("127.0.0.1", monkeypatch)
    names[PUBLIC] = [["127.0.0.1"]]
    with ScriptedServer(SPEAKS[sse]) as events, SocketServer(lambda client: client.send('"it"')) as socket_server:
        port = int((events if follow is sse else socket_server).url.split(":")[2].split("/")[0])
        tls = Terminator(port, authority.certify(named))
        monkeypatch.setattr(f"{__name__}.redirects", _to_tls(redirects))
        try:
            if named == PUBLIC:
                assert follow(f"{PUBLIC}:{tls.port}") == [b'"it"']
            else:
                with pytest.raises(SourceUnavailable, match=r"(?i)ssl|certificate"):
                    follow(f"{PUBLIC}:{tls.port}")
        finally:
            tls.close()


def _is_public(public: str, monkeypatch: pytest.MonkeyPatch) -> None:
    really = addresses.is_private
    monkeypatch.setattr(addresses, "is_private", lambda host: host != public and really(host))


def _to_tls(redirects: Callable[[str], object]) -> Callable[[str], object]:
    return lambda location: redirects(location.replace("http://", "https://").replace("ws://", "wss://"))


SPIDER = """

class Lead(scrapy.Spider):
    name = "lead"

    async def start(self):
        for url in self.urls.split():
            yield scrapy.Request(url, dont_filter=True)

    def parse(self, response):
        yield {"body": response.text}
"""

RESOLVER = f'''\
from scrapy.resolver import CachingThreadedResolver
from twisted.internet.defer import succeed

KNOWN = {{
    "{INSIDE}": ["127.0.0.1"],
    "rebinds.example": ["{OUTSIDE}", "127.0.0.1"],
    "appears.example": ["", "127.0.0.1"],
}}


class Resolver(CachingThreadedResolver):
    def getHostByName(self, name, timeout=()):
        found = KNOWN.get(name)
        if not found:
            return super().getHostByName(name, timeout)
        address = found.pop(0) if len(found) > 1 else found[0]
        return succeed(address) if address else super().getHostByName("no-such-host.invalid", timeout)
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    middlewares = 'DOWNLOADER_MIDDLEWARES = {"millrace_producer.middlewares.PublicRedirects": 50}\n'
    folder = make_project(tmp_path / "project", settings=middlewares, spiders=SPIDER)
    (folder / "theirs" / "resolver.py").write_text(RESOLVER)
    return folder


def crawl(project: Path, *hosts: str, **settings: object) -> list[object]:
    """A crawl that is sent to these hosts, a request each. It connects from loopback, so not to the internet."""
    script = [answer("302 Found", f"Location: http://{host}/") for host in hosts]
    if settings.get("ROBOTSTXT_OBEY"):
        script.insert(0, answer("404 Not Found"))
    with ScriptedServer(*script) as server:
        settings = {
            **QUICK,
            "RETRY_ENABLED": False,
            "DOWNLOAD_TIMEOUT": 2,
            "ROBOTSTXT_OBEY": False,
            "CONCURRENT_REQUESTS_PER_DOMAIN": 1,
            "DOWNLOAD_BIND_ADDRESS": "127.0.0.1",
            "TWISTED_DNS_RESOLVER": "theirs.resolver.Resolver",
            **settings,
        }
        urls = " ".join([server.url] * len(hosts))
        source = ScrapySource(spider="lead", project=project, args={"urls": urls}, settings=settings)
        return [record.data for record in source.read(None) if isinstance(record, Record)]


@pytest.mark.parametrize("cached", [True, False])
def test_no_private_address_gets_a_handshake_by_a_crawl(project: Path, door: Door, cached: bool) -> None:
    hosts = [f"{host}:{door.port}" for host in (*WAYS_TO_WRITE_IT, INSIDE)]
    with pytest.raises(SourceError, match=f"{len(hosts)} × PrivateAddress"):
        crawl(project, *hosts, DNSCACHE_ENABLED=cached)
    assert not door.knocked()


@pytest.mark.parametrize("name", ["rebinds.example", "appears.example"])
@pytest.mark.parametrize("robots", [True, False])
def test_a_crawl_connects_to_what_was_judged_whatever_the_name_means_next(
    project: Path, door: Door, name: str, robots: bool
) -> None:
    with pytest.raises(SourceError) as failed:
        crawl(project, f"{name}:{door.port}", DNSCACHE_ENABLED=False, ROBOTSTXT_OBEY=robots)
    assert not door.knocked()
    assert "PrivateAddress" not in str(failed.value)
