"""Each example runs as its README says, typed in a folder with nothing else in it, with the wheel installed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.sync.server import ServerConnection

from millrace.embedded import Embedded
from millrace.practice.site import PracticeSite
from millrace.practice.stream import PracticeStream
from tests.acceptance.readmewalk import Walk
from tests.acceptance.test_installed import Installed, installed  # noqa: F401 - the fixture
from tests.http_receiver import Receiver
from tests.integration.api_server import Answer, ApiServer, Asked, json_answer
from tests.integration.ports import free_port
from tests.integration.socket_server import SocketServer
from tests.integration.sse_server import OK, ScriptedServer
from tests.integration.test_web_examples import MASTODON, feature, geojson, trade, trades

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
PORTS = ("8000", "8001", "8002")
"""Those that a page starts a server on; here they may be taken."""

Here = tuple[dict[str, str], dict[str, str]]
"""Variables that lead to servers of this machine, and words of the page that do."""


def stream(held: ExitStack, *names: str) -> dict[str, str]:
    url = held.enter_context(PracticeStream(rate=100)).url
    return dict.fromkeys(names, url)


def answering(held: ExitStack, route: Callable[[Asked], Answer]) -> str:
    return held.enter_context(ApiServer(route)).url


def books(held: ExitStack) -> Here:
    site = held.enter_context(PracticeSite())
    return {"BOOKS_URL": f"{site.url}catalogue/page-3.html", "DETAILS": "false"}, {}  # the last: a crawl is polite


def prices(held: ExitStack) -> Here:
    return {"API": answering(held, lambda _: json_answer({"timestamp": "1795219200", "last": "95000"}))}, {}


def rest(held: ExitStack) -> Here:
    issue = {"id": 1, "updated_at": "2026-11-02T00:00:00Z"}
    return {"GITHUB": answering(held, lambda _: json_answer([issue]))}, {}


def graphql(held: ExitStack) -> Here:
    nodes = {"nodes": [{"id": "D_1", "updatedAt": "2026-11-01T00:00:00Z"}], "pageInfo": {"hasNextPage": False}}
    said = {"data": {"repository": {"discussions": nodes}}}
    return {"GITHUB": answering(held, lambda _: json_answer(said)), "GITHUB_TOKEN": "mine"}, {}


def mastodon(held: ExitStack) -> Here:
    server: ScriptedServer

    def talk() -> object:
        yield OK + MASTODON
        server.closing.wait()

    server = held.enter_context(ScriptedServer(talk))  # type: ignore[arg-type]
    return {"MASTODON": server.url.removesuffix("/events"), "MASTODON_TOKEN": "mine"}, {}


def websocket(held: ExitStack) -> Here:
    def talk(client: ServerConnection) -> None:
        record = {"createdAt": "2026-11-01T00:00:00Z", "text": "hello"}
        commit = {"operation": "create", "cid": "c", "record": record}
        client.send(json.dumps({"kind": "commit", "did": "d", "time_us": 1, "commit": commit}))
        server.closing.wait()

    server = held.enter_context(SocketServer(talk))
    return {"JETSTREAM": f"{server.url}/subscribe"}, {}


def exchange(held: ExitStack) -> Here:
    def talk(client: ServerConnection) -> None:
        client.recv()
        client.send(trades("snapshot", trade(1), trade(2)))
        server.closing.wait()

    server = held.enter_context(SocketServer(talk))
    return {"EXCHANGE": server.url}, {}


def usgs(held: ExitStack) -> Here:
    url = answering(held, lambda _: json_answer(geojson([feature(0), feature(1)])))
    return {"USGS": url}, {"https://earthquake.usgs.gov": url}


def redis_source(held: ExitStack) -> Here:
    theirs = held.enter_context(Embedded()).url
    return {"THEIRS": theirs.removesuffix("0") + "1"}, {}


def stdin(held: ExitStack) -> Here:
    return {}, {"redis://localhost:6379/0": held.enter_context(Embedded()).url}


PAGES: dict[str, Callable[[ExitStack], Here]] = {
    "books": books,
    "exchange": exchange,
    "external": lambda _: ({}, {}),
    "fan-out": lambda held: (
        {**stream(held, "WIKIPEDIA_URL"), "VIEW_URL": held.enter_context(Receiver()).url},
        {},
    ),
    "files": lambda _: ({}, {}),
    "graphql": graphql,
    "mastodon": mastodon,
    "prices": prices,
    "python": lambda _: ({}, {}),
    "redis": lambda held: (stream(held, "WIKIPEDIA_URL"), {}),
    "redis-source": redis_source,
    "rest": rest,
    "rest-pandas": lambda _: ({}, {}),
    "schedule": lambda _: ({}, {}),
    "sse": lambda held: (stream(held, "STREAM_URL"), {}),
    "stdin": stdin,
    "usgs": usgs,
    "webhook": lambda held: (
        {**stream(held, "WIKIPEDIA_URL"), "WEBHOOK_URL": held.enter_context(Receiver()).url, "WEBHOOK_TOKEN": "mine"},
        {},
    ),
    "websocket": websocket,
    "wikipedia-lake": lambda held: (stream(held, "WIKIPEDIA_URL"), {}),
}
ELSEWHERE = {"kafka", "kafka-to-kafka", "kafka-to-sqs", "quotes-postgres", "sqs", "wikipedia-s3-csv"}
"""Those that take a server, and a client of it, that no wheel brings: their flows are run by other tests."""


def test_every_example_is_walked_here_or_named() -> None:
    assert PAGES.keys() | ELSEWHERE == {path.name for path in EXAMPLES.iterdir() if path.is_dir()}


@pytest.mark.timeout(300)  # a page has several commands, each a program of its own
@pytest.mark.parametrize("name", PAGES)
def test_an_example_runs_as_its_readme_says(name: str, installed: Installed, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__", "data", ".millrace"))
    with ExitStack() as held:
        environ, rename = PAGES[name](held)
        walk = Walk(folder, installed.bin, environ, {**rename, **{port: str(free_port()) for port in PORTS}})
        walk.all()
    assert any("millrace" in command for command in walk.typed)
