"""A flow's whole life on each kind of Redis: `pytest --server NAME` says on which server, each test by which way.

docs/how-to/managed-redis.md has the table of what was run. `make anywhere` runs all of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from millrace.embedded import Embedded
from millrace_pipeline.queue.roles import CONSUMER, PRODUCER
from tests.conftest import IN_THE_WHEEL, eventually
from tests.integration.cluster import Cluster, three_primaries
from tests.integration.ports import free_port
from tests.integration.sentinel import in_sync
from tests.integration.test_acl import version_of
from tests.integration.test_sentinel import Rig
from tests.integration.test_tls import Authority, Terminator
from tests.integration.verbs import lines
from tests.queues import Queue
from tests.services import Place

pytestmark = pytest.mark.timeout(300)

HALF = 1_000


class Reached(NamedTuple):
    """How a consumer and a producer reach a Redis, and what is done to it when half of the records are delivered."""

    url: str
    producer_url: str
    disturb: Callable[[], None]


@contextlib.contextmanager
def alone(key: str, folder: Path) -> Iterator[Reached]:
    with Embedded(aof=True) as server:

        def start_again() -> None:
            server.kill()
            server.start()

        yield Reached(server.url, server.url, start_again)


@contextlib.contextmanager
def by_socket(key: str, folder: Path) -> Iterator[Reached]:
    with Embedded(aof=True, unix_socket=True) as server:
        yield Reached(server.url, server.url, lambda: None)


@contextlib.contextmanager
def with_roles(key: str, folder: Path) -> Iterator[Reached]:
    with Embedded(aof=True) as server, redis.Redis.from_url(server.url) as admin:
        for name, role in (("producer", PRODUCER), ("consumer", CONSUMER)):
            rules = role.rules([key], version=version_of(server)).split()
            admin.execute_command("ACL", "SETUSER", name, "reset", "on", ">secret", *rules)
        producer, consumer = (server.url.replace("//", f"//{name}:secret@") for name in ("producer", "consumer"))
        yield Reached(consumer, producer, lambda: None)


@contextlib.contextmanager
def behind_tls(key: str, folder: Path) -> Iterator[Reached]:
    ours = Authority(folder, "ours")
    with Embedded(aof=True) as server:
        terminator = Terminator(server.port or 0, ours.certify("localhost"))
        url = f"rediss://127.0.0.1:{terminator.port}/0?ssl_ca_certs={ours.file}"
        yield Reached(url, url, terminator.cut)
        terminator.close()


@contextlib.contextmanager
def cluster_of_six(key: str, folder: Path) -> Iterator[Reached]:
    with three_primaries() as cluster, contextlib.ExitStack() as stack:
        config = {"cluster-enabled": "yes", "cluster-node-timeout": 2000, "cluster-require-full-coverage": "no"}
        replicas = [
            stack.enter_context(Embedded(config={**config, "cluster-port": free_port()})) for _ in cluster.nodes
        ]
        for index, replica in enumerate(replicas):
            _follow(cluster, index, replica)
        url = f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in cluster.nodes)}/"

        def fail_over() -> None:
            owner = cluster.owner(key)
            with redis.Redis.from_url(replicas[owner].url) as heir:
                cluster.clients[owner].execute_command("WAIT", 1, 5000)
                cluster.nodes[owner].kill()
                eventually(lambda: heir.info("replication")["role"] == "master", 60)

        yield Reached(url, url, fail_over)


def _follow(cluster: Cluster, index: int, replica: Embedded) -> None:
    """Have a node join the cluster, and follow one of its primaries."""
    with redis.Redis.from_url(replica.url) as client:
        client.execute_command("CLUSTER MEET", "127.0.0.1", cluster.nodes[0].port, cluster.buses[0])
        primary = cluster.ids[index]
        eventually(lambda: primary in str(client.execute_command("CLUSTER NODES")))
        client.execute_command("CLUSTER REPLICATE", primary)
    eventually(lambda: in_sync(replica), 60)


@contextlib.contextmanager
def three_sentinels(key: str, folder: Path) -> Iterator[Reached]:
    with contextlib.ExitStack() as stack:
        rig = Rig(stack, sentinels=3)

        def fail_over() -> None:
            with redis.Redis.from_url(rig.primary.url) as client:
                client.execute_command("WAIT", 2, 5000)
            for sentinel in rig.sentinels:
                sentinel.patience(500)
            rig.primary.kill()
            eventually(lambda: rig.leader() is not rig.primary, 60)

        yield Reached(rig.url, rig.url, fail_over)


SURROUNDINGS = {
    "alone, killed and started again": alone,
    "unix socket": by_socket,
    "a user for each role": with_roles,
    "TLS": behind_tls,
    "cluster of 6, a primary killed": cluster_of_six,
    "3 Sentinels and 3 servers, the primary killed": three_sentinels,
}


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_each_record_comes_once_there(surroundings: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    key = "anywhere"
    with (
        SURROUNDINGS[surroundings](f"{key}-numbers", tmp_path) as reached,
        Place(tmp_path, reached.url, key) as place,
    ):
        place.flow(source={"type": "external"}, batch={"records": 50})
        producer = Queue(reached.producer_url, place.key_of())
        first, second = place.consume("numbers"), place.consume("numbers")
        _publish(producer, 0)
        first.until(lambda: place.numbers())
        first.kill()
        second.until(lambda: place.books().delivered == HALF)
        reached.disturb()
        _publish(producer, HALF)
        producer.close_all()
        second.until(lambda: place.books().delivered == 2 * HALF)
        assert second.terminate() == 0
        place.assert_once(range(2 * HALF))
        for command in (("check", "numbers", "--connect"), ("verify", "numbers", "--sink")):
            done = place.start(*command)
            assert done.wait() == 0, done.said + done.printed
        name = str(pytestconfig.getoption("--server") or IN_THE_WHEEL)
        checked = next(service for service in place.services if service.arguments[0] == "check")
        assert f"{name.replace('-', ' ').capitalize()}." in checked.printed


def _publish(queue: Queue, first: int) -> None:
    for number in range(first, first + HALF, 100):
        queue.publish(lines(*range(number, number + 100), mark=queue.keys.ready))
