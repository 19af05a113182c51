"""What the frontier of a crawl promises to the spiders that share it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest
import redis

from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.queue.frontier import (
    CrawlBooks,
    CrawlGone,
    Frontier,
    Pace,
    Politeness,
    Settlement,
    crawl_books,
    crawls_of,
)
from millrace_pipeline.queue.frontier.dead import DeadRequests
from millrace_pipeline.queue.frontier.steering import pause_crawl, restart_crawl, resume_crawl, stop_crawl
from millrace_pipeline.queue.pausing import pause, resume
from tests.conftest import eventually
from tests.frontiers import frontier, page
from tests.queues import Queue


@pytest.fixture
def one(queue: Queue) -> Frontier:
    return frontier(queue)


@pytest.fixture
def other(redis_url: str, key: str) -> Iterator[Frontier]:
    session = Queue(redis_url, key)
    yield frontier(session)
    session.close_all()


def books(frontier: Frontier) -> CrawlBooks:
    found = crawl_books(frontier.session, frontier.name)
    assert found is not None
    assert found.difference == 0
    return found


def urls(frontier: Frontier, want: int = 10) -> list[str]:
    return [claimed.text.decode()[8:-2] for claimed in frontier.claim(want).requests]


def leases_run_out(frontier: Frontier, client: redis.Redis) -> None:
    for place in client.zrange(frontier.keys.leases, 0, -1):
        client.zadd(frontier.keys.leases, {place: 1})


def test_a_crawl_begins_once_whoever_comes_first(one: Frontier, other: Frontier) -> None:
    assert not one.begin({"spider": "late"}, [page("x")])
    assert books(other).about == {"spider": "test"}
    assert crawls_of(one.session) == ["shared"]


def test_two_spiders_never_hold_the_same_request(one: Frontier, other: Frontier) -> None:
    assert one.offer([page(f"{n}", slot=f"host{n}") for n in range(20)]) == 20
    first, second = urls(one, 8), urls(other, 20)
    assert sorted(first + second) == sorted(f"{n}" for n in range(20))
    assert books(one).in_flight == 20


def test_what_was_seen_is_not_put_again_unless_it_is_to_be(one: Frontier, other: Frontier) -> None:
    assert one.offer([page("a"), page("b"), page("a")]) == 2
    assert other.offer([page("b"), page("c"), page("a", again=True)]) == 2
    found = books(one)
    assert (found.found, found.duplicates, found.seen) == (4, 2, 3)


def test_a_page_is_settled_in_one_step_with_all_it_gave(one: Frontier, client: redis.Redis, key: str) -> None:
    one.offer([page("a")])
    (claimed,) = one.claim(1).requests
    dead = [DeadLetter(b"<object>", "no JSON")]
    settled = Settlement(claimed, "done", [b'{"n":1}', b'{"n":2}'], dead, [page("b"), page("a")], dropped=3)
    assert one.settle([settled]) == [True]
    assert client.lrange(key, 0, -1) == [b'{"n":2}', b'{"n":1}']
    assert [letter[b"record"] for _, letter in client.xrange(one.session.keys.dead)] == [b"<object>"]
    found = books(one)
    assert (found.found, found.done, found.waiting, found.items, found.items_dropped) == (2, 1, 1, 2, 3)
    assert Queue(_url(client), key).books().published == 3
    assert urls(one) == ["b"]


def test_a_spider_that_lost_its_lease_puts_nothing(one: Frontier, other: Frontier, client: redis.Redis) -> None:
    one.offer([page("a")])
    (mine,) = one.claim(1).requests
    leases_run_out(one, client)
    assert other.claim(1).requests[0].attempts == 2
    assert one.renew([mine]) == [False]
    assert one.settle([Settlement(mine, "done", [b"{}"], requests=[page("b")])]) == [False]
    assert client.llen(one.session.keys.ready) == 0
    assert books(one).found == 1
    assert one.settle([]) == []


def test_what_kills_its_spiders_is_set_aside(one: Frontier, client: redis.Redis) -> None:
    one.offer([page("killer"), page("good")])
    for _ in range(3):
        assert "killer" in urls(one)
        leases_run_out(one, client)
    assert urls(one) == []
    dead = {letter.url: letter for letter in DeadRequests(one.session, "shared")}
    assert dead.keys() == {"killer", "good"}
    assert dead["killer"].kind == "lease"
    assert dead["killer"].attempts == 3
    assert books(one).dead == 2


def test_a_request_given_back_has_no_attempt_counted(one: Frontier) -> None:
    one.offer([page("a")])
    for _ in range(5):
        (claimed,) = one.claim(1).requests
        assert claimed.attempts == 1
        assert one.settle([Settlement(claimed, "back")]) == [True]


def test_a_delayed_request_waits_for_its_time(one: Frontier, client: redis.Redis) -> None:
    one.offer([page("a", delay_ms=3_600_000), page("b")])
    (claimed,) = one.claim(5).requests
    assert one.settle([Settlement(claimed, "later", later_ms=3_600_000)]) == [True]
    answer = one.claim(5)
    assert (answer.requests, answer.delayed, answer.over) == ([], 2, False)
    for place in client.zrange(one.keys.delayed, 0, -1):
        client.zadd(one.keys.delayed, {place: 1})
    assert sorted(claimed.attempts for claimed in one.claim(5).requests) == [1, 2]


def test_of_one_host_the_highest_priority_then_the_first_is_taken(one: Frontier) -> None:
    one.offer([page("low", priority=-5), page("b"), page("c"), page("high", priority=3), page("top", priority=10**10)])
    assert urls(one) == ["top", "high", "b", "c", "low"]


def test_no_more_requests_of_a_host_are_out_than_its_concurrency(queue: Queue, other: Frontier) -> None:
    one = frontier(queue, politeness=Politeness(Pace(concurrency=2), {"own": Pace(concurrency=1)}))
    one.offer([page(f"{slot}{n}", slot=slot) for slot in ("own", "usual") for n in range(5)])
    answer = one.claim(10)
    assert sorted(claimed.slot for claimed in answer.requests) == ["own", "usual", "usual"]
    assert one.claim(10).requests == []
    one.settle([Settlement(answer.requests[0], "done")])
    assert [claimed.slot for claimed in one.claim(10).requests] == [answer.requests[0].slot]
    assert books(other).in_flight == 3


def test_a_host_with_a_delay_is_asked_once_in_it_whoever_asks(queue: Queue, redis_url: str, key: str) -> None:
    polite = Politeness(Pace(delay=0.2))
    session = Queue(redis_url, key)
    spiders = [frontier(queue, politeness=polite), frontier(session, politeness=polite)]
    spiders[0].offer([page(f"{n}") for n in range(4)])
    moments: list[int] = []

    def ask() -> bool:
        for spider in spiders:
            claimed = spider.claim(3).requests
            moments.extend(_now(spider) for _ in claimed)
            assert spider.say_asked(claimed) == [True] * len(claimed)
        return len(moments) == 4

    eventually(ask)
    assert min(later - sooner for sooner, later in itertools.pairwise(moments)) >= 190
    session.close_all()


def test_a_hosts_delay_runs_from_when_it_was_asked(one: Frontier, other: Frontier, client: redis.Redis) -> None:
    polite = frontier(one.session, politeness=Politeness(Pace(delay=0.2)))
    polite.offer([page("a"), page("b"), page("c"), page("else", slot="elsewhere")])
    claimed = {one.slot: one for one in polite.claim(9).requests}
    assert claimed.keys() == {"host", "elsewhere"}
    assert client.hget(polite.keys.next, "host") is None  # nobody knows yet when it will be asked
    assert polite.claim(9).requests == other.claim(9).requests == []
    before = _now(polite)
    assert polite.step([], 0, [claimed["host"]])[1].requests == []
    assert int(client.hget(polite.keys.next, "host") or 0) > before + 200
    eventually(lambda: other.claim(9).requests)
    assert _now(polite) > before + 200
    assert polite.settle([Settlement(claimed["elsewhere"], "back")]) == [True]
    assert int(client.hget(polite.keys.next, "elsewhere") or 0) > before + 200


def test_where_redis_forgot_who_was_asked_a_host_is_left_alone_for_its_delay(queue: Queue, client: redis.Redis) -> None:
    polite = frontier(queue, politeness=Politeness(Pace(delay=0.2)))
    polite.offer([page("a"), page("b")])
    names = [key for key in polite.keys.all if client.exists(key)]
    before = {name: client.dump(name) for name in names}
    polite.say_asked(polite.claim(9).requests)
    client.delete(*polite.keys.all)
    for name, dumped in before.items():
        client.restore(name, 0, dumped or b"")
    queue._outage.begins(OSError("away"))
    queue._outage.ends()
    since = _now(polite)
    answer = polite.claim(9)
    assert answer.requests == []
    assert 0 < answer.due_ms <= 201
    eventually(lambda: polite.claim(9).requests)
    assert _now(polite) > since + 200


@pytest.mark.parametrize("outcome", ["done", "part", "later", "back", "lost"])
def test_a_hosts_turn_comes_when_who_had_it_is_settled_or_lost(queue: Queue, client: redis.Redis, outcome: str) -> None:
    one = frontier(queue, politeness=Politeness(Pace(delay=0.05)))
    one.offer([page("a"), page("b")])
    (mine,) = one.claim(9).requests
    if outcome == "lost":
        leases_run_out(one, client)
    else:
        assert one.settle([Settlement(mine, outcome, later_ms=3_600_000)]) == [True]  # type: ignore[arg-type]
    answer = one.claim(9)
    assert answer.requests == []
    assert 0 < answer.due_ms <= 51
    eventually(lambda: one.claim(9).requests)


def test_a_lease_that_is_renewed_keeps_its_hosts_turn(queue: Queue, client: redis.Redis) -> None:
    one = frontier(queue, politeness=Politeness(Pace(delay=0.05)))
    one.offer([page("a"), page("b")])
    (mine,) = one.claim(9).requests
    client.zadd(one.keys.turns, {"host": 1})  # as where the lease was renewed since
    assert one.claim(9).requests == []
    assert client.zscore(one.keys.turns, "host") == client.zscore(one.keys.leases, mine.place)
    leases_run_out(one, client)
    one.claim(9)
    eventually(lambda: one.claim(9).requests)
    assert one.say_asked([mine]) == [False]


def test_a_host_that_asks_to_wait_is_left_alone_by_all(one: Frontier, other: Frontier) -> None:
    one.offer([page("a"), page("b")])
    (claimed,) = one.claim(1).requests
    there = page("else", slot="elsewhere")
    one.settle([Settlement(claimed, "done", hold_ms=3_600_000, requests=[page("c"), there])])
    assert urls(other) == ["else"]
    assert other.claim(9).due_ms > 0


def test_a_delay_that_one_spider_finds_holds_for_all(one: Frontier, other: Frontier) -> None:
    one.offer([page("a"), page("b"), page("c")])
    (claimed,) = one.claim(1).requests
    one.settle([Settlement(claimed, "done", delay_ms=3_600_000)])
    assert len(other.claim(9).requests) == 1
    assert other.claim(9).requests == []


def test_a_page_in_parts_goes_on_after_the_last_that_is_put(
    one: Frontier, other: Frontier, client: redis.Redis
) -> None:
    one.offer([page("a")])
    (claimed,) = one.claim(1).requests
    one.settle([Settlement(claimed, "part", [b"{}"] * 3, outputs=3), Settlement(claimed, "part", [b"{}"], outputs=4)])
    leases_run_out(one, client)
    (again,) = other.claim(1).requests
    assert (again.outputs, again.attempts) == (4, 2)
    other.settle([Settlement(again, "done", [b"{}"], outputs=5)])
    assert (books(one).items, client.hlen(one.keys.parts)) == (5, 0)


def test_a_dead_request_keeps_what_was_put_and_is_replayed_or_dropped(one: Frontier, client: redis.Redis) -> None:
    one.offer([page("a"), page("b")])
    why = {"reason": "ValueError: x", "kind": "ValueError", "traceback": "…"}
    one.settle([Settlement(claimed, "dead", [b"{}"], outputs=1, why=why) for claimed in one.claim(2).requests])
    dead = DeadRequests(one.session, "shared")
    first, second = sorted(dead, key=lambda letter: letter.url)
    assert (first.reason, first.attempts, first.traceback, len(dead)) == ("ValueError: x", 1, "…", 2)
    assert dead.replay([first.number]) == 1
    assert dead.drop([second.number, "77"]) == 1
    assert dead.drop([second.number]) == 0
    (again,) = one.claim(2).requests
    assert (again.attempts, again.outputs) == (1, 1)
    assert (books(one).dead, books(one).dropped) == (0, 1)


@pytest.mark.parametrize("who", ["flow", "crawl"])
def test_a_pause_gives_nothing_out_and_takes_no_lease_away(one: Frontier, client: redis.Redis, who: str) -> None:
    one.offer([page("a"), page("b")])
    (claimed,) = one.claim(1).requests
    pause(one.session, ["producers"]) if who == "flow" else pause_crawl(one.session, "shared", note="night")
    leases_run_out(one, client)
    answer = one.claim(5)
    assert answer.requests == []
    assert answer.paused is not None
    assert one.settle([Settlement(claimed, "done")]) == [True]
    resume(one.session, ["producers"]) if who == "flow" else resume_crawl(one.session, "shared")
    assert urls(one) == ["b"]


def test_a_stopped_crawl_says_why_and_goes_on_when_told(one: Frontier) -> None:
    one.offer([page("a")])
    assert stop_crawl(one.session, "shared", "closespider_itemcount")
    assert not stop_crawl(one.session, "shared", "another")
    assert one.claim(5).stopped == "closespider_itemcount"
    assert restart_crawl(one.session, "shared")
    assert urls(one) == ["a"]


def test_a_crawl_is_over_when_nothing_waits_is_out_or_is_delayed(one: Frontier, queue: Queue) -> None:
    assert one.claim(1).over
    one.offer([page("a")])
    answer = one.claim(1)
    assert not answer.over
    one.settle([Settlement(answer.requests[0], "done")])
    assert one.claim(1).over
    gone = frontier(queue, crawl="another")
    assert sorted(crawls_of(queue)) == ["another", "shared"]
    assert gone.claim(1).over


def test_a_crawl_that_was_never_begun_takes_no_requests(queue: Queue) -> None:
    with pytest.raises(CrawlGone):
        Frontier(queue, "nobody", politeness=Politeness()).offer([page("a")])
    assert crawl_books(queue, "nobody") is None


def test_what_redis_has_forgotten_is_fetched_again(one: Frontier, client: redis.Redis) -> None:
    one.offer([page("a"), page("b")])
    first, second = one.claim(2).requests
    one.settle([Settlement(first, "done")])
    before = {name: client.dump(name) for name in [*one.keys.all, one.session.key] if client.exists(name)}
    one.settle([Settlement(second, "done", [b"{}"])])
    for name, dumped in before.items():
        client.restore(name, 0, dumped, replace=True)
    client.delete(one.session.keys.ready)
    one.offer([page("c")])
    (third,) = one.claim(1).requests
    assert one.settle([Settlement(third, "done")]) == [True]
    leases_run_out(one, client)
    assert urls(one) == ["b"]


@pytest.mark.parametrize("many", [1, 31, 33, 1000, 20_000])
def test_every_fingerprint_is_known_again_however_many_there_are(one: Frontier, many: int) -> None:
    requests = [page(f"{n}") for n in range(many)]
    assert one.offer(requests) == many
    assert one.offer(requests) == 0
    assert books(one).seen == many


def test_a_fingerprint_costs_sixteen_bytes_at_most(one: Frontier, client: redis.Redis) -> None:
    many = int(os.environ.get("MILLRACE_FINGERPRINTS", "60000"))
    for at in range(0, many, 1000):
        one.offer([page(f"{n}") for n in range(at, at + 1000)])
    assert client.memory_usage(one.keys.seen, samples=0) / many <= 16  # type: ignore[operator]


def _now(frontier: Frontier) -> int:
    seconds, micros = frontier.session.ask(("TIME",))[0]
    return int(seconds) * 1000 + int(micros) // 1000


def _url(client: redis.Redis) -> str:
    place = client.connection_pool.connection_kwargs
    userinfo = f":{place['password']}@" if place.get("password") else ""
    return f"redis://{userinfo}{place['host']}:{place['port']}/{place.get('db', 0)}"
