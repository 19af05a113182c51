"""A queue on a real Redis Cluster of three nodes: found from any node, and followed when it moves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis.crc import key_slot

from millrace.embedded import Embedded
from millrace_pipeline.errors import QueueUnavailable
from millrace_pipeline.redis.nodes import Place
from millrace_pipeline.redis.preflight import preflight
from tests.conftest import eventually
from tests.integration.cluster import Cluster, three_primaries
from tests.integration.ports import free_port
from tests.integration.verbs import Load, every_verb_works, lines
from tests.queues import Queue


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with three_primaries() as cluster:
        yield cluster


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
        queue.close_all()
        queue.publish(lines(2))
        queue.close_all()
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
