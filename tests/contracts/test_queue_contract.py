"""What the queue promises, on a real server: every verb, twice where a reply may be lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import redis

from millrace.embedded import Embedded
from millrace_pipeline.envelope import DeadLetter, Record, encode
from millrace_pipeline.errors import (
    LONGEST_DELAY_SECONDS,
    LeaseLost,
    ProducerFenced,
    PublishesLost,
    QueueMisuse,
    QueueUnavailable,
    RetryLater,
    SinkUnavailable,
)
from millrace_pipeline.moment import now
from millrace_pipeline.queue import Claim, DeadLetters, Done
from millrace_pipeline.queue.ahead import DEEPER, Ahead
from millrace_pipeline.queue.changes import By
from millrace_pipeline.queue.delaying import rounded_up
from millrace_pipeline.queue.fence import Fence
from millrace_pipeline.queue.pausing import pause, resume
from millrace_pipeline.redis.connection import Command, Connection
from tests.conftest import eventually
from tests.faults.faulty import FaultyQueue
from tests.faults.proxy import Proxy
from tests.queues import Queue


def lines(*numbers: int, mark: str | None = None) -> list[bytes]:
    return [encode(Record({"n": n}), id=str(n), source="test", time=now(), mark=mark) for n in numbers]


@pytest.fixture
def proxy(redis_url: str) -> Iterator[Proxy]:
    place = urlsplit(redis_url)
    with Proxy(place.hostname or "127.0.0.1", place.port or 6379) as proxy:
        yield proxy


@pytest.fixture
def remote(proxy: Proxy, redis_url: str, key: str) -> Iterator[Queue]:
    """The same list, by way of the proxy."""
    place = urlsplit(redis_url)
    userinfo, at, _ = place.netloc.rpartition("@")
    queue = Queue(place._replace(netloc=f"{userinfo}{at}127.0.0.1:{proxy.port}").geturl(), key, lease_seconds=30)
    yield queue
    queue.close_all()


def taken(claim: Claim | None) -> Claim:
    assert claim is not None
    return claim


def assert_balanced(queue: Queue) -> None:
    assert queue.books().difference == 0, queue.books()


class TestPublish:
    def test_records_are_claimed_in_the_order_they_were_published(self, queue: Queue) -> None:
        queue.publish(lines(1, 2))
        queue.publish(lines(3))
        claim = queue.claim(10)
        assert claim is not None
        assert [b'"n":%d' % n in line for n, line in zip((1, 2, 3), claim.lines, strict=True)] == [True] * 3

    def test_the_list_holds_readable_json_under_its_own_name(self, queue: Queue, client: redis.Redis, key: str) -> None:
        queue.publish(lines(7))
        assert client.llen(key) == 1
        assert b'"data":{"n":7}' in client.lrange(key, 0, 0)[0]

    def test_the_checkpoint_moves_with_the_records(self, queue: Queue) -> None:
        assert queue.checkpoint("stream") is None
        queue.publish(lines(1), checkpoint=("stream", [{"offset": 5}]))
        assert queue.checkpoint("stream") == [{"offset": 5}]
        queue.publish([], checkpoint=("stream", "later"))
        assert queue.checkpoint("stream") == "later"

    def test_the_lag_counts_what_is_ready_and_in_flight(self, queue: Queue) -> None:
        assert queue.publish(lines(1, 2, 3)).lag == 3
        queue.claim(2)
        assert queue.publish(lines(4)).lag == 4
        assert queue.lag() == 4

    def test_a_dead_letter_of_a_producer_keeps_its_exact_bytes(self, queue: Queue, client: redis.Redis) -> None:
        queue.publish(lines(1), dead=[DeadLetter(b"\xff\x00 {", "not UTF-8")])
        ((_, letter),) = client.xrange(queue.keys.dead)
        assert letter[b"record"] == b"\xff\x00 {"
        assert letter[b"reason"] == b"not UTF-8"
        assert queue.books().published == 2
        assert_balanced(queue)

    def test_a_lost_reply_does_not_double_a_publish(self, remote: Queue, proxy: Proxy) -> None:
        remote.publish(lines(1))
        lost = proxy.lose_reply_to(b"EXEC")
        remote.publish(lines(2, 3), checkpoint=("stream", 3))
        assert lost.is_set()
        assert remote.publish(lines(4)).lag == 4
        claim = remote.claim(10)
        assert claim is not None
        assert len(claim.lines) == 4
        assert_balanced(remote)

    def test_a_cut_before_the_publish_does_not_lose_it(self, remote: Queue, proxy: Proxy) -> None:
        remote.publish(lines(1))
        proxy.cut()
        remote.publish(lines(2))
        assert remote.books().published == remote.books().ready == 2

    def test_a_publish_that_arrives_late_is_not_applied(self, queue: Queue, client: redis.Redis) -> None:
        """The first connection's transaction is held up on its way; meanwhile the publish was settled on another."""
        queue.publish(lines(1))
        late = queue.publishing._fence.connection
        commands = queue.publishing._transaction(2, lines(2), (), None)
        queue.publishing._fence = Fence(Connection(queue._address), queue.keys, queue.key)
        queue.publish(lines(2))
        replies = late.exchange(*commands, ("EXEC",))
        assert replies[-1] is None
        assert client.llen(queue.keys.ready) == 2
        assert_balanced(queue)

    @pytest.mark.parametrize("seen_seconds", [0, 60])
    def test_a_leader_that_was_replaced_is_fenced_whatever_it_says_first(
        self, remote: Queue, queue: Queue, proxy: Proxy, seen_seconds: float
    ) -> None:
        """With dedupe the first words on the new connection are not the transaction's."""
        assert remote.lead(0.01) == 0
        remote.publish(lines(1), ids=["1"], seen_seconds=seen_seconds, checkpoint=("s", 1))
        eventually(lambda: queue.lead(60) == 0)
        queue.publish(lines(2), ids=["2"], seen_seconds=seen_seconds, checkpoint=("s", 2))
        proxy.cut()
        with pytest.raises(ProducerFenced):
            remote.publish(lines(3), ids=["3"], seen_seconds=seen_seconds, checkpoint=("s", 3))
        assert queue.checkpoint("s") == 2
        assert queue.books().published == 2

    @pytest.mark.parametrize("seen_seconds", [0, 60])
    def test_publishes_that_redis_forgot_are_told_whatever_is_said_first(
        self, remote: Queue, queue: Queue, proxy: Proxy, seen_seconds: float
    ) -> None:
        for number in (1, 2, 3):
            remote.publish(lines(number), ids=[str(number)], seen_seconds=seen_seconds, checkpoint=("s", number))
        queue.ask(("HSET", remote.keys.session(remote.id), "published", 1))
        proxy.cut()
        with pytest.raises(PublishesLost, match="the last 2 publishes"):
            remote.publish(lines(4), ids=["4"], seen_seconds=seen_seconds, checkpoint=("s", 4))
        assert queue.books().published == 3
        assert remote.publish(lines(4), ids=["4"], seen_seconds=seen_seconds, checkpoint=("s", 4)).records == 1

    def test_a_key_published_within_the_window_is_left_out(self, queue: Queue) -> None:
        assert queue.publish(lines(1, 2), ids=["1", "2"], seen_seconds=60).records == 2
        again = queue.publish(lines(2, 3, 3), ids=["2", "3", "3"], seen_seconds=60)
        assert (again.records, again.duplicates) == (1, 2)
        assert queue.books().published == queue.books().ready == 3

    def test_two_producers_publish_the_same_key_once(self, redis_url: str, key: str) -> None:
        queues = [Queue(redis_url, key) for _ in range(4)]
        start = threading.Barrier(4)

        def publish(queue: Queue) -> None:
            start.wait()
            for n in range(50):
                queue.publish(lines(n), ids=[str(n)], seen_seconds=60)

        threads = [threading.Thread(target=publish, args=(queue,)) for queue in queues]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert queues[0].books().published == queues[0].books().ready == 50

    def test_keys_are_forgotten_after_the_window(self, queue: Queue, client: redis.Redis) -> None:
        queue.publish(lines(1), ids=["1"], seen_seconds=0.05)
        eventually(lambda: queue.publish(lines(1), ids=["1"], seen_seconds=0.05).records == 1)
        queue.publish([], seen_seconds=0.05)
        eventually(lambda: queue.publish([], seen_seconds=0.05) and client.zcard(queue.keys.seen) == 0)

    def test_a_key_of_another_type_is_refused_by_name(self, queue: Queue, client: redis.Redis, key: str) -> None:
        client.set(key, "somebody's string")
        with pytest.raises(QueueMisuse, match="WRONGTYPE"):
            queue.publish(lines(1))


class TestClaim:
    def test_an_empty_list_gives_nothing(self, queue: Queue) -> None:
        assert queue.claim(10) is None
        assert queue.reclaim() is None

    def test_a_claim_takes_the_oldest_and_leaves_the_rest(self, queue: Queue, client: redis.Redis, key: str) -> None:
        queue.publish(lines(1, 2, 3))
        claim = queue.claim(2)
        assert claim is not None
        assert [b'"n":1' in claim.lines[0], b'"n":2' in claim.lines[1]] == [True, True]
        assert client.llen(key) == 1
        assert_balanced(queue)

    def test_a_lost_reply_gives_the_same_batch_again(self, remote: Queue, proxy: Proxy) -> None:
        remote.publish(lines(1, 2, 3))
        lost = proxy.lose_reply_to(b"EVALSHA")
        claim = remote.claim(2)
        assert lost.is_set()
        assert claim is not None
        assert len(claim.lines) == 2
        assert remote.books().in_flight == 2
        assert remote.books().ready == 1

    def test_a_waiting_consumer_is_woken_by_the_first_record(self, queue: Queue, redis_url: str, key: str) -> None:
        other = Queue(redis_url, key)
        woken = threading.Event()

        def wait() -> None:
            while (claim := other.claim(10)) is None:
                other.wait(5)
            other.ack(claim, delivered=len(claim.lines))
            woken.set()

        threading.Thread(target=wait, daemon=True).start()
        eventually(lambda: queue.ask(("CLIENT", "LIST"))[0].count(b"cmd=blmove") >= 1)
        queue.publish(lines(1))
        assert woken.wait(2)
        assert queue.books().delivered == 1
        assert_balanced(queue)

    def test_a_record_that_woke_a_consumer_which_then_died_goes_to_the_next(self, queue: Queue) -> None:
        queue.publish(lines(1, 2))
        queue.wait(1)
        assert queue.books().ready == 2
        claim = queue.claim(10)
        assert claim is not None
        assert [b'"n":1' in claim.lines[0], b'"n":2' in claim.lines[1]] == [True, True]

    def test_records_come_out_once_however_many_claim_at_once(self, queue: Queue, redis_url: str, key: str) -> None:
        for start in range(0, 2000, 100):
            queue.publish(lines(*range(start, start + 100)))
        taken: list[bytes] = []

        def drain() -> None:
            mine = Queue(redis_url, key)
            while claim := mine.claim(37):
                taken.extend(claim.lines)
                mine.ack(claim, delivered=len(claim.lines))

        threads = [threading.Thread(target=drain) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == len(set(taken)) == 2000
        assert_balanced(queue)


class TestFill:
    def test_a_lingering_batch_is_topped_up_in_order(self, queue: Queue) -> None:
        queue.publish(lines(1))
        claim = queue.claim(10)
        assert claim is not None
        queue.publish(lines(2, 3))
        assert queue.fill(claim, 9) == 2
        assert queue.fill(claim, 9) == 0
        assert [b'"n":%d' % n in line for n, line in zip((1, 2, 3), claim.lines, strict=True)] == [True] * 3
        queue.ack(claim, delivered=3)
        assert_balanced(queue)

    def test_a_lost_reply_does_not_fill_twice(self, remote: Queue, proxy: Proxy) -> None:
        remote.publish(lines(1))
        claim = remote.claim(1)
        assert claim is not None
        remote.publish(lines(2, 3, 4))
        proxy.lose_reply_to(b"EVALSHA")
        assert remote.fill(claim, 2) == 2
        assert remote.books().in_flight == 3
        assert remote.books().ready == 1

    @pytest.mark.parametrize("paused", [True, False])
    def test_a_fill_that_found_nothing_takes_nothing_where_its_twin_arrives_late(
        self, redis_url: str, key: str, paused: bool
    ) -> None:
        """Whoever holds the batch would never hear of the record, and its ack would be refused after it had written."""
        queue = FaultyQueue(redis_url, key)
        queue.publish(lines(1))
        claim = taken(queue.claim(1))
        if paused:
            queue.publish(lines(2))
            pause(queue, ["consumers"], by=By("operator", "somebody", "here"))
        queue.suffer(["late"])
        assert queue.fill(claim, 9) == 0
        if paused:
            resume(queue, by=By("operator", "somebody", "here"))
        else:
            queue.publish(lines(2))
        queue.arrive()
        assert queue.books().ready == 1
        queue.ack(claim, delivered=1)
        assert queue.fill(taken(queue.claim(1)), 1) == 0
        queue.close_all()

    def test_a_batch_that_was_taken_over_is_not_filled(self, redis_url: str, key: str) -> None:
        first, second = Queue(redis_url, key, lease_seconds=0.01), Queue(redis_url, key)
        first.publish(lines(1, 2))
        claim = first.claim(1)
        assert claim is not None
        eventually(second.reclaim)
        with pytest.raises(LeaseLost):
            first.fill(claim, 1)
        assert second.books().ready == 1

    @pytest.mark.parametrize("verb", ["fill", "delay", "ack", "settle"])
    def test_a_batch_whose_last_fill_redis_has_forgotten_is_lost(
        self, queue: Queue, client: redis.Redis, verb: str
    ) -> None:
        """Whatever is said of it next: what it holds beyond that is on the list again, for others."""
        queue.publish(lines(1, 2, 3, 4))
        claim = taken(queue.claim(1))
        before = {name: client.dump(name) for name in client.scan_iter(match=f"*{queue.keys.ready}*")}
        assert queue.fill(claim, 1) == 1
        for name in client.scan_iter(match=f"*{queue.keys.ready}*"):
            client.delete(name)
        for name, dumped in before.items():
            client.restore(name, 0, dumped)  # type: ignore[arg-type]
        said: dict[str, Callable[[], object]] = {
            "fill": lambda: queue.fill(claim, 2),
            "delay": lambda: queue.delay(claim, {1: RetryLater(1)}),
            "ack": lambda: queue.ack(claim, delivered=2),
            "settle": lambda: queue.settle([Done(claim, 2, 2)], name="r"),
        }
        with pytest.raises(LeaseLost):
            said[verb]()
        books = queue.books()
        assert (books.ready, books.in_flight, books.delayed, books.delivered) == (3, 1, 0, 0)


class TestLease:
    def test_a_batch_keeps_its_id_and_records_when_it_is_reclaimed(self, redis_url: str, key: str) -> None:
        first, second = Queue(redis_url, key, lease_seconds=0.01), Queue(redis_url, key)
        first.publish(lines(1, 2))
        mine = first.claim(1)
        assert mine is not None
        first.fill(mine, 1)
        theirs = None

        def taken() -> bool:
            nonlocal theirs
            theirs = second.reclaim()
            return theirs is not None

        eventually(taken)
        assert theirs is not None
        assert (theirs.id, theirs.lines, theirs.attempts) == (mine.id, mine.lines, 2)
        with pytest.raises(LeaseLost):
            first.ack(mine, delivered=2)
        with pytest.raises(LeaseLost):
            first.renew(mine)
        second.ack(theirs, delivered=2)
        assert second.books().delivered == 2
        assert_balanced(second)

    def test_a_lease_that_is_renewed_is_not_taken_over(self, redis_url: str, key: str) -> None:
        first, second = Queue(redis_url, key, lease_seconds=30), Queue(redis_url, key)
        first.publish(lines(1))
        claim = first.claim(1)
        assert claim is not None
        first.renew(claim)
        assert second.reclaim() is None

    def test_one_of_many_gets_an_overdue_batch(self, redis_url: str, key: str) -> None:
        dead = Queue(redis_url, key, lease_seconds=0.01)
        dead.publish(lines(1))
        dead.claim(1)
        eventually(lambda: dead.books().leases[0].seconds_left < 0)
        queues = [Queue(redis_url, key) for _ in range(8)]
        got: list[object] = []
        start = threading.Barrier(8)

        def reclaim(queue: Queue) -> None:
            start.wait()
            got.append(queue.reclaim())

        threads = [threading.Thread(target=reclaim, args=(queue,)) for queue in queues]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(claim is not None for claim in got) == 1

    def test_a_lost_reply_to_reclaim_gives_the_same_batch_and_one_attempt(
        self, remote: Queue, proxy: Proxy, redis_url: str, key: str
    ) -> None:
        dead = Queue(redis_url, key, lease_seconds=0.01)
        dead.publish(lines(1, 2))
        dead.claim(1)
        dead.claim(1)
        eventually(lambda: all(lease.seconds_left < 0 for lease in dead.books().leases))
        remote.lag()
        proxy.lose_reply_to(b"EVALSHA")
        claim = remote.reclaim()
        assert claim is not None
        assert claim.attempts == 2
        assert sorted(lease.attempts for lease in dead.books().leases) == [1, 2]

    def test_a_released_batch_goes_to_the_next_at_once_without_counting_the_attempt(
        self, queue: Queue, redis_url: str, key: str
    ) -> None:
        queue.publish(lines(1))
        mine = queue.claim(1)
        assert mine is not None
        queue.release(mine)
        theirs = Queue(redis_url, key).reclaim()
        assert theirs is not None
        assert (theirs.id, theirs.attempts) == (mine.id, 1)


class TestClaimAhead:
    """A batch that is asked for while the one before it is still in hand."""

    @staticmethod
    def two(queue: Queue) -> Claim:
        """Claims the first of two batches, and the second ahead."""
        queue.publish(lines(1, 2, 3, 4))
        claim = queue.claim(2)
        assert claim is not None
        queue.claim_ahead(2)
        return claim

    def test_the_next_claim_is_the_batch_that_was_claimed_ahead(self, queue: Queue) -> None:
        first = self.two(queue)
        eventually(lambda: queue.books().ready == 0)
        queue.ack(first, delivered=2)
        second = queue.claim(1)
        assert second is not None
        assert [b'"n":%d' % n in line for n, line in zip((3, 4), second.lines, strict=True)] == [True] * 2
        queue.ack(second, delivered=2)
        assert queue.books().delivered == 4
        assert_balanced(queue)

    def test_on_an_empty_list_there_is_none_and_later_ones_come(self, queue: Queue) -> None:
        queue.claim_ahead(5)
        assert queue.claim(5) is None
        queue.publish(lines(1))
        claim = queue.claim(5)
        assert claim is not None
        assert len(claim.lines) == 1

    def test_no_attempt_is_counted_until_it_is_begun(self, queue: Queue) -> None:
        first = self.two(queue)
        eventually(lambda: len(queue.books().leases) == 2)
        assert sorted(lease.attempts for lease in queue.books().leases) == [0, 1]
        second = queue.claim(2)
        assert second is not None
        assert not second.begun
        queue.ack(first, delivered=2, begin=second)
        assert second.begun
        assert [lease.attempts for lease in queue.books().leases] == [1]

    def test_begun_without_an_ack_before_it_counts_its_attempt_once(self, queue: Queue) -> None:
        first = self.two(queue)
        second = queue.claim(2)
        assert second is not None
        for _ in range(2):
            second.begun = False
            queue.begin(second)
        assert {lease.batch: lease.attempts for lease in queue.books().leases} == {first.id: 1, second.id: 1}

    def test_who_dies_with_it_leaves_it_to_the_next_as_a_first_attempt(
        self, queue: Queue, redis_url: str, key: str
    ) -> None:
        dead = Queue(redis_url, key, lease_seconds=0.01)
        self.two(dead)
        eventually(lambda: len(queue.books().leases) == 2 and all(x.seconds_left < 0 for x in queue.books().leases))
        claims = [queue.reclaim(), queue.reclaim()]
        assert sorted(claim.attempts for claim in claims if claim) == [1, 2]

    def test_a_lost_connection_loses_no_batch(self, remote: Queue, proxy: Proxy) -> None:
        first = self.two(remote)
        eventually(lambda: remote.books().ready == 0)
        proxy.cut()
        remote.ack(first, delivered=2)
        second = remote.claim(2)
        assert second is not None
        assert len(second.lines) == 2
        remote.begin(second)
        assert {lease.batch: lease.attempts for lease in remote.books().leases} == {second.id: 1}

    @pytest.mark.parametrize("reply", ["first", "second"])
    def test_a_lost_reply_claims_no_second_batch(self, remote: Queue, proxy: Proxy, reply: str) -> None:
        remote.publish(lines(1, 2, 3, 4, 5, 6))
        first = remote.claim(2)
        assert first is not None
        proxy.lose_reply_to(b"EVALSHA")
        if reply == "first":
            remote.claim_ahead(2)
            remote.ack(first, delivered=2)
        else:
            remote.ack(first, delivered=2)
            remote.claim_ahead(2)
        assert remote.claim(2) is not None
        assert remote.books().in_flight == 2
        assert_balanced(remote)

    def test_given_back_it_goes_to_the_next_with_its_id(self, queue: Queue, redis_url: str, key: str) -> None:
        first = self.two(queue)
        queue.release_ahead()
        assert not len(queue.claiming.ahead)
        theirs = Queue(redis_url, key).reclaim()
        assert theirs is not None
        assert theirs.id != first.id
        assert theirs.attempts == 1
        queue.publish(lines(5))
        mine = queue.claim(1)
        assert mine is not None
        assert b'"n":5' in mine.lines[0]

    def test_renewed_it_stays_ours(self, redis_url: str, key: str) -> None:
        queue = Queue(redis_url, key, lease_seconds=30)
        self.two(queue)
        eventually(lambda: len(queue.books().leases) == 2)
        before = min(lease.seconds_left for lease in queue.books().leases)
        eventually(lambda: min(lease.seconds_left for lease in queue.books().leases) < before - 0.1)
        first, ahead = sorted(queue.books().leases, key=lambda lease: lease.batch)
        queue.keep_ahead()
        renewed = {lease.batch: lease.seconds_left for lease in queue.books().leases}
        assert renewed[ahead.batch] > renewed[first.batch]

    @pytest.mark.parametrize("of_each", [Ahead.keep, Ahead.give_back])
    def test_all_that_is_ahead_is_kept_or_given_back_in_one_exchange(
        self, of_each: Callable[[Ahead], None], redis_url: str, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queue = Queue(redis_url, key)
        queue.claiming.ahead.depth = 5  # as after a wait for Redis' disk
        queue.publish(lines(*range(10)))
        queue.claim_ahead(2)
        exchanges: list[int] = []
        exchange = Connection.exchange

        def counted(self: Connection, *commands: Command) -> list[object]:
            exchanges.append(len(commands))
            return exchange(self, *commands)

        monkeypatch.setattr(Connection, "exchange", counted)
        of_each(queue.claiming.ahead)
        assert exchanges == [5]

    def test_who_has_to_wait_for_the_disk_claims_more_ahead_before(self, key: str) -> None:
        with Embedded(aof=True) as server:
            queue = Queue(server.url, key, fsync="write")
            queue.publish(lines(*range(10)))
            claim = taken(queue.claim(1))
            queue.claim_ahead(1)
            queue.secure(claim)
            assert len(queue.books().leases) == 1 + DEEPER
            queue.close_all()

    def test_one_that_is_closed_while_redis_is_away_waits_for_it_no_longer(self, key: str) -> None:
        with Embedded(aof=True) as server:
            queue = Queue(server.url, key, fsync="write")
            queue.publish(lines(1))
            taken(queue.claim(1))
            watching = {one for one in threading.enumerate() if one.name == f"disk {queue.keys.ready}"}
            assert watching
            server.kill()
            eventually(lambda: queue.outage)
            queue.close_all()
            eventually(lambda: not any(one.is_alive() for one in watching))

    @pytest.mark.parametrize("look", ["publishes_on_disk", "publishes_known"])
    def test_who_confirms_publishes_waits_no_longer_for_a_redis_that_is_away_once_told(
        self, key: str, look: str
    ) -> None:
        stop = threading.Event()
        with Embedded(aof=True) as server:
            queue = Queue(server.url, key)
            queue.publish(lines(1))
            server.kill()
            threading.Timer(0.2, stop.set).start()
            with pytest.raises(QueueUnavailable):
                getattr(queue, look)(stop)
        assert stop.is_set()
        queue.close_all()

    def test_taken_over_while_it_waited_it_cannot_be_begun(
        self, queue: Queue, client: redis.Redis, redis_url: str, key: str
    ) -> None:
        first = self.two(queue)
        second = queue.claim(2)
        assert second is not None
        client.zadd(queue.keys.leases, {second.id: 1})
        theirs = Queue(redis_url, key).reclaim()
        assert theirs is not None
        assert theirs.id == second.id
        queue.ack(first, delivered=2, begin=second)
        with pytest.raises(LeaseLost):
            queue.begin(second)
        assert [lease.attempts for lease in queue.books().leases] == [1]


class TestSplit:
    def test_the_halves_hold_the_same_records_and_go_to_the_next(self, queue: Queue, redis_url: str, key: str) -> None:
        queue.publish(lines(1, 2, 3))
        claim = queue.claim(2)
        assert claim is not None
        queue.fill(claim, 1)
        queue.split(claim, attempts=2)
        assert_balanced(queue)
        other = Queue(redis_url, key)
        halves = [other.reclaim(), other.reclaim()]
        assert [half and half.id for half in halves] == [f"{claim.id}a", f"{claim.id}b"]
        assert [half and half.attempts for half in halves] == [3, 3]
        assert [line for half in halves if half for line in half.lines] == claim.lines
        for half in halves:
            assert half is not None
            other.ack(half, delivered=len(half.lines))
        assert queue.books().delivered == 3
        assert_balanced(queue)

    def test_a_lost_reply_does_not_split_again(self, remote: Queue, proxy: Proxy) -> None:
        remote.publish(lines(1, 2, 3, 4))
        claim = remote.claim(4)
        assert claim is not None
        proxy.lose_reply_to(b"EVALSHA")
        remote.split(claim, attempts=2)
        assert sorted(lease.records for lease in remote.books().leases) == [2, 2]
        assert_balanced(remote)

    def test_a_batch_that_was_taken_over_is_not_split(self, queue: Queue, redis_url: str, key: str) -> None:
        queue.publish(lines(1, 2))
        claim = queue.claim(2)
        assert claim is not None
        queue.release(claim)
        assert Queue(redis_url, key).reclaim() is not None
        with pytest.raises(LeaseLost):
            queue.split(claim, attempts=2)


class TestDelay:
    def test_records_that_are_put_off_leave_the_batch_and_come_again_with_their_time(
        self, queue: Queue, client: redis.Redis
    ) -> None:
        queue.publish(lines(*range(6)))
        claim = taken(queue.claim(2))
        queue.fill(claim, 4)
        before = list(claim.lines)
        queue.delay(claim, {0: RetryLater(5, "busy"), 3: RetryLater(600), 4: RetryLater(4.2)})
        assert claim.lines == [before[1], before[2], before[5]]
        assert [line for part in queue.keys.parts(claim.id, 2) for line in client.lrange(part, 0, -1)] == claim.lines
        books = queue.books()
        assert (books.in_flight, books.delayed, books.lag, books.difference) == (3, 3, 6, 0)
        delayed = [lease for lease in books.leases if lease.delayed]
        assert sorted((lease.records, round(lease.seconds_left), lease.note) for lease in delayed) == [
            (1, 640, "again after 600 s"),
            (2, 5, "busy"),
        ]
        queue.ack(claim, delivered=3)
        assert queue.reclaim() is None
        soon = min(delayed, key=lambda lease: lease.seconds_left)
        client.zadd(queue.keys.leases, {soon.batch: 1})
        again = taken(queue.reclaim())
        assert (again.id, again.lines, again.attempts, again.unseen) == (soon.batch, [before[0], before[4]], 2, True)
        assert queue.books().delayed == 1
        queue.ack(again, delivered=2)
        assert_balanced(queue)

    def test_a_batch_of_which_all_is_put_off_is_gone(self, queue: Queue, client: redis.Redis) -> None:
        queue.publish(lines(1, 2))
        claim = taken(queue.claim(2))
        queue.delay(claim, {0: RetryLater(1), 1: RetryLater(9)})
        assert claim.lines == []
        assert not client.hexists(queue.keys.claims, claim.id)
        assert not client.exists(queue.keys.batch(claim.id))
        assert [lease.records for lease in queue.books().leases] == [1, 1]
        with pytest.raises(LeaseLost):
            queue.renew(claim)
        assert_balanced(queue)

    def test_a_lost_reply_does_not_put_off_others(self, remote: Queue, proxy: Proxy) -> None:
        remote.publish(lines(*range(4)))
        claim = taken(remote.claim(4))
        before = list(claim.lines)
        proxy.lose_reply_to(b"EVALSHA")
        remote.delay(claim, {1: RetryLater(60)})
        assert claim.lines == [before[0], before[2], before[3]]
        assert (remote.books().in_flight, remote.books().delayed) == (3, 1)
        assert_balanced(remote)

    def test_of_a_batch_that_was_taken_over_nothing_is_put_off(self, queue: Queue, redis_url: str, key: str) -> None:
        queue.publish(lines(*range(3)))
        claim = taken(queue.claim(3))
        queue.release(claim)
        other = Queue(redis_url, key)
        again = taken(other.reclaim())
        assert not again.unseen
        with pytest.raises(LeaseLost):
            queue.delay(claim, {1: RetryLater(60)})
        assert (queue.books().in_flight, queue.books().delayed) == (3, 0)
        other.close_all()

    def test_one_that_dies_with_what_was_put_off_leaves_it_as_one_that_a_sink_may_have(
        self, queue: Queue, client: redis.Redis
    ) -> None:
        queue.publish(lines(1))
        queue.delay(taken(queue.claim(1)), {0: RetryLater(1)})
        for unseen in (True, False):
            (lease,) = queue.books().leases
            client.zadd(queue.keys.leases, {lease.batch: 1})
            assert taken(queue.reclaim()).unseen is unseen

    def test_delays_and_deaths_of_a_batch_are_told_apart(self, queue: Queue, client: redis.Redis) -> None:
        queue.publish(lines(1, 2))
        queue.delay(taken(queue.claim(2)), {0: RetryLater(1, "busy"), 1: RetryLater(1, "busy")})

        def again() -> Claim:
            for lease in queue.books().leases:
                client.zadd(queue.keys.leases, {lease.batch: 1})
            return taken(queue.reclaim())

        assert [(claim.delays, claim.deaths, claim.why) for claim in (again(), again())] == [
            (1, 0, "busy"),
            (1, 1, "busy"),
        ]
        queue.put_off(again(), RetryLater(1, "still busy"))
        third = again()
        assert (third.attempts, third.delays, third.deaths, third.why) == (5, 2, 2, "still busy")
        queue.split(third, attempts=4)
        half = again()
        assert (half.delays, half.why) == (2, "still busy")

    def test_put_off_whole_a_batch_keeps_its_id_and_its_attempt_counts(self, queue: Queue, client: redis.Redis) -> None:
        queue.publish(lines(1, 2))
        claim = taken(queue.claim(2))
        queue.put_off(claim, RetryLater(30, "the lookup is down"))
        (lease,) = queue.books().leases
        assert (lease.batch, lease.delayed, lease.note, lease.records) == (claim.id, True, "the lookup is down", 2)
        assert queue.reclaim() is None
        client.zadd(queue.keys.leases, {claim.id: 1})
        again = taken(queue.reclaim())
        assert (again.id, again.lines, again.attempts, again.unseen) == (claim.id, claim.lines, 2, False)

    def test_delays_are_rounded_up_to_few(self) -> None:
        assert [rounded_up(seconds) for seconds in (0, 0.2, 1, 7.5, 8, 17, 60, 61, 3600)] == [
            *(1, 1, 1, 8, 8, 18, 60, 64, 3840),
        ]
        month = range(1, LONGEST_DELAY_SECONDS, 997)
        assert all(0 <= rounded_up(seconds) - seconds <= seconds / 8 + 1 for seconds in month)
        assert len({rounded_up(seconds) for seconds in month}) < 150

    @pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), LONGEST_DELAY_SECONDS + 1])
    def test_a_delay_that_is_none_is_refused(self, seconds: float) -> None:
        with pytest.raises(ValueError, match="expected 0 to 2,678,400 seconds"):
            RetryLater(seconds)


class TestAck:
    def test_the_ack_moves_dead_letters_and_counters_in_one_step(self, queue: Queue, client: redis.Redis) -> None:
        queue.publish(lines(1, 2, 3))
        client.lpush(queue.keys.ready, b"\xff\xfe")
        claim = queue.claim(10)
        assert claim is not None
        dead = [DeadLetter(claim.lines[3], "not UTF-8")]
        queue.ack(claim, delivered=2, filtered=1, foreign=1, dead=dead)
        books = queue.books()
        assert (books.delivered, books.filtered, books.foreign, books.dead, books.in_flight) == (2, 1, 1, 1, 0)
        ((_, letter),) = client.xrange(queue.keys.dead)
        assert letter[b"record"] == b"\xff\xfe"
        assert_balanced(queue)
        assert client.keys(f"*{queue.keys.ready}*batch*") == []

    def test_a_lost_reply_does_not_count_twice(self, remote: Queue, proxy: Proxy) -> None:
        remote.publish(lines(1, 2))
        claim = remote.claim(2)
        assert claim is not None
        proxy.lose_reply_to(b"EVALSHA")
        remote.ack(claim, delivered=1, dead=[DeadLetter(claim.lines[1], "bad")])
        books = remote.books()
        assert (books.delivered, books.dead) == (1, 1)
        assert_balanced(remote)

    def test_what_a_sink_writes_to_this_redis_is_written_with_the_ack_and_once(
        self, remote: Queue, proxy: Proxy, client: redis.Redis, key: str
    ) -> None:
        remote.publish(lines(1, 2))
        claim = remote.claim(2)
        assert claim is not None
        list_, stream, hash_ = f"{{{key}}}:out", f"{{{key}}}:stream", f"{{{key}}}:hash"
        writes = [
            ("RPUSH", list_, *range(900)),
            ("LPUSH", list_, b"\xff"),
            ("XADD", stream, "*", "a", 1),
            ("HSET", hash_, "f", "v"),
        ]
        proxy.lose_reply_to(b"EVALSHA")
        remote.ack(claim, delivered=1, dead=[DeadLetter(claim.lines[1], "bad")], writes=writes)
        assert (client.llen(list_), client.lindex(list_, 0)) == (901, b"\xff")
        assert [fields for _, fields in client.xrange(stream)] == [{b"a": b"1"}]
        assert client.hgetall(hash_) == {b"f": b"v"}
        assert (remote.books().delivered, remote.books().dead) == (1, 1)
        assert_balanced(remote)

    @pytest.mark.parametrize("command", [("LPUSH", "x"), ("RPUSH", "x"), ("XADD", "*", "f", "x"), ("HSET", "f", "x")])
    def test_a_key_that_holds_something_else_leaves_the_batch_and_all_other_keys_as_they_were(
        self, queue: Queue, client: redis.Redis, key: str, command: tuple[str, ...]
    ) -> None:
        queue.publish(lines(1))
        claim = queue.claim(1)
        assert claim is not None
        client.set(f"{{{key}}}:out", "a string")
        writes = [("RPUSH", f"{{{key}}}:other", "y"), (command[0], f"{{{key}}}:out", *command[1:])]
        with pytest.raises(SinkUnavailable, match=f"WRONGTYPE.*{command[0]}.*out"):
            queue.ack(claim, delivered=1, writes=writes)
        assert not client.exists(f"{{{key}}}:other")
        assert queue.books().in_flight == 1
        client.delete(f"{{{key}}}:out")
        queue.ack(claim, delivered=1, writes=writes)
        assert client.exists(f"{{{key}}}:other", f"{{{key}}}:out") == 2
        assert_balanced(queue)

    def test_who_lost_the_lease_writes_nothing(self, redis_url: str, key: str, client: redis.Redis) -> None:
        slow, quick = Queue(redis_url, key, lease_seconds=0.05), Queue(redis_url, key)
        slow.publish(lines(1))
        claim = slow.claim(1)
        assert claim is not None
        eventually(lambda: quick.reclaim())
        with pytest.raises(LeaseLost):
            slow.ack(claim, delivered=1, writes=[("RPUSH", f"{{{key}}}:out", "x")])
        assert not client.exists(f"{{{key}}}:out")

    def test_a_record_that_is_not_accounted_for_is_refused(self, queue: Queue) -> None:
        queue.publish(lines(1, 2))
        claim = queue.claim(2)
        assert claim is not None
        with pytest.raises(ValueError, match="2 records"):
            queue.ack(claim, delivered=1)


class TestTrouble:
    def test_an_outage_is_waited_out(self, remote: Queue, proxy: Proxy) -> None:
        remote.publish(lines(1))
        proxy.refuse()
        done = threading.Event()

        def publish() -> None:
            remote.publish(lines(2))
            done.set()

        threading.Thread(target=publish, daemon=True).start()
        eventually(lambda: remote.outage)
        proxy.refuse(False)
        assert done.wait(15)
        assert remote.outage is None
        assert remote.books().published == 2

    def test_however_often_a_connection_was_lost_there_is_another(self, queue: Queue) -> None:
        for number in range(250):  # redis-py's pool makes a hundred, and no more
            queue.publish(lines(number))
            queue.lag()
            queue.close_all()
        assert queue.books().published == 250

    def test_giving_up_ends_the_wait(self, remote: Queue, proxy: Proxy) -> None:
        proxy.refuse()
        remote.give_up.set()
        with pytest.raises(QueueUnavailable):
            remote.publish(lines(1))

    def test_flushed_scripts_are_loaded_again(self, queue: Queue, client: redis.Redis) -> None:
        queue.publish(lines(1))
        queue.lag()
        client.script_flush()
        claim = queue.claim(1)
        assert claim is not None
        client.script_flush()
        queue.ack(claim, delivered=1)
        assert_balanced(queue)

    def test_nobody_listening_is_unavailable_not_a_traceback(self, key: str) -> None:
        queue = Queue("redis://127.0.0.1:1/0", key)
        queue.give_up.set()
        with pytest.raises(QueueUnavailable, match="refused"):
            queue.books()

    def test_a_nonsense_address_is_named(self, key: str) -> None:
        with pytest.raises(QueueMisuse, match="REDIS_URL"):
            Queue("localhost:6379", key)


class TestLead:
    def test_one_producer_leads_and_the_other_waits(self, redis_url: str, key: str) -> None:
        first, second = Queue(redis_url, key), Queue(redis_url, key)
        assert first.lead(30) == 0
        assert 0 < second.lead(30) <= 30
        assert first.lead(30) == 0
        first.resign()
        assert second.lead(30) == 0

    def test_a_standby_takes_over_when_the_lease_runs_out_and_the_zombie_is_fenced(
        self, redis_url: str, key: str
    ) -> None:
        first, second = Queue(redis_url, key), Queue(redis_url, key)
        first.lead(0.05)
        first.publish(lines(1))
        eventually(lambda: second.lead(30) == 0, 5)
        with pytest.raises(ProducerFenced):
            first.publish(lines(2))
        with pytest.raises(ProducerFenced):
            first.lead(30)
        second.publish(lines(3))
        assert second.books().published == second.books().ready == 2

    @pytest.mark.parametrize("verb", ["lead", "publish"])
    def test_a_leader_that_leads_again_is_told_that_another_led_meanwhile(
        self, redis_url: str, key: str, queue: Queue, verb: str
    ) -> None:
        """Else it goes on from where it stood, and publishes again what the other has published."""
        other = Queue(redis_url, key)
        assert queue.lead(60) == 0
        queue.publish(lines(1), checkpoint=("s", 1))
        queue.ask(("HSET", queue.keys.leader, "until", 0))
        assert other.lead(60) == 0
        other.publish(lines(2), checkpoint=("s", 2))
        other.resign()
        if verb == "publish":  # a renewal that was sent before all this arrives now
            queue.ask_script("lead", [queue.keys.leader, queue.keys.epochs], [queue.id, 60_000, "late"])
        with pytest.raises(ProducerFenced):
            queue.lead(60) if verb == "lead" else queue.publish(lines(2), checkpoint=("s", 2))
        assert queue.books().published == 2
        queue.stand_by()
        assert queue.lead(60) == 0
        queue.publish(lines(3), checkpoint=("s", 3))

    def test_a_lost_reply_after_a_takeover_is_settled_by_the_number_and_then_fenced(
        self, remote: Queue, proxy: Proxy, redis_url: str, key: str
    ) -> None:
        remote.lead(0.05)
        remote.publish(lines(1))
        other = Queue(redis_url, key)
        eventually(lambda: other.lead(30) == 0, 5)
        proxy.lose_reply_to(b"EXEC")
        with pytest.raises(ProducerFenced):
            remote.publish(lines(2))
        assert other.books().ready == 1


class TestDeadLetters:
    @pytest.fixture
    def letters(self, queue: Queue) -> DeadLetters:
        queue.publish(lines(1), dead=[DeadLetter(b"broken", "not JSON"), DeadLetter(b"\xff", "not UTF-8")])
        return DeadLetters(queue)

    def test_they_are_listed_newest_first_and_found_by_reason_and_time(self, letters: DeadLetters) -> None:
        assert [letter.record for letter in letters.newest()] == [b"\xff", b"broken"]
        assert [letter.record for letter in letters.newest(reason="json")] == [b"broken"]
        (letter,) = letters.newest(reason="utf")
        assert list(letters.newest(since=letter.time + timedelta(minutes=1))) == []
        assert len(list(letters.newest(since=letter.time - timedelta(minutes=1)))) == 2

    def test_a_replayed_record_is_delivered_next_and_the_books_balance(self, queue: Queue) -> None:
        queue.publish(lines(1, 2, mark=queue.keys.ready))
        rejected = queue.claim(1)
        assert rejected is not None
        queue.ack(rejected, delivered=0, dead=[DeadLetter(rejected.lines[0], "rejected")])
        letters = DeadLetters(queue)
        (letter,) = letters.newest()
        assert letters.replay(letter)
        assert not letters.replay(letter)
        assert_balanced(queue)
        claim = queue.claim(10)
        assert claim is not None
        assert claim.lines[0] == rejected.lines[0]
        queue.ack(claim, delivered=2)
        assert_balanced(queue)

    def test_a_foreign_record_is_not_counted_twice_when_it_is_replayed(
        self, queue: Queue, client: redis.Redis, key: str
    ) -> None:
        client.lpush(key, b'{"by": "hand"}')
        claim = queue.claim(1)
        assert claim is not None
        queue.ack(claim, delivered=0, foreign=1, dead=[DeadLetter(claim.lines[0], "rejected")])
        letters = DeadLetters(queue)
        (letter,) = letters.newest()
        letters.replay(letter)
        again = queue.claim(1)
        assert again is not None
        queue.ack(again, delivered=1, foreign=1)
        assert queue.books().foreign == 1
        assert_balanced(queue)

    def test_a_dropped_letter_counts_as_discarded(self, queue: Queue, letters: DeadLetters) -> None:
        (letter,) = letters.newest(reason="utf")
        assert letters.drop(letter)
        assert not letters.drop(letter)
        assert (queue.books().discarded, queue.books().dead) == (1, 1)
        assert_balanced(queue)

    def test_a_thousand_letters_are_read_page_by_page(self, queue: Queue) -> None:
        queue.publish([], dead=[DeadLetter(b"%d" % n, "bad") for n in range(1000)])
        assert [int(letter.record) for letter in DeadLetters(queue).newest()] == list(range(999, -1, -1))


class TestSettle:
    def test_the_first_records_of_a_batch_are_done_and_the_rest_keeps_its_id_and_its_lease(self, queue: Queue) -> None:
        queue.publish(lines(*range(10)))
        claim = taken(queue.claim(10))
        queue.settle([Done(claim, 3, 2, filtered=1)], name="r", state=3)
        books = queue.books()
        assert (books.delivered, books.filtered, books.in_flight, books.difference) == (2, 1, 7, 0)
        queue.renew(claim)
        queue.release(claim)
        again = taken(queue.reclaim())
        assert (again.id, again.lines) == (claim.id, claim.lines[3:])
        assert queue.state("r") == 3

    def test_a_batch_that_was_filled_is_settled_across_its_lists(self, queue: Queue, client: redis.Redis) -> None:
        queue.publish(lines(*range(9)))
        claim = taken(queue.claim(2))
        queue.fill(claim, 3)
        queue.fill(claim, 4)
        queue.settle([Done(claim, 4, 4)], name="r")
        queue.release(claim)
        again = taken(queue.reclaim())
        assert again.lines == claim.lines[4:]
        queue.settle([Done(again, 5, 5)], name="r")
        assert (queue.books().delivered, queue.books().in_flight, queue.books().leases) == (9, 0, [])
        assert list(client.scan_iter(match=f"*{claim.id}*")) == []

    def test_several_batches_are_settled_with_the_state_or_none_of_them(self, queue: Queue, redis_url: str) -> None:
        queue.publish(lines(*range(10)))
        first, second = taken(queue.claim(5)), taken(queue.claim(5))
        done = [Done(first, 5, 5), Done(second, 2, 1, dead=[DeadLetter(second.lines[0], "bad")])]
        queue.release(second)
        other = Queue(redis_url, queue.keys.ready)
        mine = taken(other.reclaim())
        with pytest.raises(LeaseLost):
            queue.settle(done, name="r", state="new")
        assert (queue.books().delivered, queue.books().dead, queue.state("r")) == (0, 0, None)
        done[1].claim = mine
        queue.settle([done[0]], name="r", state="new")
        other.settle([done[1]], name="r")
        books = queue.books()
        assert (books.delivered, books.dead, books.in_flight, books.difference) == (6, 1, 3, 0)
        assert other.state("r") == "new"
        other.close_all()

    def test_the_rest_of_a_settled_batch_can_be_split_filled_from_and_acked(self, queue: Queue) -> None:
        queue.publish(lines(*range(7)))
        claim = taken(queue.claim(3))
        queue.fill(claim, 4)
        queue.settle([Done(claim, 4, 4)], name="r")
        queue.release(claim)
        rest = taken(queue.reclaim())
        queue.split(rest, attempts=0)
        first, second = taken(queue.reclaim()), taken(queue.reclaim())
        assert first.lines + second.lines == claim.lines[4:]
        queue.ack(first, delivered=len(first.lines))
        queue.ack(second, delivered=len(second.lines))
        assert (queue.books().delivered, queue.books().difference, queue.books().lag) == (7, 0, 0)

    def test_a_lost_reply_does_not_settle_twice(self, remote: Queue, proxy: Proxy) -> None:
        remote.publish(lines(*range(6)))
        claim = taken(remote.claim(6))
        for number in range(3):
            lost = proxy.lose_reply_to(b"EVALSHA")
            remote.settle([Done(claim, 2, 2)], name="r", state=number)
            assert lost.is_set()
        books = remote.books()
        assert (books.delivered, books.in_flight, books.difference) == (6, 0, 0)
        assert remote.state("r") == 2

    def test_a_settle_that_arrives_late_changes_nothing(self, queue: Queue) -> None:
        queue.publish(lines(*range(6)))
        claim = taken(queue.claim(6))
        queue.settle([Done(claim, 2, 2)], name="r", state="first")
        queue.settle([Done(claim, 2, 2)], name="r", state="second")
        queue.settling._settles = 0  # as it was sent, before
        queue.settle([Done(claim, 2, 2)], name="r", state="first")
        assert (queue.books().delivered, queue.state("r")) == (4, "second")

    def test_getting_on_makes_attempts_begin_anew_and_giving_up_counts_one(self, queue: Queue) -> None:
        queue.publish(lines(*range(4)))
        claim = taken(queue.claim(4))
        queue.abandon(claim, "failed")
        claim = taken(queue.reclaim())
        assert claim.attempts == 2
        assert queue.books().leases[0].note == "failed"
        queue.settle([Done(claim, 1, 1)], name="r")
        assert queue.books().leases[0].attempts == 1
        queue.abandon(claim, "failed")
        assert taken(queue.reclaim()).attempts == 2
