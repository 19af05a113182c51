"""`millrace purge` and `requeue`: the books balance after each step, and who held a batch has lost it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.errors import ConfigError, LeaseLost
from millrace_pipeline.queue import DeadLetters, audit, books_of, purging
from millrace_pipeline.queue.changes import By, changes_of
from millrace_pipeline.queue.purging import NotRequeued, purge, requeue
from tests.integration.usercode import GATED, THEIRS, in_the_sink, open_the_gate
from tests.integration.verbs import lines
from tests.queues import Queue
from tests.services import Place

ANN = By("operator", "ann", "box")


def mixed(queue: Queue, ours: int = 700, foreign: int = 3) -> None:
    """A list with records of ours and, amid them, some that others pushed; the oldest woke a consumer."""
    key = queue.keys.ready
    queue.publish(lines(*range(ours // 2), mark=key))
    for number in range(foreign):
        queue.ask(("LPUSH", key, json.dumps({"by hand": number})))
    queue.publish(lines(*range(ours // 2, ours), mark=key))
    queue.wait(1)


def balanced(queue: Queue) -> bool:
    return audit(queue).difference == 0 and audit(queue).exact


def test_what_is_purged_becomes_dead_letters_oldest_first_byte_for_byte(queue: Queue) -> None:
    mixed(queue)
    waiting = [*queue.ask(("LRANGE", queue.keys.ready, 0, -1))[0], *queue.ask(("LRANGE", queue.keys.woken, 0, -1))[0]]
    steps: list[int] = []
    assert purge(queue, 703, to_dead=True, note="twice", by=ANN, progress=steps.append) == 703
    letters = list(DeadLetters(queue).newest())
    assert [letter.record for letter in letters] == waiting
    assert {letter.reason for letter in letters} == {"purged: twice"}
    books = books_of(queue)
    assert (books.ready, books.dead, books.foreign, books.difference) == (0, 703, 3, 0)
    assert len(steps) > 3
    (change,) = changes_of(queue)
    assert (change.what, change.records, change.by, change.detail["to"]) == ("purge", 703, ANN, "dead letters")
    for letter in letters:
        assert DeadLetters(queue, ANN).replay(letter)
    assert balanced(queue)


def test_what_is_thrown_away_counts_as_discarded_and_is_no_more_than_said(queue: Queue) -> None:
    mixed(queue)
    assert purge(queue, 500, to_dead=False, by=ANN) == 500
    books = books_of(queue)
    assert (books.ready, books.discarded, books.dead) == (203, 500, 0)
    assert balanced(queue)


class Killed(BaseException):
    """The process is gone."""


def test_a_purge_that_is_killed_half_way_has_done_the_half(queue: Queue) -> None:
    mixed(queue)

    def die(done: int) -> None:
        if done > 100:
            raise Killed

    with pytest.raises(Killed):
        purge(queue, 703, to_dead=True, by=ANN, progress=die)
    books = books_of(queue)
    assert books.ready + books.dead == 703
    assert changes_of(queue)[0].records == books.dead
    assert balanced(queue)


def test_a_record_that_a_consumer_takes_first_is_not_purged(
    queue: Queue, redis_url: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the step; and where that happens each time, it says to pause the consumers."""
    queue.publish(lines(*range(300), mark=key))
    other = Queue(redis_url, key)
    count: Callable[..., int] = purging.foreign_among

    def late(*arguments: object) -> int:
        claim = other.claim(1)
        assert claim is not None
        other.ack(claim, delivered=1)
        return count(*arguments)

    monkeypatch.setattr(purging, "foreign_among", late)
    with pytest.raises(ConfigError, match="millrace pause FLOW --consumers"):
        purge(queue, 300, to_dead=False, by=ANN)
    books = books_of(queue)
    assert (books.delivered, books.discarded, books.ready) == (purging.TRIES, 0, 300 - purging.TRIES)
    other.close_all()


def test_a_requeued_batch_comes_next_in_its_order_and_its_holder_is_fenced(
    queue: Queue, redis_url: str, key: str
) -> None:
    queue.publish(lines(*range(6), mark=key))
    held = queue.claim(2)
    assert held is not None
    queue.fill(held, 2)
    with pytest.raises(NotRequeued, match="--force"):
        requeue(queue, held.id, by=ANN)
    assert requeue(queue, held.id, force=True, by=ANN) == 4
    for late in (
        lambda: queue.renew(held),
        lambda: queue.fill(held, 1),
        lambda: queue.ack(held, delivered=4),
        lambda: queue.split(held, attempts=1),
    ):
        with pytest.raises(LeaseLost):
            late()
    other = Queue(redis_url, key)
    again = other.claim(6)
    assert again is not None
    assert (again.lines[:4], again.id != held.id, len(again.lines)) == (held.lines, True, 6)
    other.ack(again, delivered=5, dead=[DeadLetter(again.lines[0], "bad")])
    assert books_of(queue).difference == 0
    assert (changes_of(queue)[0].what, changes_of(queue)[0].records) == ("requeue", 4)
    with pytest.raises(NotRequeued, match="no batch"):
        requeue(queue, held.id, by=ANN)
    other.close_all()


def test_a_whole_batch_is_taken_over_under_its_id(queue: Queue, redis_url: str, key: str) -> None:
    queue.publish(lines(*range(3), mark=key))
    held = queue.claim(3)
    assert held is not None
    assert requeue(queue, held.id, whole=True, force=True, by=ANN) == 3
    with pytest.raises(LeaseLost):
        queue.ack(held, delivered=3)
    other = Queue(redis_url, key)
    again = other.reclaim()
    assert again is not None
    assert (again.id, again.lines, again.attempts) == (held.id, held.lines, 2)
    other.ack(again, delivered=3)
    assert books_of(queue).difference == 0
    other.close_all()


def test_a_batch_taken_in_its_write_is_dropped_and_the_sink_has_it_once(place: Place) -> None:
    place.module(THEIRS)
    place.flow(sink=GATED, lease="60s")
    place.publish(range(8))
    first = place.consume()
    first.until(lambda: in_the_sink(place, first))
    (lease,) = place.books().leases
    done = place.start("requeue", "numbers", lease.batch)
    assert done.wait() == 2, done.said
    done = place.start("requeue", "numbers", lease.batch, "--whole", "--force")
    assert done.wait() == 0, done.said
    second = place.consume()
    second.until(lambda: in_the_sink(place, second))
    open_the_gate(place)
    first.await_event("lease_lost")
    second.until(lambda: place.books().lag == 0)
    assert (first.terminate(), second.terminate()) == (0, 0)
    place.assert_once(range(8))


def test_what_the_sink_has_is_not_put_on_the_list_again(place: Place) -> None:
    place.flow()
    place.publish(range(4))
    with place.queue() as queue:
        claim = queue.claim(4)
        assert claim is not None
        (place.folder / "out" / "numbers").mkdir(parents=True)
        (place.folder / "out" / "numbers" / f"{claim.id}.jsonl").write_text("".join(f'{{"n":{n}}}\n' for n in range(4)))
        queue.release(claim)
    done = place.start("requeue", "numbers", claim.id)
    assert done.wait() == 2
    assert "--whole" in done.said
    place.deliver_the_rest()
    place.assert_once(range(4))


def test_a_person_says_where_to_and_yes(place: Place) -> None:
    place.flow()
    place.publish(range(4))
    for arguments, code, said in (
        ([], 2, "--to-dead"),
        (["--to-dead"], 2, "--yes"),
        (["--away", "--dry-run"], 0, "4 records wait on the list of numbers; they would be thrown away for good"),
        (["--dry-run"], 0, "4 records wait on the list of numbers\n"),
        (["--to-dead", "--yes"], 0, "4 records became dead letters"),
        (["--away", "--yes"], 0, "0 records wait"),
    ):
        done = place.start("purge", "numbers", *arguments)
        assert done.wait() == code, done.said
        assert said in done.printed + done.said
    assert place.books().dead == 4
