"""A queue by way of Sentinel: a primary that is killed under load, and what replicas must hold before it counts."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from millrace.embedded import Embedded
from millrace_consumer.runner import Consumer
from millrace_pipeline.errors import ConfigError, QueueMisuse, QueueUnavailable
from millrace_pipeline.flows.flow import load
from millrace_pipeline.process.settings import Settings
from millrace_pipeline.redis.address import Address
from millrace_pipeline.redis.preflight import Finding, preflight
from millrace_producer.runner import Producer
from tests.conftest import eventually
from tests.faults.ways import WAYS, Way
from tests.integration.ports import free_port
from tests.integration.sentinel import NAME, PATIENCE_MS, Sentinel, in_sync, replica_of
from tests.integration.verbs import Load, every_verb_works, lines, taken
from tests.queues import Queue


class Rig:
    """A primary, two replicas and Sentinels that watch over them."""

    def __init__(self, stack: contextlib.ExitStack, *, sentinels: int = 1) -> None:
        self.primary = stack.enter_context(Embedded(config={"repl-diskless-sync-delay": 0}))
        self.replicas = [stack.enter_context(replica_of(self.primary)) for _ in range(2)]
        for replica in self.replicas:
            eventually(lambda replica=replica: in_sync(replica))
        quorum = sentinels // 2 + 1
        self.sentinels = [stack.enter_context(Sentinel(self.primary, quorum=quorum)) for _ in range(sentinels)]
        for sentinel in self.sentinels:
            eventually(lambda sentinel=sentinel: sentinel.knows(2, sentinels - 1))

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{NAME}/0"

    def leader(self) -> Embedded:
        """The server that is the primary now."""
        port = self.sentinels[0].primary_port()
        return next(server for server in (self.primary, *self.replicas) if server.port == port)


@pytest.fixture(scope="module")
def calm() -> Iterator[Rig]:
    """For tests that kill nobody."""
    with contextlib.ExitStack() as stack:
        yield Rig(stack)


def test_every_verb_works_on_the_primary_that_sentinel_names(calm: Rig) -> None:
    every_verb_works(calm.url, "by-sentinel")


def test_every_verb_works_where_each_waits_for_two_replicas(calm: Rig) -> None:
    every_verb_works(calm.url, "replicated", replicas=2)
    with redis.Redis.from_url(calm.replicas[0].url) as client:
        assert client.hget("{replicated}:counters", "published") == b"7"


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_killed_primary_under_load_costs_nothing_that_two_replicas_hold(way: Way) -> None:
    with contextlib.ExitStack() as stack:
        rig = Rig(stack)
        load = stack.enter_context(Load(rig.url, "killed", replicas=2, dedupe=way.dedupe, leads=way.leader))
        load.more()
        rig.sentinels[0].patience(500)
        rig.primary.kill()
        eventually(lambda: rig.leader() is not rig.primary)
        rig.sentinels[0].patience(PATIENCE_MS)
        # One replica leads now, and has one replica left: nothing counts until there are two again.
        eventually(lambda: "of 2 replicas" in (load.producer.outage or ""))
        acknowledged = len(load.acknowledged)
        stack.enter_context(third := replica_of(rig.leader()))
        eventually(lambda: in_sync(third))
        load.more()
        assert len(load.acknowledged) > acknowledged
        load.drain()
        assert load.producer.outage is None
        assert sorted(load.written) == sorted(set(load.written)), "a record was written twice"
        ids = {int(line.split(b'"n":')[1].split(b"}")[0]) for line in load.written}
        assert set(load.acknowledged) <= ids
        assert load.producer.books().difference == 0


def test_a_failover_that_is_asked_for_loses_nothing_and_needs_no_wait() -> None:
    with contextlib.ExitStack() as stack:
        rig = Rig(stack)
        load = stack.enter_context(Load(rig.url, "asked-for"))
        load.more()
        # The primary holds writes back until a replica has all of them.
        rig.sentinels[0].client.execute_command("SENTINEL", "FAILOVER", NAME, "COORDINATED")
        eventually(lambda: rig.leader() is not rig.primary)
        load.more()
        load.drain()
        assert sorted(load.written) == sorted(set(load.written))
        assert len(load.written) == len(load.acknowledged)
        assert load.producer.books().difference == 0


def test_a_publish_that_no_replica_holds_is_waited_for_and_not_published_again(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with (
        Embedded(config={"repl-diskless-sync-delay": 0}) as primary,
        replica_of(primary) as replica,
        redis.Redis.from_url(primary.url) as client,
    ):
        eventually(lambda: in_sync(replica))
        queue = Queue(primary.url, "frozen", replicas=1)
        queue.publish(lines(1))
        os.kill(replica.pid, signal.SIGSTOP)
        done = threading.Event()

        def publish() -> None:
            queue.publish(lines(2, 3))
            done.set()

        threading.Thread(target=publish, daemon=True).start()
        eventually(lambda: queue.outage)
        assert queue.outage == "0 of 1 replicas hold what was written: waiting for the others"
        assert Queue(primary.url, "frozen").books().ready == 3  # it is there, and doesn't count yet
        # WAIT goes by what its connection wrote: a new one, that wrote nothing, must not take it for safe.
        connections = queue.publishing._fence.connection.generation
        client.client_kill_filter(_type="normal", skipme=True)
        eventually(lambda: queue.publishing._fence.connection.generation > connections)
        eventually(lambda: done.is_set() or any(one["cmd"] == "wait" for one in client.client_list()))
        assert not done.is_set()
        os.kill(replica.pid, signal.SIGCONT)
        assert done.wait(15)
        assert queue.outage is None
        assert queue.books().published == queue.books().ready == 3
    said = capfd.readouterr()
    assert (said.out + said.err).count("replicas_missing") == 1


def test_a_producer_that_gives_up_on_replicas_says_so() -> None:
    with Embedded() as primary:
        queue = Queue(primary.url, "alone", replicas=1)
        queue.give_up.set()
        with pytest.raises(QueueUnavailable, match="0 of 1 replicas"):
            queue.publish(lines(1))


def test_a_flow_says_how_many_replicas_its_producer_and_its_consumer_wait_for(tmp_path: Path) -> None:
    flows = tmp_path / "flows.yaml"
    flows.write_text(
        "flows: {s: {source: {type: sse, url: 'http://127.0.0.1:1/'}, queue: {replicas: 1}, sink: {type: stdout}}}"
    )
    flow = load(flows)["s"]
    never, now = threading.Event(), threading.Event()
    now.set()
    with Embedded() as primary:
        Queue(primary.url, flow.queue.key).publish(lines(1))
        with pytest.raises(QueueUnavailable, match="0 of 1 replicas"):
            Producer(flow, primary.url, stopping=never, give_up=now).publishing.publish(lines(2))
        with pytest.raises(QueueUnavailable, match="0 of 1 replicas"):
            Consumer(flow, primary.url, stopping=never, give_up=now).claiming.claim(1)


def test_a_batch_is_handed_out_only_once_replicas_hold_the_claim() -> None:
    """Else a failover puts its records back on the list, and a sink that has them by now gets them in another batch."""
    with Embedded(config={"repl-diskless-sync-delay": 0}) as primary:
        Queue(primary.url, "claimed").publish(lines(1, 2))
        queue = Queue(primary.url, "claimed", replicas=1)
        got = threading.Event()

        def claim() -> None:
            taken(lambda: queue.claim(2))
            got.set()

        threading.Thread(target=claim, daemon=True).start()
        eventually(lambda: queue.outage)
        assert queue.books().in_flight == 2
        assert not got.is_set()
        with replica_of(primary):
            assert got.wait(15)


def test_a_claim_that_a_failover_lost_is_made_again_as_another_batch() -> None:
    with Embedded(config={"repl-diskless-sync-delay": 0}) as primary:
        queue = Queue(primary.url, "lost", replicas=1)
        Queue(primary.url, "lost").publish(lines(1, 2))
        with redis.Redis.from_url(primary.url) as client:
            before = {key: client.dump(key) for key in client.keys("*")}
            claims = []
            thread = threading.Thread(target=lambda: claims.append(queue.claim(2)), daemon=True)
            thread.start()
            eventually(lambda: queue.outage)
            with client.pipeline() as back:  # to what a replica knew that is the primary now
                back.flushdb()
                for key, value in before.items():
                    back.restore(key, 0, value)
                back.execute()
            client.client_kill_filter(_type="normal", skipme=True)
            with replica_of(primary):
                thread.join(15)
        (claim,) = claims
        assert claim.id.endswith("-000002")
        assert len(claim.lines) == 2


class TestAddress:
    def test_a_name_that_sentinel_does_not_know_is_refused(self, calm: Rig) -> None:
        with pytest.raises(QueueMisuse, match="knows no primary called 'other'"):
            Queue(calm.url.replace(NAME, "other"), "k").publish(lines(1))

    def test_a_sentinel_that_is_away_is_passed_over(self, calm: Rig) -> None:
        url = calm.url.replace("127.0.0.1", f"127.0.0.1:{free_port()},127.0.0.1", 1)
        assert Queue(url, "passed-over").publish(lines(1)).lag == 1
        finding = found(preflight(url), "no answer from")
        assert (finding.level, "1 Sentinels" in finding.message) == ("warning", True)

    def test_no_sentinel_at_all_is_an_outage(self) -> None:
        queue = Queue(f"redis+sentinel://127.0.0.1:{free_port()}/{NAME}", "k")
        queue.give_up.set()
        with pytest.raises(QueueUnavailable, match="no Sentinel answers"):
            queue.publish(lines(1))

    def test_a_replica_that_sentinel_still_names_is_not_spoken_to(self, calm: Rig) -> None:
        with Sentinel(calm.replicas[0]) as confused:
            queue = Queue(f"redis+sentinel://127.0.0.1:{confused.port}/{NAME}", "k")
            queue.give_up.set()
            with pytest.raises(QueueUnavailable, match="midst of a failover"):
                queue.books()

    def test_passwords_of_sentinel_and_of_redis_are_two(self) -> None:
        with (
            Embedded(config={"requirepass": "of redis"}) as primary,
            Sentinel(primary, password="of-sentinel", primary_password='"of redis"') as sentinel,
        ):
            url = f"redis+sentinel://:of%20redis@127.0.0.1:{sentinel.port}/{NAME}"
            queue = Queue(f"{url}?sentinel_password=of-sentinel", "two")
            assert queue.publish(lines(1)).lag == 1
            for wrong in (url, f"{url}?sentinel_password=canary"):
                with pytest.raises(QueueMisuse, match="refuses this user") as caught:
                    Queue(wrong, "two").publish(lines(1))
                assert str(caught.value).startswith(f"the Sentinel at 127.0.0.1:{sentinel.port} refuses this user")
                assert "canary" not in str(caught.value)

    @pytest.mark.parametrize(
        "url",
        [
            "redis+sentinel://host:26379",
            "redis+sentinel://host:26379/",
            "redis+sentinel:///name",
            "redis+sentinel://host:port/name",
            "redis+sentinel://host,,other/name",
            "redis+sentinel://host/name/zero",
            "unix+sentinel:///name",
        ],
    )
    def test_an_address_that_is_wrong_is_refused_by_the_settings_and_here(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(QueueMisuse, match="REDIS_URL"):
            Address(url)
        monkeypatch.setenv("REDIS_URL", url)
        with pytest.raises(ConfigError, match="REDIS_URL"):
            Settings.load()

    @pytest.mark.parametrize(
        ("url", "places", "name"),
        [
            ("redis+sentinel://host/name", ["host:26379"], "name"),
            ("rediss+sentinel://me:p%40ss@a:1,b,[::1]:3/na%20me/2", ["a:1", "b:26379", "[::1]:3"], "na me"),
        ],
    )
    def test_an_address_is_read_by_the_settings_and_here(
        self, url: str, places: list[str], name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REDIS_URL", url)
        sentinels = Address(Settings.load().url).sentinels
        assert sentinels is not None
        assert ([str(place) for place in sentinels.places], sentinels.name) == (places, name)

    def test_the_preflight_says_where_the_primary_is(self, calm: Rig) -> None:
        finding = found(preflight(calm.url), "say 1 Sentinels")
        assert finding.level == "ok"
        assert f"127.0.0.1:{calm.primary.port}" in finding.message

    def test_the_preflight_warns_of_a_primary_without_replica(self) -> None:
        with Embedded() as primary, Sentinel(primary) as sentinel:
            findings = preflight(f"redis+sentinel://127.0.0.1:{sentinel.port}/{NAME}")
            assert found(findings, "nothing to fail over to").level == "warning"


def found(findings: list[Finding], words: str) -> Finding:
    return next(finding for finding in findings if words in finding.message)
