"""Several nodes or Sentinels in one URL: everything comes up while some of them are dead, and says which."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from millrace.embedded import Embedded
from millrace_pipeline.errors import ConfigError, QueueMisuse, QueueUnavailable
from millrace_pipeline.process.settings import Settings
from millrace_pipeline.redis import nodes as places
from millrace_pipeline.redis.address import ANOTHER_SECONDS, REPLY_SECONDS, Address
from millrace_pipeline.redis.nodes import Place
from millrace_pipeline.redis.preflight import Finding, preflight
from tests.conftest import eventually
from tests.integration.cluster import Cluster, three_primaries
from tests.integration.ports import DEAD, free_port, refusing, swallowing
from tests.integration.sentinel import NAME, Sentinel
from tests.integration.verbs import every_verb_works, lines
from tests.queues import Queue
from tests.services import Place as Folder


class Rig:
    """A cluster and a watched primary, found by URLs that name several nodes or Sentinels."""

    def __init__(self, cluster: Cluster, sentinels: list[Sentinel]) -> None:
        self.cluster = cluster
        self.ports = {
            "cluster": [node.port or 0 for node in cluster.nodes],
            "sentinel": [one.port for one in sentinels],
        }

    def url(self, kind: str, *before: int) -> str:
        """Names these ports, then those where somebody answers."""
        return url_of(kind, *before, *self.ports[kind])


def url_of(kind: str, *ports: int) -> str:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"redis+{kind}://{hosts}/{NAME if kind == 'sentinel' else ''}"


def lone_node() -> Embedded:
    """A server that knows of no other node, nor of who serves what."""
    return Embedded(config={"cluster-enabled": "yes", "cluster-port": free_port()})


KINDS = ("cluster", "sentinel")


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(three_primaries())
        primary = stack.enter_context(Embedded(aof=True, config={"maxmemory": "64mb"}))
        sentinels = [stack.enter_context(Sentinel(primary, quorum=2)) for _ in range(2)]
        for sentinel in sentinels:
            eventually(lambda sentinel=sentinel: sentinel.knows(0, 1))
        yield Rig(cluster, sentinels)


@pytest.fixture(autouse=True)
def nobody_is_known_to_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_silences", {})


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return request.node.name.translate(str.maketrans("", "", "[]{} "))


def found(findings: list[Finding], words: str) -> Finding:
    return next(finding for finding in findings if words in finding.message)


@pytest.mark.parametrize("kind", KINDS)
def test_every_verb_works_by_a_url_that_names_several(rig: Rig, kind: str, key: str) -> None:
    every_verb_works(rig.url(kind), key)


@pytest.mark.parametrize("death", DEAD)
@pytest.mark.parametrize("kind", KINDS)
def test_a_dead_one_that_is_named_first_is_passed_over_and_then_asked_last(
    rig: Rig, kind: str, death: str, key: str
) -> None:
    # Of a frozen node its connection is known to be silent only when no reply comes.
    patience = REPLY_SECONDS if (kind, death) == ("cluster", "mute") else ANOTHER_SECONDS
    with DEAD[death]() as port:
        url = rig.url(kind, port)
        started = time.monotonic()
        queue = Queue(url, key)
        queue.give_up.set()  # the first attempt must succeed: a person is waiting
        assert queue.publish(lines(1)).lag == 1
        assert time.monotonic() - started < patience + 2
        quick = time.monotonic()
        for number in range(3):
            another = Queue(url, f"{key}-{number}")  # another flow of this process
            another.give_up.set()
            another.publish(lines(1))
            another.close_all()
            queue.close_all()
            queue.publish(lines(2))
        assert time.monotonic() - quick < ANOTHER_SECONDS, "the dead one was waited for again"
        queue.close_all()


@pytest.mark.parametrize("kind", KINDS)
def test_most_of_them_may_be_dead(rig: Rig, kind: str, key: str) -> None:
    with refusing() as first, refusing() as second, swallowing() as third, refusing() as fourth:
        every_verb_works(rig.url(kind, first, second, third, fourth), key)


@pytest.mark.parametrize("kind", KINDS)
def test_where_none_answers_all_that_were_tried_are_named(kind: str, key: str) -> None:
    with refusing() as first, refusing() as second:
        queue = Queue(url_of(kind, first, second), key)
        queue.give_up.set()
        with pytest.raises(QueueUnavailable) as caught:
            queue.publish(lines(1))
    for port in (first, second):
        assert f"127.0.0.1:{port}: " in str(caught.value)
    assert "Connection refused" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_preflight_names_those_that_are_dead_and_the_rest_is_well(rig: Rig, kind: str) -> None:
    with refusing() as first, swallowing() as second:
        findings = preflight(rig.url(kind, first, second))
        finding = found(findings, "no answer from")
        assert all(f"127.0.0.1:{port}" in finding.message for port in (first, second))
        assert finding.level == "warning"
        assert finding.mend
        assert all(str(port) not in finding.message for port in rig.ports[kind])
    assert not [one for one in findings if one.level == "error"]
    assert not [one for one in preflight(rig.url(kind)) if "no answer" in one.message]


COMMANDS: dict[str, Callable[[str], bool]] = {
    "status": lambda said: "numbers" in said,
    "verify": lambda said: "balanced" in said,
    "check --connect": lambda said: "no answer from 127.0.0.1:" in said,
    "dead ls numbers": lambda said: True,
    "variants ls numbers": lambda said: True,
    "consume --until-empty": lambda said: True,
}


@pytest.fixture
def folder(tmp_path: Path, rig: Rig, request: pytest.FixtureRequest) -> Iterator[Folder]:
    with swallowing() as port, Folder(tmp_path, rig.url(request.param, port), f"commands-{request.param}") as folder:
        yield folder


@pytest.mark.parametrize("folder", KINDS, indirect=True)
def test_every_command_and_service_comes_up_while_the_first_named_is_gone(folder: Folder) -> None:
    folder.flow(source={"type": "stdin"})
    producer = folder.start("produce", "numbers", stdin=subprocess.PIPE)
    assert producer.process.stdin is not None
    producer.process.stdin.write(b"".join(b'{"n": %d}\n' % number for number in range(25)))
    producer.process.stdin.close()
    services = [producer]
    assert producer.wait() == 0, producer.said
    for command, well in COMMANDS.items():
        services.append(service := folder.start(*command.split()))
        assert service.wait() == 0, service.said
        assert well(service.printed), service.printed
    assert not any("redis_unavailable" in service.said for service in services)
    folder.assert_once(range(25))


class TestCluster:
    """What is of clusters alone."""

    def test_a_node_cut_off_from_the_others_is_left_for_one_that_is_not(self, rig: Rig, key: str) -> None:
        with lone_node() as alone:
            queue = Queue(rig.url("cluster", alone.port or 0), key)
            queue.give_up.set()
            assert queue.publish(lines(1)).lag == 1
            queue.close_all()

    def test_a_list_whose_node_is_dead_is_said_to_be_there(self, rig: Rig, key: str) -> None:
        owner = rig.cluster.nodes[rig.cluster.owner(key)]
        port = owner.port
        owner.kill()
        try:
            queue = Queue(rig.url("cluster"), key)
            queue.give_up.set()
            with pytest.raises(QueueUnavailable, match=rf"has the list does not answer: 127\.0\.0\.1:{port}"):
                queue.publish(lines(1))
        finally:
            owner.start()
            eventually(lambda: all(rig.cluster.well(client) for client in rig.cluster.clients))
        queue.publish(lines(1))
        assert queue.books().ready == 1
        queue.close_all()

    def test_a_server_that_is_no_node_is_refused(self, redis_url: str, key: str) -> None:
        _, _, place = redis_url.partition("127.0.0.1:")
        port = place.partition("/")[0]
        for ask in (lambda url: Queue(url, key).publish(lines(1)), lambda url: _raise(preflight(url))):
            with pytest.raises(QueueMisuse, match=rf"127\.0\.0\.1:{port} is no node of a cluster.*redis://"):
                ask(f"redis+cluster://127.0.0.1:{port}")

    def test_a_client_is_of_the_node_that_has_the_list(self, rig: Rig, key: str) -> None:
        with refusing() as port:
            queue = Queue(rig.url("cluster", port), key)
            with contextlib.closing(queue.client()) as client:
                assert client.lpush(key, "x") == 1
            queue.close_all()

    def test_a_wrong_password_is_said_at_once(self, rig: Rig, key: str) -> None:
        with pytest.raises(QueueMisuse, match="refuses this user"):
            Queue(rig.url("cluster").replace("://", "://me:canary@"), key).publish(lines(1))

    def test_a_replica_may_be_the_node_that_is_named(self, key: str) -> None:
        with three_primaries() as cluster, lone_node() as replica:
            client = redis.Redis.from_url(replica.url)
            client.execute_command("CLUSTER MEET", "127.0.0.1", cluster.nodes[0].port, cluster.buses[0])
            eventually(lambda: client.execute_command("CLUSTER INFO")["cluster_known_nodes"] == "4")
            client.execute_command("CLUSTER REPLICATE", cluster.ids[0])
            eventually(lambda: client.info("replication")["role"] == "slave")
            eventually(lambda: cluster.well(client))
            every_verb_works(f"redis+cluster://127.0.0.1:{replica.port}", key)
            assert not [one for one in preflight(f"redis+cluster://127.0.0.1:{replica.port}") if one.level == "error"]
            client.close()


def _raise(findings: list[Finding]) -> None:
    (finding,) = findings
    assert (finding.level, finding.lasting) == ("error", True)
    raise QueueMisuse(finding.message)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis+cluster://host", ["host:6379"]),
        ("redis+cluster://host:7000,other/", ["host:7000", "other:6379"]),
        (
            "rediss+cluster://me:p%40ss@a:1,b,[::1]:3,[2001:db8::2]/0?ssl_cert_reqs=none",
            ["a:1", "b:6379", "[::1]:3", "[2001:db8::2]:6379"],
        ),
        ("redis+cluster://a,b,a?socket_connect_timeout=1", ["a:6379", "b:6379"]),
    ],
)
def test_a_cluster_s_address_is_read_by_the_settings_and_here(
    url: str, named: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    address = Address(Settings.load().url)
    assert [str(place) for place in address.named] == named
    assert address.tls == url.startswith("rediss")


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster:///0",
        "redis+cluster://host:port",
        "redis+cluster://host,,other",
        "redis+cluster://host/1",
        "redis+cluster://host/name",
        "redis+cluster://host#",
        "unix+cluster:///path",
    ],
)
def test_a_cluster_s_address_that_is_wrong_is_refused_by_both(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(QueueMisuse, match="REDIS_URL"):
        Address(url)
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(ConfigError, match="REDIS_URL"):
        Settings.load()


def test_another_database_than_0_is_refused_for_a_cluster() -> None:
    with pytest.raises(QueueMisuse, match="only database 0"):
        Address("redis+cluster://host?db=1")


def test_a_node_of_ipv6_is_reached() -> None:
    with lone_node() as server, redis.Redis.from_url(server.url) as client:
        client.config_set("bind", "127.0.0.1 ::1")
        client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        eventually(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        with refusing() as port:
            address = Address(f"redis+cluster://[::1]:{port},[::1]:{server.port}", key="k")
            wire = address.dial()
            assert (wire.host, wire.port) == Place("::1", server.port or 0)
            wire.disconnect()
