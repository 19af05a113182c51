"""The frontier against a model of it: any order of verbs, connections that drop anywhere, late arrivals and crashes.

Several spiders share a crawl on a real server. After every step the books must balance, each request that was found
must be in exactly one place, and the list must hold the items of the pages that were settled, each once.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter

import msgspec
import pytest
import redis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from millrace_pipeline.queue.changes import By
from millrace_pipeline.queue.frontier import Claimed, Frontier, Pace, Politeness, Settlement, Waiting, crawl_books
from millrace_pipeline.queue.frontier.dead import DeadRequests
from millrace_pipeline.queue.frontier.settlement import Outcome
from millrace_pipeline.queue.frontier.steering import pause_crawl, restart_crawl, resume_crawl, stop_crawl
from tests.faults.faulty import FAULTS, Fault, FaultyQueue
from tests.faults.sequences import SHARES, run_sequences
from tests.frontiers import frontier, page

URLS = st.lists(st.integers(0, 30), max_size=4)
SOMEBODY = By("operator", "somebody", "here")
SPIDERS = 3


class Crawl(RuleBasedStateMachine):
    """One crawl, three spiders, one list."""

    url: str
    numbers = itertools.count()

    @initialize()
    def begin(self) -> None:
        self.client = redis.Redis.from_url(self.url)
        self.key = f"crawl:{os.getpid()}:{next(self.numbers)}"
        self.sessions = [FaultyQueue(self.url, self.key) for _ in range(SPIDERS)]
        self.spiders = [self.spider(session) for session in self.sessions]
        self.reader = FaultyQueue(self.url, self.key)
        self.keys = self.spiders[0].keys
        self.known: set[bytes] = set()  # fingerprints
        self.found: Counter[bytes] = Counter()
        self.done: Counter[bytes] = Counter()
        self.items: list[bytes] = []
        self.claims: list[tuple[int, Claimed]] = []
        self.outputs: Counter[str] = Counter()

    def spider(self, session: FaultyQueue) -> Frontier:
        return frontier(session, seconds=3600, max_attempts=3, politeness=Politeness(own={"host1": Pace(0.001)}))

    def teardown(self) -> None:
        if hasattr(self, "client"):
            for session in (*self.sessions, self.reader):
                session.close_all()
            for left in self.client.scan_iter(match=f"*{self.key}*", count=1000):
                self.client.delete(left)
            self.client.close()

    def requests(self, urls: list[int], delay_ms: int = 0) -> list[Waiting]:
        """Requests for these; each tenth is put whether it was seen or not."""
        return [page(f"{n}", slot=f"host{n % 3}", again=n % 10 == 0, delay_ms=delay_ms) for n in urls]

    def are_put(self, requests: list[Waiting]) -> None:
        for request in requests:
            if not request.print or request.print not in self.known:
                self.found[request.text] += 1
            self.known.add(request.print)

    @rule(who=st.integers(0, SPIDERS - 1), urls=URLS, faults=FAULTS)
    def offer(self, who: int, urls: list[int], faults: list[Fault]) -> None:
        requests = self.requests(urls)
        self.sessions[who].suffer(faults)
        self.spiders[who].offer(requests)
        self.are_put(requests)

    @rule(who=st.integers(0, SPIDERS - 1), want=st.integers(1, 5), urls=URLS, faults=FAULTS)
    def claim(self, who: int, want: int, urls: list[int], faults: list[Fault]) -> None:
        self.offer(who, urls, [])
        self.sessions[who].suffer(faults)
        self.claims += [(who, claimed) for claimed in self.spiders[who].claim(want).requests]

    @rule(
        pick=st.integers(0, 9),
        outcome=st.sampled_from(["done", "done", "part", "later", "dead", "back"]),
        items=st.integers(0, 3),
        urls=URLS,
        delay_ms=st.sampled_from([0, 3_600_000]),
        want=st.integers(0, 3),
        faults=FAULTS,
    )
    def settle(
        self, pick: int, outcome: Outcome, items: int, urls: list[int], delay_ms: int, want: int, faults: list[Fault]
    ) -> None:
        if not self.claims:
            return
        who, claimed = self.claims[pick % len(self.claims)]
        if outcome != "part":
            self.claims.remove((who, claimed))
        requests = self.requests(urls, delay_ms)
        lines = [b'{"item":%d}' % next(self.numbers) for _ in range(items)]
        outputs = self.outputs[claimed.number] + items + len(urls)
        settled = Settlement(
            claimed, outcome, lines, requests=requests, outputs=outputs, later_ms=delay_ms, why={"reason": "x"}
        )
        ours = self.client.hget(self.keys.tokens, claimed.number) == claimed.token.encode()
        self.sessions[who].suffer(faults)
        assert self.spiders[who].settle([settled]) == [ours]
        if ours:
            self.are_put(requests)
            self.items += lines
            self.outputs[claimed.number] = outputs
            if outcome == "done":
                self.done[claimed.text] += 1
        self.claim(who, want + 1, [], [])

    @rule(who=st.integers(0, SPIDERS - 1), faults=FAULTS)
    def renew(self, who: int, faults: list[Fault]) -> None:
        held = [claimed for holder, claimed in self.claims if holder == who]
        self.sessions[who].suffer(faults)
        tokens = [self.client.hget(self.keys.tokens, claimed.number) for claimed in held]
        ours = [token == claimed.token.encode() for token, claimed in zip(tokens, held, strict=True)]
        assert self.spiders[who].renew(held) == ours

    @rule(who=st.integers(0, SPIDERS - 1), faults=FAULTS)
    def hosts_are_asked(self, who: int, faults: list[Fault]) -> None:
        held = [claimed for holder, claimed in self.claims if holder == who]
        self.sessions[who].suffer(faults)
        tokens = [self.client.hget(self.keys.tokens, claimed.number) for claimed in held]
        ours = [token == claimed.token.encode() for token, claimed in zip(tokens, held, strict=True)]
        assert self.spiders[who].say_asked(held) == ours

    @rule()
    def leases_run_out_and_what_is_delayed_is_due(self) -> None:
        for name in (self.keys.leases, self.keys.delayed):
            for place in self.client.zrange(name, 0, -1):
                self.client.zadd(name, {place: 1})

    @rule(who=st.integers(0, SPIDERS - 1))
    def a_spider_dies(self, who: int) -> None:
        self.sessions[who].arrive()
        self.sessions[who] = FaultyQueue(self.url, self.key)
        self.spiders[who] = self.spider(self.sessions[who])
        self.claims = [(holder, claimed) for holder, claimed in self.claims if holder != who]

    @rule()
    def the_dead_are_replayed(self) -> None:
        dead = DeadRequests(self.reader, "shared", SOMEBODY)
        numbers = [letter.number for letter in dead]
        if numbers:
            assert dead.replay(numbers) == len(numbers)

    @rule(who=st.integers(0, SPIDERS - 1), stop=st.booleans(), faults=FAULTS)
    def nothing_is_given_out_meanwhile(self, who: int, stop: bool, faults: list[Fault]) -> None:
        if stop:
            stop_crawl(self.reader, "shared", "enough", by=SOMEBODY)
        else:
            pause_crawl(self.reader, "shared", by=SOMEBODY)
        before = self.client.zcard(self.keys.leases)
        self.sessions[who].suffer(faults)
        self.claims += [(who, claimed) for claimed in self.spiders[who].claim(3).requests]
        assert self.client.zcard(self.keys.leases) == before
        (restart_crawl if stop else resume_crawl)(self.reader, "shared", by=SOMEBODY)

    @rule()
    def what_was_on_its_way_arrives(self) -> None:
        for session in self.sessions:
            session.arrive()

    @rule()
    def scripts_are_flushed(self) -> None:
        self.client.script_flush()

    @invariant()
    def every_request_is_in_one_place_and_the_books_balance(self) -> None:
        if not hasattr(self, "client"):
            return
        books = crawl_books(self.reader, "shared")
        assert books is not None
        assert books.difference == 0, books
        assert books.found == self.found.total()
        assert self.client.hlen(self.keys.tokens) == books.in_flight
        places = [
            place
            for name in (self.keys.waiting, self.keys.leases, self.keys.delayed)
            for place in self.client.zrange(name, 0, -1)
        ]
        places += [msgspec.json.decode(why)["place"].encode() for why in self.client.hvals(self.keys.dead)]
        texts = [self.client.hget(self.keys.requests, place[-15:]) for place in places]
        assert Counter(texts) + self.done == self.found
        turn = self.client.hget(self.keys.next, "host1\0")
        assert turn is None or self.client.zscore(self.keys.leases, b"host1\0" + turn.partition(b":")[0])
        busy = sum(map(int, self.client.hvals(self.keys.busy)))
        assert busy == books.in_flight

    @invariant()
    def the_list_holds_each_item_of_a_settled_page_once(self) -> None:
        if hasattr(self, "client"):
            assert Counter(self.client.lrange(self.key, 0, -1)) == Counter(self.items)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("share", range(SHARES))
def test_any_order_of_spiders_faults_and_crashes_loses_and_doubles_nothing(redis_url: str, share: int) -> None:
    run_sequences(Crawl, redis_url, share)
