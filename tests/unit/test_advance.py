"""When a reading has come further than those before it, and a connection has given anything new."""

from __future__ import annotations

import pytest

from millrace_producer.advance import ENDS_KNOWN, LASTING_SECONDS, Advance
from millrace_producer.sources.heard import FIRST_MESSAGES, Heard


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def advance(clock: Clock) -> Advance:
    return Advance(clock)


def test_without_positions_only_more_records_than_ever_are_further(advance: Advance) -> None:
    assert [advance.end(records, None, None) for records in (3, 3, 1, 2, 4, 4, 0)] == [
        *(True, False, False, False),
        *(True, False, False),
    ]


def test_with_positions_only_another_one_is_further(advance: Advance) -> None:
    advance.begin(5)
    assert not advance.end(5, 5, None), "it gave once more what its checkpoint has"
    assert advance.end(1, 6, None)
    advance.begin(6)
    assert not advance.end(0, None, None)
    assert not advance.end(0, None, None)
    assert not advance.end(9, 6, None)
    assert not advance.end(9, 5, None)
    assert advance.end(1, 7, None)


def test_positions_are_known_by_what_they_hold_and_not_for_ever(advance: Advance) -> None:
    assert advance.end(1, {"page": "a", "record": 1}, None)
    assert not advance.end(1, {"page": "a", "record": 1}, None)
    assert all(advance.end(1, number, None) for number in range(ENDS_KNOWN))
    assert advance.end(1, {"page": "a", "record": 1}, None)


def test_a_source_that_is_told_what_was_published_comes_further_by_that_alone(advance: Advance) -> None:
    assert not advance.end(10, None, 0)
    assert not advance.end(20, None, 0)
    assert advance.end(3, None, 3)
    assert not advance.end(3, None, 3)


def test_a_live_source_without_positions_may_give_less_than_before_if_it_lasts(advance: Advance, clock: Clock) -> None:
    assert advance.end(1000, None, None)
    for records, further in ((10, True), (0, False), (10, True), (10, False), (11, True)):
        advance.begin(None)
        clock.now += LASTING_SECONDS
        assert advance.end(records, None, None) is further, records


def test_a_greeting_that_comes_again_is_nothing_new(clock: Clock) -> None:
    heard = Heard(clock)
    assert heard.is_new(b"hello")
    heard.begin()
    assert not heard.is_new(b"hello")
    assert heard.is_new(b"news")


def test_a_connection_works_that_gives_much_or_lasts_whatever_it_gives(clock: Clock) -> None:
    heard = Heard(clock)
    assert heard.is_new(b"beat")
    heard.begin()
    assert not any(heard.is_new(b"beat") for _ in range(FIRST_MESSAGES))
    assert heard.is_new(b"beat")
    heard.begin()
    assert not heard.is_new(b"beat")
    clock.now += LASTING_SECONDS
    assert heard.is_new(b"beat")
