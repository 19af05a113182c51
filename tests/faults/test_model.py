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
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from pipeline.envelope import DeadLetter
from pipeline.errors import LeaseLost
from pipeline.queue import Claim, Queue
from tests.faults.faulty import FAULTS, Fault, FaultyQueue


class Flow(RuleBasedStateMachine):
    """One list, two producers, three consumers, one sink."""

    url: str
    numbers = itertools.count()
    claims: Bundle[tuple[int, Claim]] = Bundle("claims")

    @initialize()
    def begin(self) -> None:
        self.client = redis.Redis.from_url(self.url)
        self.key = f"model:{os.getpid()}:{next(self.numbers)}"
        self.producers = [FaultyQueue(self.url, self.key) for _ in range(2)]
        self.consumers = [FaultyQueue(self.url, self.key) for _ in range(3)]
        self.reader = Queue(self.url, self.key)
        self.published: list[bytes] = []
        self.sink: dict[str, tuple[bytes, ...]] = {}
        self.settled: Counter[bytes] = Counter()  # acked as delivered or filtered
        self.position = 0

    def teardown(self) -> None:
        if hasattr(self, "client"):
            for queue in (*self.producers, *self.consumers, self.reader):
                queue.close()
            for left in self.client.scan_iter(match=f"*{self.key}*", count=1000):
                self.client.delete(left)
            self.client.close()

    def some_id(self) -> bytes:
        return b"%d" % next(self.numbers)

    # -- what producers do --------------------------------------------------------------------------------------------

    @rule(who=st.integers(0, 1), count=st.integers(0, 5), dead=st.integers(0, 1), faults=FAULTS)
    def publish(self, who: int, count: int, dead: int, faults: list[Fault]) -> None:
        records = [self.some_id() for _ in range(count)]
        letters = [DeadLetter(self.some_id(), "bad") for _ in range(dead)]
        self.position += 1
        self.producers[who].suffer(faults)
        self.producers[who].publish(records, dead=letters, checkpoint=("source", self.position))
        self.published += [*records, *(letter.original for letter in letters)]
        assert self.producers[who].checkpoint("source") == self.position

    @rule(who=st.integers(0, 1), again=st.integers(0, 3), faults=FAULTS)
    def publish_what_may_have_been_published_before(self, who: int, again: int, faults: list[Fault]) -> None:
        fresh = self.some_id()
        ids = [f"key-{number}" for number in range(again)]
        known = {record.decode() for record in self.published}
        self.producers[who].suffer(faults)
        self.producers[who].publish(
            [fresh, *(id.encode() for id in ids)], ids=[fresh.decode(), *ids], seen_seconds=3600
        )
        self.published += [fresh, *(id.encode() for id in ids if id not in known)]

    @rule(who=st.integers(0, 1))
    def a_producer_dies(self, who: int) -> None:
        self.producers[who].arrive()
        self.producers[who] = FaultyQueue(self.url, self.key)

    # -- what consumers do --------------------------------------------------------------------------------------------

    @rule(target=claims, who=st.integers(0, 2), count=st.integers(1, 6), faults=FAULTS)
    def claim(self, who: int, count: int, faults: list[Fault]) -> Any:
        self.consumers[who].suffer(faults)
        claim = self.consumers[who].claim(count)
        return multiple() if claim is None else (who, claim)

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

    @rule(held=claims, count=st.integers(1, 4), faults=FAULTS)
    def fill(self, held: tuple[int, Claim], count: int, faults: list[Fault]) -> None:
        who, claim = held
        if claim.id in self.sink or claim.attempts > 1:
            return  # what a sink may have seen is never filled
        self.consumers[who].suffer(faults)
        try:
            self.consumers[who].fill(claim, count)
        except LeaseLost:
            self.assert_lost(claim)

    @rule(held=claims, faults=FAULTS)
    def renew(self, held: tuple[int, Claim], faults: list[Fault]) -> None:
        who, claim = held
        self.consumers[who].suffer(faults)
        try:
            self.consumers[who].renew(claim)
        except LeaseLost:
            self.assert_lost(claim)

    @rule(held=claims, faults=FAULTS)
    def begin_what_was_claimed_ahead(self, held: tuple[int, Claim], faults: list[Fault]) -> None:
        who, claim = held
        self.consumers[who].suffer(faults)
        try:
            self.consumers[who].begin(claim)
        except LeaseLost:
            self.assert_lost(claim)

    @rule(held=claims)
    def write(self, held: tuple[int, Claim]) -> None:
        _, claim = held
        if self.held_by_token(claim.id) != claim.token:
            return  # it would find its lease lost before it writes; a write under way rewrites the same
        before = self.sink.setdefault(claim.id, tuple(claim.lines))
        assert before == tuple(claim.lines), "the same batch id came with other records"

    @rule(held=consumes(claims), dead=st.integers(0, 2), filtered=st.integers(0, 1), faults=FAULTS)
    def ack(self, held: tuple[int, Claim], dead: int, filtered: int, faults: list[Fault]) -> None:
        who, claim = held
        if claim.id not in self.sink or self.sink[claim.id] != tuple(claim.lines):
            return
        dead = min(dead, len(claim.lines))
        filtered = min(filtered, len(claim.lines) - dead)
        letters = [DeadLetter(line, "rejected") for line in claim.lines[:dead]]
        self.consumers[who].suffer(faults)
        try:
            self.consumers[who].ack(
                claim, delivered=len(claim.lines) - dead - filtered, filtered=filtered, dead=letters
            )
        except LeaseLost:
            self.assert_lost(claim)
        else:
            self.settled.update(claim.lines[dead:])

    @rule(held=consumes(claims), faults=FAULTS)
    def release(self, held: tuple[int, Claim], faults: list[Fault]) -> None:
        who, claim = held
        self.consumers[who].suffer(faults)
        self.consumers[who].release(claim)

    @rule(held=consumes(claims), faults=FAULTS)
    def split(self, held: tuple[int, Claim], faults: list[Fault]) -> None:
        who, claim = held
        if len(claim.lines) < 2 or claim.id in self.sink:
            return
        self.consumers[who].suffer(faults)
        try:
            self.consumers[who].split(claim, attempts=2)
        except LeaseLost:
            self.assert_lost(claim)

    @rule(target=claims, who=st.integers(0, 2), faults=FAULTS)
    def reclaim(self, who: int, faults: list[Fault]) -> Any:
        self.consumers[who].suffer(faults)
        claim = self.consumers[who].reclaim()
        return multiple() if claim is None else (who, claim)

    @rule()
    def leases_run_out(self) -> None:
        for id in self.client.zrange(self.reader.keys.leases, 0, -1):
            self.client.zadd(self.reader.keys.leases, {id: 1})

    @rule(held=consumes(claims))
    def a_consumer_dies(self, held: tuple[int, Claim]) -> None:
        who, _ = held
        self.consumers[who].arrive()
        self.consumers[who] = FaultyQueue(self.url, self.key)

    # -- what the network and people do -------------------------------------------------------------------------------

    @rule()
    def what_was_on_its_way_arrives(self) -> None:
        for queue in (*self.producers, *self.consumers):
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
        keys = self.reader.keys
        books = self.reader.books()
        assert books.difference == 0, books
        held = [line for lease in books.leases for line in self.lines_of(lease.batch)]
        assert books.in_flight == len(held) == sum(lease.records for lease in books.leases)
        places: Counter[bytes] = Counter(self.settled)
        places.update(held)
        places.update(self.client.lrange(keys.ready, 0, -1))
        places.update(self.client.lrange(keys.woken, 0, -1))
        places.update(letter[b"record"] for _, letter in self.client.xrange(keys.dead))
        assert places == Counter(self.published)

    @invariant()
    def the_sink_holds_nothing_twice(self) -> None:
        if hasattr(self, "sink"):
            written = Counter(line for lines in self.sink.values() for line in lines)
            assert not [line for line, count in written.items() if count > 1]

    def lines_of(self, id: str) -> list[bytes]:
        keys = self.reader.keys
        claim = msgspec.json.decode(self.client.hget(keys.claims, id) or b"{}")
        return [line for part in keys.parts(id, int(claim["steps"])) for line in self.client.lrange(part, 0, -1)]


SHARES = 4
"""The sequences are shared out among so many tests, so that they can run side by side."""


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("share", range(SHARES))
def test_any_order_of_verbs_faults_and_crashes_keeps_every_record_in_one_place(redis_url: str, share: int) -> None:
    machine = type(f"Flow{share}", (Flow,), {"url": redis_url})
    sequences = int(os.environ.get("MILLRACE_SEQUENCES", "200"))
    run = settings(
        max_examples=sequences // SHARES,
        stateful_step_count=50,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=run)  # type: ignore[no-untyped-call]
