"""The queue against a model of it, with a Redis that comes back without its last second, again and again.

Consumers write a batch only once what they know of it is on disk, as `queue.fsync: write` has it, and live on with all
they know when the power fails. After every step each record that Redis has is in one place, and what the sink holds is
settled, or in flight under the name that it was written by: so nothing is lost, and nothing is ever written twice.
"""

from __future__ import annotations

import copy
import itertools
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from millrace_pipeline.envelope import DeadLetter, Record, encode
from millrace_pipeline.errors import LeaseLost, RetryLater
from millrace_pipeline.queue import Claim
from tests.faults.faulty import FaultyQueue
from tests.faults.sequences import SHARES, run_sequences

WHO = st.integers(0, 1)
PICK = st.integers(0, 2)
"""Few claims are at work at once, so that several things happen to one of them."""


def forgotten_at_times(verb: Callable[..., None]) -> Callable[..., None]:
    """Let the power fail right behind the verb, where `forgotten` says so: of that alone Redis knows nothing then."""

    def then(self: PowerFlow, *, forgotten: bool, **arguments: Any) -> None:
        if forgotten:
            self.sync()
        verb(self, **arguments)
        if forgotten:
            self.the_power_fails()

    then.__name__ = verb.__name__
    return then


DELAYS = st.dictionaries(st.integers(0, 5), st.sampled_from([0, 60]), min_size=1)
FORGOTTEN = st.sampled_from([False, False, True])


class Held:
    """A claim in a consumer's hands, and how often Redis had synced when it was changed last."""

    def __init__(self, who: int, claim: Claim, syncs: int) -> None:
        self.who, self.claim, self.syncs = who, claim, syncs
        self.written = False


class PowerFlow(RuleBasedStateMachine):
    """One list, a producer that reads again what was lost, two consumers, one sink."""

    url: str
    numbers = itertools.count()

    @initialize()
    def begin(self) -> None:
        self.client = redis.Redis.from_url(self.url)
        self.key = f"power:{os.getpid()}:{next(self.numbers)}"
        self.consumers = [FaultyQueue(self.url, self.key) for _ in range(2)]
        self.reader = FaultyQueue(self.url, self.key)
        self.held: list[Held] = []
        self.sink: dict[str, tuple[bytes, ...]] = {}
        self.known: dict[str, Any] = {"published": [], "settled": []}
        self.syncs = 0
        self.sync()

    def teardown(self) -> None:
        if hasattr(self, "client"):
            for queue in (*self.consumers, self.reader):
                queue.close_all()
            self.wipe()
            self.client.close()

    # -- the disk -----------------------------------------------------------------------------------------------------

    @rule()
    def sync(self) -> None:
        """All that Redis was told is on its disk."""
        self.let_posted_arrive()
        self.disk = {name: self.client.dump(name) for name in self.names()}
        self.on_disk = copy.deepcopy(self.known)
        self.syncs += 1

    @rule()
    def the_power_fails(self) -> None:
        """Redis comes back with what is on its disk; the consumers, and the sink, know what they knew."""
        self.let_posted_arrive()
        self.wipe()
        for name, dumped in self.disk.items():
            assert dumped is not None
            self.client.restore(name, 0, dumped)
        self.known = copy.deepcopy(self.on_disk)
        for queue in self.consumers:
            queue.cut()

    def let_posted_arrive(self) -> None:
        """What was claimed ahead is on its way without anybody waiting for it."""
        for queue in self.consumers:
            queue.ask(("PING",))

    def names(self) -> list[bytes]:
        return list(self.client.scan_iter(match=f"*{self.key}*", count=1000))

    def wipe(self) -> None:
        if names := self.names():
            self.client.delete(*names)

    # -- what services do ---------------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 5))
    def publish(self, count: int) -> None:
        """By a session of its own: how one goes on after a power cut is the other model's affair."""
        producer = FaultyQueue(self.url, self.key)
        ids = [f"{next(self.numbers)}" for _ in range(count)]
        lines = [encode(Record({"n": n}), id=n, source="model", time="2026-01-01T00:00:00Z") for n in ids]
        producer.publish(lines)
        producer.close_all()
        self.known["published"] += lines

    @rule(who=WHO, count=st.integers(1, 4), put=st.integers(0, 3))
    def claim(self, who: int, count: int, put: int) -> None:
        if put:
            self.publish(put)
        if (claim := self.consumers[who].claim(count)) is not None:
            self.held.append(Held(who, claim, self.syncs))

    @rule(who=WHO, count=st.integers(1, 4))
    def claim_ahead(self, who: int, count: int) -> None:
        self.consumers[who].claim_ahead(count)

    @rule(who=WHO)
    def reclaim(self, who: int) -> None:
        if (claim := self.consumers[who].reclaim()) is not None:
            self.held.append(Held(who, claim, self.syncs))

    @rule(pick=PICK, count=st.integers(1, 3), put=st.integers(0, 3), forgotten=FORGOTTEN)
    @forgotten_at_times
    def fill(self, pick: int, count: int, put: int) -> None:
        held = self.one(pick)
        if put:
            self.publish(put)
        if held is None or held.claim.attempts > 1 or held.written or held.claim.id in self.sink:
            return
        try:
            if self.consumers[held.who].fill(held.claim, count):
                held.syncs = self.syncs
        except LeaseLost:
            self.held.remove(held)

    @rule(
        pick=PICK, places=st.dictionaries(st.integers(0, 5), st.sampled_from([0, 60]), min_size=1), forgotten=FORGOTTEN
    )
    @forgotten_at_times
    def delay(self, pick: int, places: dict[int, int]) -> None:
        held = self.secured(pick)
        if held is None or held.written or not held.claim.unseen:
            return
        later = {place: RetryLater(seconds) for place, seconds in places.items() if place < len(held.claim.lines)}
        if not later:
            return
        try:
            self.consumers[held.who].delay(held.claim, later)
            held.syncs = self.syncs
        except LeaseLost:
            self.held.remove(held)
        else:
            if not held.claim.lines:
                self.held.remove(held)

    @rule(pick=PICK)
    def write(self, pick: int) -> None:
        held = self.secured(pick)
        if held is None:
            return
        try:
            self.consumers[held.who].begin(held.claim)
        except LeaseLost:
            self.held.remove(held)
            return
        held.written = True
        self.sink[held.claim.id] = tuple(held.claim.lines)

    @rule(pick=PICK, dead=st.integers(0, 1), forgotten=FORGOTTEN)
    @forgotten_at_times
    def ack(self, pick: int, dead: int) -> None:
        self.write(pick)
        held = self.one(pick)
        if held is None or not held.written:
            return
        self.held.remove(held)
        lines = held.claim.lines
        letters = [DeadLetter(line, "rejected") for line in lines[: min(dead, len(lines))]]
        if letters:
            self.sink[held.claim.id] = tuple(lines[len(letters) :])
        try:
            # Each line is foreign to this list's mark.
            self.consumers[held.who].ack(held.claim, delivered=len(lines) - len(letters), dead=letters)
        except LeaseLost:
            return
        self.known["settled"] += lines[len(letters) :]

    @rule(pick=PICK, whole=st.booleans(), forgotten=FORGOTTEN)
    @forgotten_at_times
    def give_back(self, pick: int, whole: bool) -> None:
        if (held := self.one(pick)) is not None:
            self.held.remove(held)
            queue = self.consumers[held.who]
            if whole:
                queue.put_off(held.claim, RetryLater(60))
            else:
                queue.release(held.claim)

    @rule(pick=PICK, forgotten=FORGOTTEN)
    @forgotten_at_times
    def split(self, pick: int) -> None:
        """Only of a batch that the sink hasn't, and whose claim is on disk: what is isolated has been tried before."""
        held = self.secured(pick)
        if held is None or len(held.claim.lines) < 2 or held.written or held.claim.id in self.sink:
            return
        self.held.remove(held)
        try:
            self.consumers[held.who].split(held.claim, attempts=2)
        except LeaseLost:
            return

    @rule()
    def leases_run_out(self) -> None:
        for id in self.client.zrange(self.reader.keys.leases, 0, -1):
            self.client.zadd(self.reader.keys.leases, {id: 1})

    @rule(who=WHO)
    def a_consumer_dies(self, who: int) -> None:
        self.consumers[who].close_all()
        self.consumers[who] = FaultyQueue(self.url, self.key)
        self.held = [held for held in self.held if held.who != who]

    def one(self, pick: int) -> Held | None:
        """One of the claims that consumers hold; where there is none, one of them takes one."""
        if not self.held:
            self.claim(pick % 2, 2, 3)
        return self.held[pick % len(self.held)] if self.held else None

    def secured(self, pick: int) -> Held | None:
        """One once all that its consumer knows of it is on disk; None where it is not its own then: it is dropped."""
        held = self.one(pick)
        if held is None:
            return None
        if held.syncs >= self.syncs:
            self.sync()
        if not self.consumers[held.who].leases.holds(held.claim):
            self.held.remove(held)
            return None
        return held

    # -- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_lost_and_nothing_can_be_written_twice(self) -> None:
        if not hasattr(self, "disk"):
            return
        self.let_posted_arrive()
        keys = self.reader.keys
        claims = {id.decode(): msgspec.json.decode(text) for id, text in self.client.hgetall(keys.claims).items()}
        flights = {
            id: [line for part in keys.parts(id, claim["steps"]) for line in self.client.lrange(part, 0, -1)]
            for id, claim in claims.items()
        }
        for id, claim in claims.items():
            assert len(flights[id]) == claim["records"], (id, claim)
        places = Counter(self.known["settled"])
        places.update(line for lines in flights.values() for line in lines)
        places.update(self.client.lrange(keys.ready, 0, -1))
        places.update(self.client.lrange(keys.woken, 0, -1))
        dead = [letter[b"record"] for _, letter in self.client.xrange(keys.dead)]
        places.update(dead)
        assert places == Counter(self.known["published"])
        settled = set(self.known["settled"])
        for id, lines in self.sink.items():
            assert settled.issuperset(lines) or set(lines) <= {*flights.get(id, ()), *settled}, f"{id} comes again"
        written = Counter(line for lines in self.sink.values() for line in lines)
        assert not [line for line, count in written.items() if count > 1]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("share", range(SHARES))
def test_whatever_redis_forgets_nothing_is_lost_and_nothing_is_written_twice(redis_url: str, share: int) -> None:
    run_sequences(PowerFlow, redis_url, share)
