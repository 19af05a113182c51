"""A real Redis Cluster on loopback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import redis
from redis.crc import key_slot

from millrace.embedded import Embedded
from tests.conftest import eventually
from tests.integration.ports import free_port

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

    def add_replica(self, node: Embedded, bus: int, primary: int) -> None:
        """Have this node follow a primary."""
        with redis.Redis.from_url(node.url) as client:
            client.execute_command("CLUSTER MEET", "127.0.0.1", self.nodes[0].port, self.buses[0])
            eventually(lambda: self.ids[primary] in str(client.execute_command("CLUSTER NODES")))
            client.execute_command("CLUSTER REPLICATE", self.ids[primary])
            eventually(lambda: client.info("replication").get("master_link_status") == "up")

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


@contextlib.contextmanager
def three_primaries(*, replicas: int = 0) -> Iterator[Cluster]:
    """A cluster for as long as the block lasts, with so many replicas of each primary."""
    with contextlib.ExitStack() as stack:
        config = {"cluster-enabled": "yes", "cluster-node-timeout": 2000, "cluster-require-full-coverage": "no"}
        buses = [free_port() for _ in range(3 + 3 * replicas)]
        nodes = [stack.enter_context(Embedded(config={**config, "cluster-port": bus})) for bus in buses]
        cluster = Cluster(nodes[:3], buses[:3])
        cluster.form()
        for index in range(3, len(nodes)):
            cluster.add_replica(nodes[index], buses[index], index % 3)
        yield cluster
        for client in cluster.clients:
            client.close()
