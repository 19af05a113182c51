"""What every script of the queue promises: it is carried out, or it fails and nothing has changed.

Redis undoes nothing of a script that fails half way, so all that can fail must do so before the first write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pytest
import redis

from millrace_pipeline.envelope import DeadLetter, Record, encode
from millrace_pipeline.errors import RetryLater
from millrace_pipeline.flows.project import Project
from millrace_pipeline.moment import now
from millrace_pipeline.queue import Claim, DeadLetters, Done, Variants
from millrace_pipeline.queue.alerts import Board
from millrace_pipeline.queue.changes import By
from millrace_pipeline.queue.checkpoints import move
from millrace_pipeline.queue.frontier import Claimed, Frontier, Pace, Politeness, Settlement
from millrace_pipeline.queue.frontier.dead import DeadRequests
from millrace_pipeline.queue.frontier.steering import stop_crawl
from millrace_pipeline.queue.history import History
from millrace_pipeline.queue.marks import mark
from millrace_pipeline.queue.pausing import pause, resume
from millrace_pipeline.queue.presence import Doing, beat
from millrace_pipeline.queue.purging import purge, requeue
from millrace_pipeline.redis.connection import Connection
from millrace_pipeline.redis.external import ExternalList
from millrace_pipeline.redis.remote import RemoteRedis
from millrace_pipeline.redis.scripts import SCRIPTS
from tests.frontiers import frontier, page
from tests.queues import Queue

Verb: TypeAlias = Callable[[], object]
Call: TypeAlias = tuple[list[str], list[Any]]

BAD = ("x", "", "-0", "1.5", "1e+15", "nan", "-1")
"""What may stand where a number should."""


class Held(BaseException):
    """A script was about to be sent; raised in its stead."""


def lines(*numbers: int) -> list[bytes]:
    return [encode(Record({"n": n}), id=str(n), source="test", time=now()) for n in numbers]


def url(queue: Queue) -> str:
    with queue.client() as client:
        place = client.connection_pool.connection_kwargs
    userinfo = f"{place.get('username') or ''}:{place['password']}@" if place.get("password") else ""
    return f"redis://{userinfo}{place['host']}:{place['port']}/{place.get('db', 0)}"


def claimed(queue: Queue) -> Claim:
    queue.publish(lines(*range(8)))
    claim = queue.claim(4)
    assert claim is not None
    return claim


def letters(queue: Queue) -> DeadLetters:
    queue.publish(lines(1), dead=[DeadLetter(b'{"by": "hand"}', "foreign"), DeadLetter(lines(2)[0], "ours")])
    return DeadLetters(queue)


def variants(queue: Queue) -> Variants:
    queue.publish([b'%b,"misfit":"too long"}' % lines(1)[0][:-1]], variants=[0])
    return Variants(queue)


def writes(key: str, claim: Claim) -> list[tuple[Any, ...]]:
    return [
        ("LPUSH", f"{{{key}}}:list", *claim.lines),
        ("RPUSH", f"{{{key}}}:tail", "x"),
        ("XADD", f"{{{key}}}:stream", "MAXLEN", "~", 9, "*", "id", "1", "data", "x"),
        ("HSET", f"{{{key}}}:hash", "name", "x"),
    ]


def ack(queue: Queue) -> Verb:
    claim = claimed(queue)
    queue.fill(claim, 2)
    dead = [DeadLetter(claim.lines[0], "bad")]
    return lambda: queue.ack(claim, delivered=5, foreign=1, dead=dead, writes=writes(queue.keys.ready, claim))


def present(queue: Queue) -> Verb:
    beat(queue, "here", Doing("here", 2.0))
    return lambda: beat(queue, "there", Doing("there", 2.0), look=True)


def begin(queue: Queue) -> Verb:
    claimed(queue)
    queue.claim_ahead(2)
    ahead = queue.claim(2)
    assert ahead is not None
    return lambda: queue.begin(ahead)


def claim(queue: Queue) -> Verb:
    queue.publish(lines(1, 2, 3))
    queue.wait(1)
    return lambda: queue.claim(2)


def deliver(queue: Queue) -> Verb:
    elsewhere, found = RemoteRedis(url(queue), queue.keys.ready), claimed(queue)
    return lambda: elsewhere.write_once("b", writes(queue.keys.ready, found), remember_seconds=60)


def their_list(queue: Queue) -> ExternalList:
    queue.publish(lines(1, 2, 3))
    return ExternalList(url(queue), queue.keys.ready, "r")


def fill(queue: Queue) -> Verb:
    found = claimed(queue)
    queue.wait(1)
    return lambda: queue.fill(found, 2)


def own(queue: Queue) -> Verb:
    return lambda: mark(queue, Project("name", "flow", "sse:1", "jsonl:1", "here"))


def fetch(queue: Queue) -> Verb:
    theirs = their_list(queue)
    return lambda: theirs.fetch(2, "RIGHT", 0)


def remove(queue: Queue) -> Verb:
    theirs = their_list(queue)
    name = theirs.fetch(3, "RIGHT", 0).numbering
    return lambda: theirs.remove(name, 2)


def history(queue: Queue) -> Verb:
    claimed(queue)
    queue.ask(("DEL", queue.keys.history), ("HSET", queue.keys.history, "7", "1 0 0 0 0 9 0 0 1 0 0"))
    return History(queue.keys, queue.ask_script).note


def reclaim(queue: Queue) -> Verb:
    queue.release(claimed(queue))
    return queue.reclaim


def release(queue: Queue) -> Verb:
    found = claimed(queue)
    return lambda: queue.release(found)


def renew(queue: Queue) -> Verb:
    found = claimed(queue)
    return lambda: queue.renew(found, "it waits for a disk")


def resign(queue: Queue) -> Verb:
    queue.lead(30)
    return queue.resign


def settle(queue: Queue) -> Verb:
    first, second = claimed(queue), queue.claim(2)
    assert second is not None
    queue.fill(first, 2)
    dead = [DeadLetter(first.lines[0], "bad")]
    done = [Done(first, 5, 3, filtered=1, dead=dead), Done(second, 2, 2, foreign=1)]
    return lambda: queue.settle(done, name="reader", state={"at": 3})


def split(queue: Queue) -> Verb:
    found = claimed(queue)
    queue.fill(found, 3)
    return lambda: queue.split(found, attempts=2)


def delay(queue: Queue) -> Verb:
    found = claimed(queue)
    queue.fill(found, 3)
    places = {0: RetryLater(5, "busy"), 4: RetryLater(600), 6: RetryLater(5)}
    return lambda: queue.delay(found, places)


def discard(queue: Queue) -> Verb:
    variant = next(variants(queue).newest())
    return lambda: Variants(queue).drop(variant)


def restore(queue: Queue) -> Verb:
    variant = next(variants(queue).newest())
    return lambda: Variants(queue).replay(variant)


def drop(queue: Queue) -> Verb:
    letter = next(letters(queue).newest())
    return lambda: DeadLetters(queue).drop(letter)


def hold_still(queue: Queue) -> Verb:
    by = By.here(queue)
    return lambda: pause(queue, note="why", by=by)


def go_on(queue: Queue) -> Verb:
    by = By.here(queue)
    pause(queue, by=by)
    return lambda: resume(queue, by=by)


def moved(queue: Queue) -> Verb:
    by = By.here(queue)
    queue.publish(lines(1), checkpoint=("s", 1))
    queue.ask(("HSET", queue.keys.steering, "moves", "3"))
    return lambda: move(queue, "s", 7, by=by)


def purged(queue: Queue) -> Verb:
    by = By.here(queue)
    queue.publish(lines(1, 2, 3))
    return lambda: purge(queue, 3, to_dead=True, by=by)


def requeued(queue: Queue) -> Verb:
    by = By.here(queue)
    found = claimed(queue)
    queue.fill(found, 2)
    queue.release(found)
    return lambda: requeue(queue, found.id, by=by)


def replay(queue: Queue) -> Verb:
    letter = next(letters(queue).newest(reason="foreign"))
    return lambda: DeadLetters(queue).replay(letter)


def crawled(queue: Queue) -> tuple[Frontier, list[Claimed]]:
    """A crawl with something of everything: requests that wait, are out, are delayed and dead, of two hosts."""
    own = Politeness(Pace(delay=0.001), {"own": Pace(delay=0.001, jitter=0.5, concurrency=5)})
    spider = frontier(queue, politeness=own, max_attempts=1)
    spider.offer([page(f"{n}", slot="own" if n % 2 else "host") for n in range(12)])
    spider.offer([page("later", delay_ms=1), page("dead", slot="third"), page("left", slot="fourth")])
    first = spider.claim(10).requests
    dead = [one for one in first if one.slot == "third"]
    spider.settle([Settlement(one, "dead", why={"reason": "x"}) for one in dead])
    left = [one for one in first if one.slot == "fourth"]
    queue.ask(("ZADD", spider.keys.leases, 1, left[0].place))
    return spider, [one for one in first if one not in dead + left]


def request_begin(queue: Queue) -> Verb:
    spider = Frontier(queue, "new", politeness=Politeness())
    return lambda: spider.begin({"spider": "x"}, [page("a"), page("b", delay_ms=5)])


def request_offer(queue: Queue) -> Verb:
    spider, _ = crawled(queue)
    return lambda: spider.offer([page("0"), page("new"), page("more", slot="own", delay_ms=7)])


def request_claim(queue: Queue) -> Verb:
    spider, _ = crawled(queue)
    return lambda: spider.claim(5)


def request_renew(queue: Queue) -> Verb:
    spider, held = crawled(queue)
    return lambda: spider.renew(held)


def request_settle(queue: Queue) -> Verb:
    spider, (first, *_) = crawled(queue)
    dead = [DeadLetter(b"<x>", "no JSON")]
    done = Settlement(
        *(first, "later", lines(1, 2), dead, [page("new"), page("0"), page("soon", delay_ms=3)]),
        **{"outputs": 5, "dropped": 1, "later_ms": 9, "kind": "ValueError", "hold_ms": 4, "delay_ms": 6},  # type: ignore[arg-type]
    )
    return lambda: spider.settle([done])


def request_replay(queue: Queue) -> Verb:
    crawled(queue)
    dead = DeadRequests(queue, "shared", By.here(queue))
    numbers = [letter.number for letter in dead]
    return lambda: dead.replay(numbers)


def crawl_steer(queue: Queue) -> Verb:
    crawled(queue)
    by = By.here(queue)
    return lambda: stop_crawl(queue, "shared", "enough", by=by)


def alerts(queue: Queue) -> Verb:
    Board(queue).watch(30, {"rule:dead >0": b"{}", "notice:log:7:raised:x": b"{}"})
    return lambda: Board(queue).watch(30, {"rule:dead >0": b"", "notice:log:8:over:x": b"{}"})


CASES: dict[str, Callable[[Queue], Verb]] = {
    "ack": ack,
    "alerts": alerts,
    "beat": present,
    "begin": begin,
    "claim": claim,
    "crawl_begin": request_begin,
    "crawl_steer": crawl_steer,
    "delay": delay,
    "deliver": deliver,
    "discard": discard,
    "drop": drop,
    "fetch": fetch,
    "fill": fill,
    "history": history,
    "lead": lambda queue: lambda: queue.lead(30),
    "mark": own,
    "move": moved,
    "pause": hold_still,
    "purge": purged,
    "reclaim": reclaim,
    "release": release,
    "remove": remove,
    "renew": renew,
    "replay": replay,
    "request_claim": request_claim,
    "request_offer": request_offer,
    "request_renew": request_renew,
    "request_replay": request_replay,
    "request_settle": request_settle,
    "requeue": requeued,
    "resign": resign,
    "resume": go_on,
    "restore": restore,
    "settle": settle,
    "split": split,
}
"""For each script a verb that sends it, where everything stands ready for it to do all it can do."""


class Script:
    """A script with the keys and arguments that the queue would send with it now."""

    def __init__(self, client: redis.Redis, name: str, key: str, call: Call) -> None:
        self.client, self.name, self.key, self.call = client, name, key, call

    @property
    def keys(self) -> list[str]:
        return self.call[0]

    def run(self, arguments: Sequence[Any] | None = None) -> Any:
        return self.client.eval(
            SCRIPTS[self.name], len(self.keys), *self.keys, *(self.call[1] if arguments is None else arguments)
        )

    def everything(self) -> dict[bytes, bytes | None]:
        """All keys of the flow, to the byte."""
        return {name: self.client.dump(name) for name in self.client.scan_iter(match=f"*{self.key}*", count=1000)}

    def put(self, everything: dict[bytes, bytes | None]) -> None:
        """Makes it so again."""
        for name in self.everything():
            self.client.delete(name)
        for name, dumped in everything.items():
            assert dumped is not None
            self.client.restore(name, 0, dumped)

    def assert_all_or_nothing(self, arguments: Sequence[Any] | None = None, *, fails: bool = False) -> None:
        """Runs it; where it fails, or has to, nothing has changed."""
        before = self.everything()
        try:
            self.run(arguments)
        except redis.ResponseError:
            assert self.everything() == before
        else:
            assert not fails, "it did not fail"


@pytest.fixture(params=sorted(SCRIPTS))
def script(
    request: pytest.FixtureRequest, queue: Queue, client: redis.Redis, key: str, monkeypatch: pytest.MonkeyPatch
) -> Script:
    verb = CASES[request.param](queue)
    calls: list[Call] = []

    ask = Connection.script

    def hold(connection: Connection, name: str, keys: Sequence[str], *arguments: Any) -> Any:
        if name == "history" != request.param:  # a new step has begun
            return ask(connection, name, keys, *arguments)
        assert name == request.param
        calls.append((list(keys), list(arguments)))
        raise Held

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "script", hold)
        with pytest.raises(Held):
            verb()
    return Script(client, request.param, key, calls[0])


def test_a_key_of_another_type_makes_it_fail_with_nothing_changed(script: Script) -> None:
    ready = script.everything()
    for name in script.keys:
        script.client.delete(name)
        script.client.sadd(name, "somebody's")
        script.assert_all_or_nothing(fails=True)
        script.put(ready)
    script.run()
    assert script.everything() != ready  # else there was nothing to fail


def test_an_argument_that_is_no_number_makes_it_fail_with_nothing_changed(script: Script) -> None:
    ready = script.everything()
    for index in range(len(script.call[1])):
        for word in BAD:
            script.assert_all_or_nothing([*script.call[1][:index], word, *script.call[1][index + 1 :]])
            assert_no_odd_numbers(script)
            script.put(ready)


def test_an_argument_that_is_left_out_makes_it_fail_with_nothing_changed(script: Script) -> None:
    ready = script.everything()
    for index in range(len(script.call[1])):
        script.assert_all_or_nothing(script.call[1][:index])
        script.put(ready)


def test_a_field_that_is_no_number_makes_it_fail_with_nothing_changed(script: Script) -> None:
    ready = script.everything()
    for name in {name for name in script.keys if script.client.type(name) == b"hash"}:
        for field, value in script.client.hgetall(name).items():
            if value.isdigit():
                for word in ("x", "", "1.5"):
                    script.client.hset(name, field, word)
                    script.assert_all_or_nothing()
                    script.put(ready)


def test_numbers_are_whole_and_in_digits(script: Script) -> None:
    script.run()
    assert_no_odd_numbers(script)


def assert_no_odd_numbers(script: Script) -> None:
    """No number in a hash is -0, has a point or an exponent, unless the test put it there."""
    for name in script.keys:
        if name.endswith((":counters", ":state")) or ":session:" in name:
            for field, value in script.client.hgetall(name).items():
                if field != b"name":
                    assert not re.fullmatch(rb"-0+|[-\d.]+e\+?\d+|\d+\.\d*", value), (name, field, value)


@pytest.mark.parametrize("before", [10**14, 10**15, 2**53 - 10])
def test_a_session_that_counted_far_goes_on_counting(queue: Queue, client: redis.Redis, before: int) -> None:
    queue.claiming._asking.last = queue.claiming._reclaims = queue.settling._settles = before
    queue.delaying._delays = before
    queue.publish(lines(*range(7)))
    claim = queue.claim(7)
    assert claim is not None
    queue.delay(claim, {6: RetryLater(3600)})
    queue.settle([Done(claim, 2, 2)], name="r", state=1)
    queue.settle([Done(claim, 2, 2)], name="r", state=2)
    queue.release(claim)
    again = queue.reclaim()
    assert again is not None
    queue.ack(again, delivered=2)
    session = client.hgetall(queue.key)
    assert {session[field] for field in (b"claimed", b"reclaimed", b"delayed")} == {b"%d" % (before + 1)}
    assert session[b"settled"] == b"%d" % (before + 2)
    books = queue.books()
    assert (books.delivered, books.delayed, books.difference) == (6, 1, 0)


def test_counters_go_on_beyond_what_lua_prints_in_digits(queue: Queue, client: redis.Redis) -> None:
    client.hset(queue.keys.counters, mapping={"delivered": 10**15, "foreign": 10**15, "in_flight": 0})
    claim = claimed(queue)
    queue.ack(claim, delivered=4)
    assert client.hmget(queue.keys.counters, "delivered", "foreign") == [b"%d" % (10**15 + 4), b"%d" % 10**15]
