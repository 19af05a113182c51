"""The queue against a model of it: any order of verbs, connections that drop anywhere, late arrivals and crashes.

A Hypothesis state machine drives several producers and consumers on a real server. After every step the books must
balance and every record must be in exactly one place; what the sink holds, by batch id, must hold no record twice.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from typing import Any

import msgspec
import pytest
import redis
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from millrace_pipeline.envelope import DeadLetter, Record, encode
from millrace_pipeline.errors import FlowPaused, LeaseLost, ProducerFenced, RetryLater
from millrace_pipeline.mark import is_foreign
from millrace_pipeline.queue import Claim
from millrace_pipeline.queue.changes import By
from millrace_pipeline.queue.pausing import pause, resume
from millrace_pipeline.queue.purging import purge, requeue
from tests.faults.faulty import FAULTS, Fault, FaultyQueue
from tests.faults.sequences import SHARES, run_sequences
from tests.queues import Queue

DELAYS = st.dictionaries(st.integers(0, 8), st.sampled_from([0, 60, 600]))
"""By place in a batch how many seconds a record is put off."""

SOMEBODY = By("operator", "somebody", "here")


class Flow(RuleBasedStateMachine):
    """One list, two producers, three consumers, one sink."""

    url: str
    numbers = itertools.count()

    @initialize()
    def begin(self) -> None:
        self.client = redis.Redis.from_url(self.url)
        self.key = f"model:{os.getpid()}:{next(self.numbers)}"
        self.producers = [FaultyQueue(self.url, self.key) for _ in range(2)]
        self.consumers = [FaultyQueue(self.url, self.key) for _ in range(3)]
        self.reader = Queue(self.url, self.key)
        self.published: list[bytes] = []
        self.pushed: set[bytes] = set()  # by others
        self.known: set[str] = set()  # keys that were published
        self.sink: dict[str, tuple[bytes, ...]] = {}
        self.settled: Counter[bytes] = Counter()  # acked as delivered or filtered
        self.position = 0
        self.leaders = [FaultyQueue(self.url, self.key) for _ in range(2)]
        self.reigns: list[tuple[bytes, int] | None] = [None, None]  # the takeover of each, and the position it is at
        self.led = 0  # the position of the source that they lead
        self.claims: list[tuple[int, Claim]] = []

    def teardown(self) -> None:
        if hasattr(self, "client"):
            for queue in (*self.producers, *self.leaders, *self.consumers, self.reader):
                queue.close_all()
            for left in self.client.scan_iter(match=f"*{self.key}*", count=1000):
                self.client.delete(left)
            self.client.close()

    def some_id(self) -> str:
        return f"{next(self.numbers)}"

    def envelope(self, id: str, mark: str | None = None) -> bytes:
        return encode(Record({"n": id}), id=id, source="model", time="2026-01-01T00:00:00Z", mark=mark)

    def ours(self, id: str) -> bytes:
        return self.envelope(id, self.key)

    # -- what producers do --------------------------------------------------------------------------------------------

    @rule(who=st.integers(0, 1), count=st.integers(0, 5), dead=st.integers(0, 1), faults=FAULTS)
    def publish(self, who: int, count: int, dead: int, faults: list[Fault]) -> None:
        records = [self.ours(self.some_id()) for _ in range(count)]
        letters = [DeadLetter(self.ours(self.some_id()), "bad") for _ in range(dead)]
        self.position += 1
        self.producers[who].suffer(faults)
        self.producers[who].publish(records, dead=letters, checkpoint=("source", self.position))
        self.published += [*records, *(letter.original for letter in letters)]
        assert self.producers[who].checkpoint("source") == self.position

    @rule(who=st.integers(0, 1), again=st.lists(st.integers(0, 3), max_size=5), faults=FAULTS)
    def publish_what_may_have_been_published_before(self, who: int, again: list[int], faults: list[Fault]) -> None:
        ids = [self.some_id(), *(f"key-{number}" for number in again)]
        fresh = [id for id in dict.fromkeys(ids) if id not in self.known]
        self.producers[who].suffer(faults)
        done = self.producers[who].publish([self.ours(id) for id in ids], ids=ids, seen_seconds=3600)
        assert (done.records, done.duplicates) == (len(fresh), len(ids) - len(fresh))
        self.published += map(self.ours, fresh)
        self.known.update(fresh)

    @rule(who=st.integers(0, 1))
    def a_producer_dies(self, who: int) -> None:
        self.producers[who].arrive()
        self.producers[who] = FaultyQueue(self.url, self.key)

    # -- what producers of a stream do, one of which leads ------------------------------------------------------------

    @rule(who=st.integers(0, 1), faults=FAULTS)
    def lead(self, who: int, faults: list[Fault]) -> None:
        queue, reign = self.leaders[who], self.reigns[who]
        queue.suffer(faults)
        try:
            left = queue.lead(3600)
        except ProducerFenced:
            self.stand_by(who)
            return
        if left == 0 and reign is None:
            self.reigns[who] = (self.takeovers(), queue.checkpoint("led") or 0)  # type: ignore[assignment]
        elif reign is not None:
            assert (left, self.takeovers()) == (0, reign[0]), "it was replaced and isn't told"

    @rule(who=st.integers(0, 1), dedupe=st.booleans(), replaced=st.booleans(), faults=FAULTS)
    def publish_as_leader(self, who: int, dedupe: bool, replaced: bool, faults: list[Fault]) -> None:
        if self.reigns[who] is None:
            self.another_takes_over(who, [])
        if replaced:
            self.another_takes_over(1 - who, [])
        reign = self.reigns[who]
        if reign is None:
            return
        queue, (takeover, at), id = self.leaders[who], reign, self.some_id()
        options: dict[str, Any] = {"ids": [id], "seen_seconds": 3600} if dedupe else {}
        queue.suffer(faults)
        try:
            queue.publish([self.ours(id)], checkpoint=("led", at + 1), **options)
        except ProducerFenced:
            self.stand_by(who)
        else:
            assert takeover == self.takeovers(), "it was replaced and publishes all the same"
            assert self.led == at, "the checkpoint moved back"
            self.led = at + 1
            self.reigns[who] = (takeover, self.led)
            self.published.append(self.ours(id))
        assert (self.reader.checkpoint("led") or 0) == self.led

    def stand_by(self, who: int) -> None:
        reign, self.reigns[who] = self.reigns[who], None
        assert reign is not None
        assert reign[0] != self.takeovers(), "nobody has replaced it"
        self.leaders[who].stand_by()

    def takeovers(self) -> bytes:
        return self.client.get(self.reader.keys.epochs) or b""  # type: ignore[return-value]

    @rule(who=st.integers(0, 1), faults=FAULTS)
    def another_takes_over(self, who: int, faults: list[Fault]) -> None:
        if self.client.exists(self.reader.keys.leader):
            self.client.hset(self.reader.keys.leader, "until", 0)
        self.lead(who, faults)

    # -- what consumers do --------------------------------------------------------------------------------------------

    @rule(who=st.integers(0, 2), count=st.integers(1, 6), put=st.integers(0, 3), faults=FAULTS)
    def claim(self, who: int, count: int, put: int, faults: list[Fault]) -> None:
        self.publish(0, put, 0, [])  # else most claims would find an empty list
        self.consumers[who].suffer(faults)
        claim = self.consumers[who].claim(count)
        if claim is not None:
            self.claims.append((who, claim))

    def held(self, pick: int, *, last: bool = False) -> tuple[int, Claim]:
        """One of the claims that consumers took, whoever has it by now; with `last` it is used no more."""
        if not self.claims:
            self.claim(pick % 3, 1 + pick // 3, 3, [])
        return self.claims.pop(pick % len(self.claims)) if last else self.claims[pick % len(self.claims)]

    @rule(who=st.integers(0, 2), count=st.integers(1, 6), faults=FAULTS)
    def claim_ahead(self, who: int, count: int, faults: list[Fault]) -> None:
        self.consumers[who].suffer(faults)
        self.consumers[who].claim_ahead(count)

    @rule(who=st.integers(0, 2), faults=FAULTS)
    def keep_ahead(self, who: int, faults: list[Fault]) -> None:
        self.consumers[who].suffer(faults)
        self.consumers[who].keep_ahead()

    @rule(who=st.integers(0, 2), faults=FAULTS)
    def release_ahead(self, who: int, faults: list[Fault]) -> None:
        self.consumers[who].suffer(faults)
        self.consumers[who].release_ahead()

    @rule(who=st.integers(0, 2))
    def wait(self, who: int) -> None:
        if self.client.llen(self.key):  # an empty list would only take time
            self.consumers[who].wait(0.1)

    @rule(pick=st.integers(0, 7), count=st.integers(1, 4), faults=FAULTS)
    def fill(self, pick: int, count: int, faults: list[Fault]) -> None:
        who, claim = self.held(pick)
        if claim.id in self.sink or claim.attempts > 1:
            return  # what a sink may have seen is never filled
        self.consumers[who].suffer(faults)
        try:
            self.consumers[who].fill(claim, count)
        except LeaseLost:
            self.assert_lost(claim)

    @rule(pick=st.integers(0, 7), faults=FAULTS)
    def renew(self, pick: int, faults: list[Fault]) -> None:
        who, claim = self.held(pick)
        self.consumers[who].suffer(faults)
        try:
            self.consumers[who].renew(claim)
        except LeaseLost:
            self.assert_lost(claim)

    @rule(pick=st.integers(0, 7), faults=FAULTS)
    def begin_what_was_claimed_ahead(self, pick: int, faults: list[Fault]) -> None:
        who, claim = self.held(pick)
        self.consumers[who].suffer(faults)
        try:
            self.consumers[who].begin(claim)
        except LeaseLost:
            self.assert_lost(claim)

    @rule(pick=st.integers(0, 7))
    def write(self, pick: int) -> None:
        self.writes(self.held(pick)[1])

    def writes(self, claim: Claim) -> None:
        if self.held_by_token(claim.id) != claim.token:
            return  # it would find its lease lost before it writes; a write under way rewrites the same
        before = self.sink.setdefault(claim.id, tuple(claim.lines))
        assert before == tuple(claim.lines), "the same batch id came with other records"

    @rule(pick=st.integers(0, 7), dead=st.integers(0, 2), filtered=st.integers(0, 1), faults=FAULTS)
    def ack(self, pick: int, dead: int, filtered: int, faults: list[Fault]) -> None:
        who, claim = self.held(pick, last=True)
        if claim.id not in self.sink:
            self.writes(claim)
        if self.sink.get(claim.id) != tuple(claim.lines):
            return
        dead = min(dead, len(claim.lines))
        filtered = min(filtered, len(claim.lines) - dead)
        letters = [DeadLetter(line, "rejected") for line in claim.lines[:dead]]
        self.consumers[who].suffer(faults)
        try:
            self.consumers[who].ack(
                claim,
                delivered=len(claim.lines) - dead - filtered,
                filtered=filtered,
                foreign=sum(is_foreign(line, self.key) for line in claim.lines),
                dead=letters,
            )
        except LeaseLost:
            self.assert_lost(claim)
        else:
            self.settled.update(claim.lines[dead:])

    @rule(pick=st.integers(0, 7), faults=FAULTS)
    def release(self, pick: int, faults: list[Fault]) -> None:
        who, claim = self.held(pick, last=True)
        self.consumers[who].suffer(faults)
        self.consumers[who].release(claim)

    @rule(pick=st.integers(0, 7), faults=FAULTS)
    def split(self, pick: int, faults: list[Fault]) -> None:
        who, claim = self.held(pick, last=True)
        if len(claim.lines) < 2 or claim.id in self.sink:
            return
        self.consumers[who].suffer(faults)
        try:
            self.consumers[who].split(claim, attempts=2)
        except LeaseLost:
            self.assert_lost(claim)

    @rule(
        pick=st.integers(0, 7), places=st.dictionaries(st.integers(0, 8), st.sampled_from([0, 60, 600])), faults=FAULTS
    )
    def delay(self, pick: int, places: dict[int, int], faults: list[Fault]) -> None:
        who, claim = self.held(pick)
        later = {place: RetryLater(seconds) for place, seconds in places.items() if place < len(claim.lines)}
        if claim.id in self.sink or not claim.unseen or not later:
            return  # of what a sink may have seen nothing is taken out
        self.consumers[who].suffer(faults)
        try:
            self.consumers[who].delay(claim, later)
        except LeaseLost:
            self.assert_lost(claim)
        if not claim.lines:
            self.claims = [held for held in self.claims if held[1] is not claim]

    @rule(pick=st.integers(0, 7), seconds=st.sampled_from([0, 600]), faults=FAULTS)
    def put_off(self, pick: int, seconds: int, faults: list[Fault]) -> None:
        who, claim = self.held(pick, last=True)
        self.consumers[who].suffer(faults)
        self.consumers[who].put_off(claim, RetryLater(seconds))

    @rule(who=st.integers(0, 2), faults=FAULTS)
    def reclaim(self, who: int, faults: list[Fault]) -> None:
        self.consumers[who].suffer(faults)
        claim = self.consumers[who].reclaim()
        if claim is not None:
            self.claims.append((who, claim))

    @rule()
    def leases_run_out(self) -> None:
        for id in self.client.zrange(self.reader.keys.leases, 0, -1):
            self.client.zadd(self.reader.keys.leases, {id: 1})

    @rule(who=st.integers(0, 2))
    def a_consumer_dies(self, who: int) -> None:
        self.consumers[who].arrive()
        self.consumers[who] = FaultyQueue(self.url, self.key)

    # -- what people do who steer -------------------------------------------------------------------------------------

    @rule(who=st.integers(0, 2), count=st.integers(1, 6), faults=FAULTS)
    def consumers_are_paused(self, who: int, count: int, faults: list[Fault]) -> None:
        pause(self.reader, ["consumers"], by=SOMEBODY)
        before = self.reader.books().in_flight
        self.consumers[who].suffer(faults)
        if (ahead := self.consumers[who].claim(count)) is not None:
            self.claims.append((who, ahead))  # it was claimed before
        assert self.consumers[who].reclaim() is None
        assert self.reader.books().in_flight == before
        resume(self.reader, by=SOMEBODY)

    @rule(who=st.integers(0, 1), faults=FAULTS)
    def producers_are_paused(self, who: int, faults: list[Fault]) -> None:
        pause(self.reader, ["producers"], by=SOMEBODY)
        before = self.reader.books().published
        self.producers[who].suffer(faults)
        with pytest.raises(FlowPaused):
            self.producers[who].publish([self.ours(self.some_id())])
        assert self.reader.books().published == before
        resume(self.reader, by=SOMEBODY)
        self.producers[who].arrive()
        assert self.reader.books().published == before

    @rule(most=st.integers(1, 4), to_dead=st.booleans())
    def what_waits_is_purged(self, most: int, to_dead: bool) -> None:
        before = Counter(self.waiting())
        done = purge(self.reader, most, to_dead=to_dead, by=SOMEBODY)
        gone = before - Counter(self.waiting())
        assert gone.total() == done == min(most, before.total())
        if not to_dead:
            self.settled.update(gone)

    @rule(pick=st.integers(0, 7), whole=st.booleans())
    def a_batch_is_requeued(self, pick: int, whole: bool) -> None:
        leases = self.reader.books().leases
        if not leases:
            return
        lease = leases[pick % len(leases)]
        whole = whole or lease.batch in self.sink  # else its records would be written twice, which is said
        assert requeue(self.reader, lease.batch, whole=whole, force=True, by=SOMEBODY) == lease.records

    def waiting(self) -> list[bytes]:
        keys = self.reader.keys
        return [*self.client.lrange(keys.ready, 0, -1), *self.client.lrange(keys.woken, 0, -1)]

    # -- what the network and others do -------------------------------------------------------------------------------

    @rule(kind=st.sampled_from(["bare", "CloudEvent", "passed on"]))
    def somebody_pushes(self, kind: str) -> None:
        id = self.some_id()
        line = b'{"n": "%b"}' % id.encode() if kind == "bare" else self.envelope(id)
        if kind == "passed on":
            line = self.envelope(id, "elsewhere")
        self.client.lpush(self.key, line)
        self.pushed.add(line)

    @rule()
    def what_was_on_its_way_arrives(self) -> None:
        for queue in (*self.producers, *self.leaders, *self.consumers):
            queue.arrive()

    @rule()
    def scripts_are_flushed(self) -> None:
        self.client.script_flush()

    # -- what must hold -----------------------------------------------------------------------------------------------

    def held_by_token(self, id: str) -> str | None:
        text = self.client.hget(self.reader.keys.claims, id)
        return None if text is None else msgspec.json.decode(text)["token"]

    def assert_lost(self, claim: Claim) -> None:
        assert self.held_by_token(claim.id) != claim.token, f"{claim.id} was said to be lost, and is not"

    @invariant()
    def every_record_is_in_one_place_and_the_books_balance(self) -> None:
        if not hasattr(self, "client"):
            return
        books, keys = self.reader.books(), self.reader.keys
        held = [line for lease in books.leases for line in self.lines_of(lease.batch)]
        assert books.in_flight + books.delayed == len(held) == sum(lease.records for lease in books.leases)
        waiting = [*held, *self.waiting()]
        assert books.difference == len(self.pushed.intersection(waiting)), books
        places: Counter[bytes] = Counter(self.settled)
        places.update(waiting)
        places.update(letter[b"record"] for _, letter in self.client.xrange(keys.dead))
        assert places == Counter([*self.published, *self.pushed])

    @invariant()
    def the_sink_holds_nothing_twice(self) -> None:
        if hasattr(self, "sink"):
            written = Counter(line for lines in self.sink.values() for line in lines)
            assert not [line for line, count in written.items() if count > 1]

    def lines_of(self, id: str) -> list[bytes]:
        keys = self.reader.keys
        claim = msgspec.json.decode(self.client.hget(keys.claims, id) or b"{}")
        return [line for part in keys.parts(id, int(claim["steps"])) for line in self.client.lrange(part, 0, -1)]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("share", range(SHARES))
def test_any_order_of_verbs_faults_and_crashes_keeps_every_record_in_one_place(redis_url: str, share: int) -> None:
    run_sequences(Flow, redis_url, share)
