"""Every verb of a queue once, for servers of other kinds; tests/contracts/test_queue_contract.py says it at length."""

from __future__ import annotations

import threading
from collections.abc import Callable

from millrace_pipeline.envelope import DeadLetter, Record, encode
from millrace_pipeline.errors import LeaseLost
from millrace_pipeline.moment import now
from millrace_pipeline.queue import Claim, DeadLetters, Done
from tests.conftest import eventually
from tests.queues import Queue


def lines(*numbers: int, mark: str | None = None) -> list[bytes]:
    """Envelopes of records with these numbers, which are their ids too; ours on the list that `mark` names."""
    return [encode(Record({"n": n}), id=str(n), source="test", time=now(), mark=mark) for n in numbers]


def every_verb_works(url: str, key: str, *, replicas: int = 0) -> None:
    """Publishes, leads, waits, claims, fills, renews, releases, reclaims, splits, acks, settles, replays and drops."""
    queue, other = (Queue(url, key, replicas=replicas) for _ in range(2))
    assert queue.lead(30) == 0
    assert other.lead(30) > 0
    assert queue.publish(lines(1, 2, 3, mark=key), checkpoint=("test", 3)).lag == 3
    assert queue.publish(lines(3, 4, mark=key), ids=["3", "4"], seen_seconds=60).records == 2
    assert queue.publish(lines(4, 5, mark=key), ids=["4", "5"], seen_seconds=60).duplicates == 1
    queue.publish([], dead=[DeadLetter(b"{", "not JSON")])
    queue.resign()
    assert other.lead(30) == 0
    assert other.checkpoint("test") == 3

    queue.wait(1)
    mine = taken(lambda: queue.claim(2))
    assert queue.fill(mine, 2) == 2
    queue.renew(mine)
    queue.release(mine)
    again = taken(other.reclaim)
    assert (again.id, again.lines) == (mine.id, mine.lines)
    other.split(again, attempts=2)
    first, second = taken(queue.reclaim), taken(other.reclaim)
    assert first.lines + second.lines == mine.lines
    queue.ack(first, delivered=2)
    other.ack(second, delivered=0, filtered=1, dead=[DeadLetter(second.lines[1], "rejected")])

    rejected, broken = DeadLetters(queue).newest()
    assert DeadLetters(queue).replay(rejected)
    assert DeadLetters(queue).drop(broken)
    rest = taken(lambda: other.claim(10))
    assert rest.lines[0] == second.lines[1]
    other.settle([Done(rest, 1, 1)], name="reader", state={"done": 1})
    assert queue.state("reader") == {"done": 1}
    other.abandon(rest, "failed")
    rest = taken(queue.reclaim)
    queue.ack(rest, delivered=len(rest.lines))
    with queue.client() as client:
        assert client.llen(key) == 0
    books = queue.books()
    assert (books.published, books.delivered, books.filtered, books.discarded) == (7, 5, 1, 1)
    assert books.difference == books.lag == books.dead == 0
    queue.close_all()
    other.close_all()


def taken(take: Callable[[], Claim | None]) -> Claim:
    """The batch that is there to take."""
    claim = take()
    assert claim is not None
    return claim


class Load:
    """A producer and a consumer at work in threads of their own, and a sink that knows a batch by its id.

    The producer leaves out what was published before with `dedupe`, and takes the lead first with `leads`.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        replicas: int = 0,
        lease_seconds: float = 2.0,
        dedupe: bool = False,
        leads: bool = False,
    ) -> None:
        self._dedupe_seconds, self._leads = 600.0 if dedupe else 0.0, leads
        self.producer = Queue(url, key, replicas=replicas)
        self.consumer = Queue(url, key, replicas=replicas, lease_seconds=lease_seconds)
        self.acknowledged: list[int] = []
        self.sink: dict[str, list[bytes]] = {}
        self.errors: list[BaseException] = []
        self._stop_publishing, self._stop = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=run, args=(work,))
            for run, work in ((self._run, self._publish), (self._run, self._consume))
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_publishing.set()
        self._stop.set()
        for queue in (self.producer, self.consumer):
            queue.give_up.set()
        for thread in self._threads:
            thread.join()

    @property
    def written(self) -> list[bytes]:
        """All that the sink holds, file after file."""
        return [line for lines in self.sink.values() for line in lines]

    def more(self, records: int = 100) -> None:
        """Returns once so many more records were acknowledged to the producer."""
        target = len(self.acknowledged) + records
        eventually(lambda: self.errors or len(self.acknowledged) >= target)
        assert not self.errors

    def drain(self) -> None:
        """Publishes no more, and returns once all is delivered."""
        self._stop_publishing.set()
        eventually(lambda: self.errors or not self._threads[0].is_alive())
        eventually(lambda: self.errors or self.producer.lag() == 0)
        assert not self.errors

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            if not self._stop.is_set():
                self.errors.append(error)

    def _publish(self) -> None:
        number = 0
        if self._leads:
            assert self.producer.lead(60) == 0
        while not self._stop_publishing.is_set():
            batch = list(range(number, number + 10))
            self.producer.publish(lines(*batch), ids=list(map(str, batch)), seen_seconds=self._dedupe_seconds)
            self.acknowledged += batch
            number += 10
            self._stop_publishing.wait(0.002)

    def _consume(self) -> None:
        while not self._stop.is_set():
            claim = (self.consumer.reclaim() if self.consumer.leases.overdue else None) or self.consumer.claim(50)
            if claim is None:
                self.consumer.wait(0.2)
                continue
            self.sink[claim.id] = claim.lines
            try:
                self.consumer.ack(claim, delivered=len(claim.lines))
            except LeaseLost:
                continue
