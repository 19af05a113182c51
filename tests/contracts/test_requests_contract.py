"""What every request to Redis keeps to, however many records it is about: no more arguments than any service takes, and
keys of one slot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from millrace_pipeline.envelope import DeadLetter, Record, encode
from millrace_pipeline.errors import RetryLater
from millrace_pipeline.moment import now
from millrace_pipeline.queue import Done
from millrace_pipeline.queue.frontier import Pace, Politeness, Settlement, crawl_books
from millrace_pipeline.queue.frontier.dead import DeadRequests
from millrace_pipeline.queue.frontier.steering import pause_crawl
from millrace_pipeline.queue.frontier.walk import every_request
from millrace_pipeline.queue.walk import published_at
from millrace_pipeline.redis import connection
from millrace_pipeline.redis.external import ExternalStream
from millrace_pipeline.redis.lots import in_lots
from millrace_pipeline.redis.remote import RemoteRedis
from millrace_pipeline.redis.scripts import _PARTS, SCRIPTS
from tests.frontiers import frontier, page
from tests.queues import Queue

ARGUMENTS = 3_999
"""ElastiCache Serverless refuses a request of one more."""
MANY = 9_000
OFTEN = re.compile(rb"#ARGV")
SMALL = {"alerts", "crawl_steer", "history", "mark", "pause", "resume"}
"""Scripts with a field, a note or a part each, of which no flow has more than some hundred."""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """Every request that is sent; each is looked at when the test is over."""
    requests: list[tuple[Any, ...]] = []
    packed = connection.packed

    def noted(commands: Any) -> bytes:
        requests.extend(commands)
        return packed(commands)

    monkeypatch.setattr(connection, "packed", noted)
    yield requests
    assert requests
    for request in requests:
        assert len(request) <= ARGUMENTS, (request[0], len(request))


def lines(count: int, first: int = 0) -> list[bytes]:
    return [encode(Record({"n": n}), id=str(n), source="test", time=now()) for n in range(first, first + count)]


def test_a_publish_of_many_records(queue: Queue, sent: list[tuple[Any, ...]]) -> None:
    ids = [str(n) for n in range(MANY)]
    envelopes = lines(MANY)
    misfits = range(0, MANY, 2)
    dead = [DeadLetter(b"x", "bad")] * MANY
    assert queue.publish(envelopes, ids=ids, variants=set(misfits), dead=dead, seen_seconds=60).records == MANY
    again = queue.publish(envelopes, ids=ids, seen_seconds=60)
    assert (again.records, again.duplicates) == (0, MANY)
    books = queue.books()
    assert (books.ready, books.variants, books.dead, books.difference) == (MANY // 2, MANY // 2, MANY, 0)
    (newest,) = queue.ask(("LINDEX", queue.keys.ready, 0))
    assert newest == envelopes[MANY - 1]  # in turn, from one lot to the next
    assert len(published_at(queue, ids)) == MANY
    assert published_at(queue, []) == {}


def test_an_ack_with_many_dead_letters_and_writes(queue: Queue, sent: list[tuple[Any, ...]]) -> None:
    queue.publish(lines(MANY))
    claim = queue.claim(MANY)
    assert claim is not None
    out = f"{{{queue.keys.ready}}}:out"
    writes = [("XADD", out, "*", "id", str(n), "data", b"\r\n\x00 9") for n in range(MANY // 2)]
    dead = [DeadLetter(line, "bad") for line in claim.lines[MANY // 2 :]]
    queue.ack(claim, delivered=MANY // 2, dead=dead, writes=writes)
    books = queue.books()
    assert (books.delivered, books.dead, books.lag, books.difference) == (MANY // 2, MANY // 2, 0, 0)
    assert queue.ask(("XLEN", out)) == [MANY // 2]
    ((_, fields),) = queue.ask(("XREVRANGE", queue.keys.dead, "+", "-", "COUNT", 1))[0]
    assert dead[-1].original in fields


def test_a_settle_with_many_dead_letters(queue: Queue, sent: list[tuple[Any, ...]]) -> None:
    queue.publish(lines(MANY))
    claim = queue.claim(MANY)
    assert claim is not None
    dead = [DeadLetter(line, "bad") for line in claim.lines]
    queue.settle([Done(claim, MANY, 0, dead=dead)], name="reader", state={"at": 1})
    assert queue.books().dead == MANY


def test_a_delay_of_many_records(queue: Queue, sent: list[tuple[Any, ...]]) -> None:
    queue.publish(lines(MANY))
    claim = queue.claim(MANY)
    assert claim is not None
    queue.delay(claim, {place: RetryLater(60 + place % 3) for place in range(0, MANY, 2)})
    assert len(claim.lines) == MANY // 2
    books = queue.books()
    assert (books.delayed, books.in_flight) == (MANY // 2, MANY // 2)
    queue.split(claim, attempts=1)


def test_a_delivery_elsewhere_of_many_records(queue: Queue, redis_url: str, sent: list[tuple[Any, ...]]) -> None:
    out = f"{queue.keys.ready}-out"
    elsewhere = RemoteRedis(redis_url, out)
    writes = [("XADD", out, "*", "id", str(n), "data", "x") for n in range(MANY)]
    for _ in range(2):
        elsewhere.write_once("b", writes, remember_seconds=60)
    elsewhere.close()
    assert queue.ask(("XLEN", out)) == [MANY]


def test_a_group_that_holds_many_entries(
    queue: Queue, redis_url: str, client: redis.Redis, sent: list[tuple[Any, ...]]
) -> None:
    key = f"{queue.keys.ready}-stream"
    ids = [client.xadd(key, {"n": n}).decode() for n in range(MANY)]
    stream = ExternalStream(redis_url, key, "group", "me")
    stream.join("0")
    assert len(stream.fresh(MANY, 1)) == MANY
    stream.hold(ids)
    stream.give_back(ids)
    stream.acknowledge(ids)
    assert client.xpending(key, "group")["pending"] == 0
    stream.close()


def test_a_crawl_with_many_requests_hosts_and_items(queue: Queue, sent: list[tuple[Any, ...]]) -> None:
    paces = {f"host{n}": Pace(0.0, 0.0, 1) for n in range(MANY)}
    spider = frontier(queue, politeness=Politeness(Pace(0.0, 0.0, 0), paces))
    assert spider.offer([page(str(n)) for n in range(MANY)]) == MANY
    assert spider.claim(0).waiting == MANY
    held = spider.claim(1000).requests
    assert spider.renew(held * 9) == [True] * 9000
    first, *others = held
    links = [page(f"link {n}") for n in range(MANY)]
    dead = [DeadLetter(b"\r\n\x00 9", "bad")] * MANY
    assert spider.settle([Settlement(first, "done", lines(MANY), dead, links)]) == [True]
    assert spider.settle([Settlement(one, "dead", why={"reason": "bad"}) for one in others]) == [True] * len(others)
    books = crawl_books(queue, "shared")
    assert books is not None
    counts = (books.found, books.done, books.waiting, books.dead, books.items, books.difference)
    assert counts == (2 * MANY, 1, 2 * MANY - 1000, 999, MANY, 0)
    assert (queue.books().ready, queue.books().dead) == (MANY, MANY)
    letters = DeadRequests(queue, "shared")
    assert letters.replay([letter.number for letter in letters]) == 999
    assert len(list(every_request(queue, "shared"))) == 2 * MANY - 1


def test_keys_of_a_request_are_of_one_slot(queue: Queue, sent: list[tuple[Any, ...]]) -> None:
    queue.publish(lines(20), ids=[str(n) for n in range(20)], seen_seconds=60, checkpoint=("s", 1))
    queue.wait(1)
    claim = queue.claim(5)
    assert claim is not None
    queue.fill(claim, 5)
    queue.delay(claim, {0: RetryLater(5)})
    queue.ack(claim, delivered=len(claim.lines))
    spider = frontier(queue, start=True)
    spider.offer([page("a"), page("b")])
    (one, *_) = spider.claim(1).requests
    spider.renew([one])
    spider.settle([Settlement(one, "done")])
    assert pause_crawl(queue, "shared")
    watched = [request for request in sent if request[0] == "WATCH"]
    scripts = [request for request in sent if request[0] == "EVALSHA"]
    assert len(watched) > 1
    assert len(scripts) > 3
    for keys in [*(request[1:] for request in watched), *(request[3 : 3 + request[2]] for request in scripts)]:
        assert len({key_slot(str(key).encode()) for key in keys}) == 1, keys


@pytest.mark.parametrize("name", sorted(name for name, text in SCRIPTS.items() if OFTEN.search(text)))
def test_a_script_of_any_number_of_arguments_takes_them_packed(name: str) -> None:
    assert (_PARTS["arguments"] in SCRIPTS[name]) != (name in SMALL)


def test_lots_keep_together_what_belongs_together() -> None:
    found = list(in_lots(("ZADD", "key"), range(2 * MANY), ("end",), size=2))
    assert [word for command in found for word in command[2:-1]] == list(range(2 * MANY))
    assert all(command[0] == "ZADD" and command[-1] == "end" and len(command) % 2 for command in found)
    assert max(map(len, found)) <= ARGUMENTS
