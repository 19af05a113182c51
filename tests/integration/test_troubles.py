"""What goes wrong with a source or a sink is seen by whoever looks: the reason, since when, and that it is over."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest

from millrace.cli.screen import _styled
from millrace.embedded import Embedded
from millrace_pipeline.process.supervisor import Child, Supervisor
from millrace_pipeline.queue.troubles import Trouble, end_trouble, tell_trouble, troubles_of
from millrace_producer.sources import SOURCES
from tests.conftest import eventually
from tests.faults.proxy import Proxy
from tests.integration.api_server import ApiServer, json_answer
from tests.integration.socket_server import SocketServer
from tests.integration.sse_server import OK, ScriptedServer
from tests.integration.test_probes import DEAD, KEYS, NOBODY, POINTLESS
from tests.integration.test_sink_down import DOWN
from tests.moto_server import REGION, MotoServer
from tests.services import PATIENCE, Place

QUICK = {"backoff_initial": "50ms", "backoff_max": "200ms"}
NOT_THERE = {name: options for (kind, name), options in DEAD.items() if kind == "source"}


class Produced:
    """A producer that is supervised as `millrace run` does it, and what is seen of it."""

    def __init__(self, place: Place, source: dict[str, Any]) -> None:
        place.flow(source=source)
        self._place = place
        environ = {**os.environ, "REDIS_URL": place.redis_url, "MILLRACE_LOG": "json"}
        self.said: list[str] = []
        self._supervisor = Supervisor(environ=environ, say=lambda _, line: self.said.append(line))
        where = ("--flows", str(place.folder / "flows.yaml"))
        self.child: Child = self._supervisor.add("producer-numbers", "produce", "numbers", *where)

    def told(self) -> list[Trouble]:
        with self._place.queue() as queue:
            return troubles_of(queue)

    def until(self, claim: Callable[[], object]) -> None:
        def holds() -> bool:
            assert self.child.running or claim(), "\n".join(self.said)
            return bool(claim())

        eventually(holds, PATIENCE)

    def __enter__(self) -> Produced:
        return self

    def __exit__(self, *_: object) -> None:
        self._supervisor.stop(grace_seconds=10)


def test_every_source_that_asks_somebody_is_among_these() -> None:
    assert set(NOT_THERE) == set(SOURCES) - POINTLESS


@pytest.mark.parametrize("source", NOT_THERE)
def test_a_source_that_gets_only_errors_is_seen_to_wait_and_why(place: Place, source: str) -> None:
    with Produced(place, {"type": source, **NOT_THERE[source]}) as produced:
        produced.until(lambda: produced.told() and produced.child.trouble)
        assert _styled(produced.child) == "[yellow]waits[/yellow]"
        assert produced.child.trouble is not None
        (told,) = produced.told()
    assert told.part == "source"
    assert NOBODY.partition(":")[2] in told.reason
    assert told.last_seconds <= told.since_seconds < PATIENCE
    shown = place.start("status", "numbers", COLUMNS="80")
    assert shown.wait() == 0, shown.said
    (line,) = [line for line in shown.printed.splitlines() if "source fails since" in line]
    assert told.reason in line
    said = place.start("status", "numbers", "--json")
    assert said.wait() == 0
    assert json.loads(said.printed)["numbers"]["troubles"][0]["reason"] == told.reason


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def silent_stream(held: ExitStack) -> dict[str, Any]:
    def quiet() -> Iterator[bytes]:
        yield OK
        server.closing.wait()

    server = held.enter_context(ScriptedServer(quiet))
    return {"type": "sse", "url": server.url, **QUICK}


def silent_socket(held: ExitStack) -> dict[str, Any]:
    server = held.enter_context(SocketServer(lambda _: server.closing.wait() and None))
    return {"type": "websocket", "url": server.url, **QUICK}


def nothing_new(held: ExitStack) -> dict[str, Any]:
    api = held.enter_context(ApiServer(lambda _: json_answer([])))
    return {"type": "rest", "url": api.url, "every": "100ms", **QUICK}


def empty_list(held: ExitStack) -> dict[str, Any]:
    return {"type": "redis", "url": held.enter_context(Embedded()).url, "key": "theirs"}


def empty_stream(held: ExitStack) -> dict[str, Any]:
    return {**empty_list(held), "kind": "stream"}


def empty_group(held: ExitStack) -> dict[str, Any]:
    return {**empty_stream(held), "group": "ours"}


def silent_channel(held: ExitStack) -> dict[str, Any]:
    return {**empty_list(held), "kind": "channel"}


def empty_queue(held: ExitStack) -> dict[str, Any]:
    moto = held.enter_context(MotoServer())
    url = moto.client("sqs").create_queue(QueueName="quiet")["QueueUrl"]
    return {"type": "sqs", "url": url, "region": REGION, **KEYS, "timeout": "1s", "wait": "1s"}


QUIET = [silent_stream, silent_socket, nothing_new, empty_list, empty_stream, empty_group, silent_channel, empty_queue]


@pytest.mark.parametrize("quiet", QUIET, ids=lambda quiet: quiet.__name__)
def test_a_source_that_is_quiet_again_is_no_longer_in_trouble(
    place: Place, quiet: Callable[[ExitStack], dict[str, Any]], held: ExitStack
) -> None:
    options = quiet(held)
    parts = urlsplit(options["url"])
    proxy = Proxy(parts.hostname or "", parts.port or 0)
    proxy.refuse()
    options["url"] = parts._replace(netloc=f"127.0.0.1:{proxy.port}").geturl()
    with Produced(place, options) as produced:
        produced.until(lambda: produced.told() and produced.child.trouble)
        proxy.refuse(False)
        produced.until(lambda: not produced.told() and produced.child.trouble is None)
        assert _styled(produced.child) == "[green]runs[/green]"
    proxy.close()


def test_a_source_that_is_refused_for_good_is_told_after_its_producer_is_gone(place: Place) -> None:
    with ApiServer() as api:
        place.flow(source={"type": "rest", "url": f"{api.url}/none"})
        assert place.produce().wait() == 2
    with place.queue() as queue:
        (told,) = troubles_of(queue)
    assert "404" in told.reason


def test_since_when_stays_while_it_lasts_and_the_last_time_is_the_last(place: Place) -> None:
    with place.queue() as queue:
        since = tell_trouble(queue, "no name", None)
        eventually(
            lambda: tell_trouble(queue, "refused", since) == since and troubles_of(queue)[0].since_seconds > 0.05
        )
        (told,) = troubles_of(queue)
        assert (told.reason, told.last_seconds < told.since_seconds) == ("refused", True)
        end_trouble(queue)
        assert troubles_of(queue) == []


def test_a_sink_that_waits_is_seen_with_its_reason(place: Place) -> None:
    place.module(DOWN)
    place.flow(sink={"type": "theirs:Down", "path": "out/numbers"})
    (place.folder / "down").touch()
    place.publish([1])
    consumer = place.consume()
    consumer.await_event("sink_unavailable")
    consumer.until(lambda: place.books().leases[0].note)
    shown = place.start("status")
    assert shown.wait() == 0
    assert re.search(r"numbers: batch .*: sink unavailable since .* UTC: down$", shown.printed, re.MULTILINE)
