"""What a pause promises: nothing more is published or claimed, and nothing is torn, lost or done twice by it."""

from __future__ import annotations

import threading

import pytest
import redis

from millrace_pipeline.envelope import DeadLetter, Record, encode
from millrace_pipeline.errors import FlowPaused, ProducerFenced
from millrace_pipeline.moment import now
from millrace_pipeline.queue import DeadLetters, books_of
from millrace_pipeline.queue.changes import KEPT, By, changes_of
from millrace_pipeline.queue.pausing import pause, pauses_of, resume
from tests.faults.faulty import FaultyQueue
from tests.queues import Queue

ANN = By("operator", "ann", "box")


def lines(*numbers: int) -> list[bytes]:
    return [encode(Record({"n": n}), id=str(n), source="test", time=now()) for n in numbers]


@pytest.fixture
def other(redis_url: str, key: str) -> Queue:
    return Queue(redis_url, key)


def test_paused_consumers_claim_fill_and_take_over_nothing(queue: Queue, other: Queue) -> None:
    queue.publish(lines(*range(9)))
    held, left = queue.claim(2), queue.claim(2)
    assert held is not None
    assert left is not None
    queue.release(left)
    pause(queue, ["consumers"], by=ANN)
    assert (other.claim(2), other.reclaim(), queue.fill(held, 2), queue.claim(2)) == (None, None, 0, None)
    assert (other.leases.paused.now, other.leases.overdue) == (pauses_of(queue)["consumers"], False)
    queue.renew(held)
    queue.ack(held, delivered=2)
    assert books_of(queue).delivered == 2
    resume(queue, by=ANN)
    assert other.claim(1) is not None
    again = other.reclaim()
    assert again is not None
    assert again.id == left.id


def test_what_was_claimed_ahead_is_given_back_and_comes_again_under_its_id(queue: Queue, other: Queue) -> None:
    queue.publish(lines(*range(6)))
    queue.claim(2)
    queue.claim_ahead(2)
    pause(other, ["consumers"], by=ANN)
    queue.leases.paused.hear(b'{"since":1,"by":{"user":"a","os_user":"b","host":"c"}}')  # as from a fill, or a look
    assert queue.claim(2) is None
    assert [lease.seconds_left < 0 for lease in books_of(queue).leases] == [False, True]
    resume(other, by=ANN)
    again = other.reclaim()
    assert again is not None
    assert (len(again.lines), again.attempts) == (2, 1)


def test_a_wait_in_redis_takes_no_record_while_the_consumers_are_paused(queue: Queue, client: redis.Redis) -> None:
    queue.publish(lines(1))
    pause(queue, ["consumers"], by=ANN)
    queue.claim(1)
    queue.wait(0.01)
    assert client.llen(queue.keys.woken) == 0


def test_no_publish_is_applied_that_comes_behind_a_pause(queue: Queue, other: Queue) -> None:
    queue.publish(lines(1), checkpoint=("s", 1))  # its fence stands from here on
    pause(other, ["producers"], by=ANN)
    for _ in range(2):
        with pytest.raises(FlowPaused, match=r"producers of .* are paused since .* by ann@box"):
            queue.publish(lines(2), checkpoint=("s", 2))
    assert (books_of(queue).published, queue.checkpoint("s")) == (1, 1)
    assert queue.publish(lines(2), checkpoint=("s", 2), although_paused=True).lag == 2
    resume(other, by=ANN)
    assert queue.publish(lines(3), checkpoint=("s", 3)).lag == 3
    assert queue.checkpoint("s") == 3


def test_a_publish_whose_reply_was_lost_before_the_pause_is_known_to_be_done(redis_url: str, key: str) -> None:
    queue = FaultyQueue(redis_url, key)
    queue.publish(lines(1))
    queue._outage.begins = lambda _: pause(queue.other, ["producers"], by=ANN)  # type: ignore[attr-defined, method-assign]
    queue.other = Queue(redis_url, key)  # type: ignore[attr-defined]
    queue.suffer(["reply lost"])
    assert queue.publish(lines(2)).records == 1
    assert books_of(queue).published == 2
    queue.close_all()


def test_what_another_paused_stays_as_it_was_and_is_noted_once(queue: Queue) -> None:
    first = pause(queue, ["producers"], by=ANN, note="why")
    assert pause(queue, by=By("default", "bob", "box"))["producers"] == first["producers"]
    assert pauses_of(queue)["consumers"].by.os_user == "bob"
    assert [change.by.os_user for change in changes_of(queue)] == ["bob", "ann"]
    assert resume(queue, by=ANN).keys() == {"producers", "consumers"}
    assert resume(queue, by=ANN) == {}
    newest, _, oldest = changes_of(queue)
    assert (newest.what, newest.records, newest.detail) == ("resume", 0, {"parts": ["producers", "consumers"]})
    assert (oldest.what, oldest.detail) == ("pause", {"parts": ["producers"], "note": "why"})


def test_a_pause_outlives_a_restart_of_everything(queue: Queue, redis_url: str, key: str) -> None:
    queue.publish(lines(1))
    pause(queue, by=ANN)
    fresh = Queue(redis_url, key)
    with pytest.raises(FlowPaused):
        fresh.publish(lines(2))
    assert fresh.claim(1) is None
    assert set(books_of(fresh).paused) == {"producers", "consumers"}
    fresh.close_all()


def test_many_changes_of_one_command_are_one_note_with_their_number(queue: Queue) -> None:
    queue.publish([], dead=[DeadLetter(line, "bad") for line in lines(*range(5))])
    letters = DeadLetters(queue, ANN)
    found = list(letters.newest())
    assert all(letters.replay(letter) for letter in found[:3])
    assert not letters.replay(found[0])
    assert all(letters.drop(letter) for letter in found[3:])
    assert [(change.what, change.records) for change in changes_of(queue)] == [("dead drop", 2), ("dead replay", 3)]
    assert {change.by for change in changes_of(queue)} == {ANN}


def test_only_so_many_changes_are_kept(queue: Queue, client: redis.Redis) -> None:
    client.rpush(queue.keys.changes, *["{}"] * (KEPT + 5))
    pause(queue, by=ANN)
    assert client.llen(queue.keys.changes) == KEPT


def test_a_leader_fenced_after_a_lost_reply_loses_no_later_publish(redis_url: str, key: str) -> None:
    queue, other = FaultyQueue(redis_url, key), Queue(redis_url, key)
    assert queue.lead(0.01) == 0
    queue.publish(lines(1), checkpoint=("s", 1))
    stopped = threading.Event()
    queue._outage.begins = lambda _: stopped.wait(0.02) or other.lead(0.01)  # type: ignore[method-assign]
    queue.suffer(["reply lost"])
    with pytest.raises(ProducerFenced):
        queue.publish(lines(2), checkpoint=("s", 2))
    stopped.wait(0.02)
    queue.stand_by()
    assert queue.lead(60) == 0
    queue.publish(lines(3), checkpoint=("s", 3))
    assert books_of(queue).ready == 3
    queue.close_all()
    other.close_all()
