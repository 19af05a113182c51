"""A queue on a real Redis Cluster of three nodes: found from any node, and followed when it moves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import redis
from redis.crc import key_slot

from pipeline.embedded import Embedded
from pipeline.errors import QueueUnavailable
from pipeline.queue import Queue
from pipeline.queue.address import Place
from pipeline.queue.preflight import preflight
from tests.conftest import eventually
from tests.integration.ports import free_port
from tests.integration.verbs import Load, every_verb_works, lines

SLOTS = 16384


class Cluster:
    """Three primaries, a third of the slots each."""

    def __init__(self, nodes: list[Embedded], buses: list[int]) -> None:
        self.nodes = nodes
        self.buses = buses  # the ports on which they speak to each other
        self.clients = [redis.Redis.from_url(node.url) for node in nodes]
        self.ids = [client.execute_command("CLUSTER MYID").decode() for client in self.clients]

    def owner(self, key: str) -> int:
        """The index of the node that the key's slot began on."""
        return key_slot(key.encode()) * len(self.nodes) // SLOTS

    def form(self) -> None:
        for index, client in enumerate(self.clients):
            first, end = (-(-SLOTS * n // len(self.nodes)) for n in (index, index + 1))
            client.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
            if index:
                client.execute_command("CLUSTER MEET", "127.0.0.1", self.nodes[0].port, self.buses[0])
        eventually(lambda: all(self.well(client) for client in self.clients))

    def well(self, client: redis.Redis) -> bool:
        said = client.execute_command("CLUSTER INFO")
        return (said["cluster_state"], said["cluster_slots_ok"]) == ("ok", str(SLOTS))

    @contextlib.contextmanager
    def moving(self, key: str, source: int, target: int) -> Iterator[None]:
        """The key's slot is on its way from one node to another within the block, and there after it."""
        slot = key_slot(key.encode())
        here, there = self.clients[source], self.clients[target]
        there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", self.ids[source])
        here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", self.ids[target])
        yield
        while names := here.execute_command("CLUSTER GETKEYSINSLOT", slot, 10):
            here.execute_command("MIGRATE", "127.0.0.1", self.nodes[target].port, "", 0, 5000, "KEYS", *names)
        there.execute_command("CLUSTER SETSLOT", slot, "NODE", self.ids[target])
        here.execute_command("CLUSTER SETSLOT", slot, "NODE", self.ids[target])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        config = {"cluster-enabled": "yes", "cluster-node-timeout": 2000, "cluster-require-full-coverage": "no"}
        buses = [free_port() for _ in range(3)]
        nodes = [stack.enter_context(Embedded(config={**config, "cluster-port": bus})) for bus in buses]
        cluster = Cluster(nodes, buses)
        cluster.form()
        yield cluster
        for client in cluster.clients:
            client.close()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return request.node.name.translate(str.maketrans("", "", "[]{} "))


@pytest.mark.parametrize("node", range(3))
def test_every_verb_works_whichever_node_the_url_names(
    cluster: Cluster, key: str, node: int, capfd: pytest.CaptureFixture[str]
) -> None:
    every_verb_works(cluster.nodes[node].url, key)
    assert "redis_unavailable" not in capfd.readouterr().out  # it is sent on before anything is asked of it
    owner = cluster.clients[cluster.owner(key)]
    assert owner.execute_command("CLUSTER COUNTKEYSINSLOT", key_slot(key.encode())) > 0


def test_a_list_with_a_hash_tag_lives_where_its_tag_says(cluster: Cluster) -> None:
    every_verb_works(cluster.nodes[0].url, "{tag}:of-its-own")
    assert cluster.clients[cluster.owner("tag")].execute_command("CLUSTER COUNTKEYSINSLOT", key_slot(b"tag")) > 0


def test_a_list_that_moves_under_load_is_followed_with_nothing_lost_or_doubled(cluster: Cluster, key: str) -> None:
    source = cluster.owner(key)
    target = (source + 1) % 3
    with Load(cluster.nodes[source].url, key) as load:
        load.more()
        with cluster.moving(key, source, target):
            eventually(lambda: load.producer.outage or load.consumer.outage)
        load.more()
        load.drain()
        assert sorted(load.written) == sorted(set(load.written))
        assert len(load.written) == len(load.acknowledged)
        assert load.producer.books().difference == 0
        assert load.producer.outage is None
    with cluster.moving(key, target, source):
        pass


def test_a_node_that_is_gone_is_no_matter_while_another_has_the_list(cluster: Cluster, key: str) -> None:
    named = (cluster.owner(key) + 1) % 3
    queue = Queue(cluster.nodes[named].url, key)
    queue.publish(lines(1))
    cluster.nodes[named].kill()
    try:
        queue.close()
        queue.publish(lines(2))
        queue.close()
        queue._address.moved(Place("127.0.0.1", cluster.nodes[named].port or 0))  # nobody there: the third one knows
        queue.publish(lines(3))
        assert queue.books().ready == 3
    finally:
        cluster.nodes[named].start()
        eventually(lambda: all(cluster.well(client) for client in cluster.clients))


def test_a_slot_that_nobody_serves_is_waited_for(cluster: Cluster, key: str) -> None:
    owner = cluster.clients[cluster.owner(key)]
    queue = Queue(cluster.nodes[0].url, key)
    queue.publish(lines(1))
    slot = key_slot(key.encode())
    owner.execute_command("CLUSTER DELSLOTS", slot)
    queue.give_up.set()
    with pytest.raises(QueueUnavailable, match="ClusterDown: Hash slot not served"):
        queue.publish(lines(2))
    owner.execute_command("CLUSTER ADDSLOTS", slot)
    queue.give_up.clear()
    queue.publish(lines(3))
    assert queue.books().difference == 0


def test_the_preflight_says_that_it_is_a_cluster_and_how_it_is(cluster: Cluster) -> None:
    assert any(f.level == "ok" and "cluster of 3" in f.message for f in preflight(cluster.nodes[0].url))
    with Embedded(config={"cluster-enabled": "yes", "cluster-port": free_port()}) as alone:
        finding = next(f for f in preflight(alone.url) if "slots" in f.message)
        assert (finding.level, finding.lasting) == ("error", False)


def test_the_preflight_names_a_node_that_would_throw_records_away(cluster: Cluster) -> None:
    cluster.clients[2].config_set("maxmemory-policy", "allkeys-lru")
    (finding,) = [f for f in preflight(cluster.nodes[0].url) if f.level == "error"]
    assert f"node 127.0.0.1:{cluster.nodes[2].port}: maxmemory-policy is allkeys-lru" in finding.message
    cluster.clients[2].config_set("maxmemory-policy", "noeviction")
