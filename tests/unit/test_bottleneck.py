"""The sentence that names what holds a flow up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from millrace.ages import age, span
from millrace.bottleneck import Load, bottleneck


def load(**known: Any) -> Load:
    given = {"ready": 0, "in_flight": 0, "in_a_second": 0.0, "out_a_second": 0.0, "consumers": 1}
    return Load(**{**given, "write_share": 0.0, "cpu_share": 0.0, **known})


@pytest.mark.parametrize(
    ("known", "sentence"),
    [
        (
            {"ready": 19_000, "in_flight": 1000, "out_a_second": 100, "consumers": 4, "write_share": 0.91},
            "sink-bound: 91 % of 4 consumers' time is writing; empty in 3 min 20 s; 2 more consumers: 2 min 13 s",
        ),
        (
            {"ready": 500, "in_a_second": 300, "out_a_second": 100, "write_share": 0.99},
            "sink-bound: 99 % of the consumer's time is writing; grows by 200/s; 4 consumers would keep up",
        ),
        (
            {"ready": 500, "in_a_second": 100, "out_a_second": 100, "write_share": 0.99},
            "sink-bound: 99 % of the consumer's time is writing; stays at 500; 1 more consumer: empty in 5 s",
        ),
        (
            {"ready": 5, "in_a_second": 100, "out_a_second": 100, "write_share": 0.7, "consumers": 2},
            "sink-bound: 70 % of 2 consumers' time is writing; it keeps up with 100/s",
        ),
        (
            {"ready": 500, "in_flight": 10, "write_share": 1.0},
            "sink-bound: 100 % of the consumer's time is writing; 510 wait, and none was delivered just now",
        ),
        (
            {"ready": 9000, "out_a_second": 100, "consumers": 2, "write_share": 0.05, "cpu_share": 0.97},
            "transform-bound: 2 consumers compute with 97 % of a core each; empty in 1 min 30 s; 1 more consumer: "
            "1 min",
        ),
        (
            {
                "ready": 3,
                "in_a_second": 8.4,
                "out_a_second": 8.2,
                "consumers": 4,
                "write_share": 0.08,
                "cpu_share": 0.1,
            },
            "source-bound: 8.4/s come, and are written at once; writing takes 8 % of 4 consumers' time",
        ),
        ({}, "idle: nothing comes and nothing waits; 1 consumer ready"),
        ({"consumers": 0}, "idle: nothing waits; no consumer"),
        ({"consumers": 0, "ready": 12_345, "in_a_second": 12.3}, "no consumer: 12,345 wait, 12/s more come"),
        ({"consumers": 0, "ready": 7}, "no consumer: 7 wait"),
        ({"ready": 7}, "stuck: 7 wait and none is delivered, though 1 consumer runs; the log says why"),
        (
            {"ready": 9000, "out_a_second": 100, "consumers": 3, "write_share": 0.2, "cpu_share": 0.3},
            "held up elsewhere: 3 consumers write 20 % and compute 30 % of the time, and else wait for Redis or for "
            "batches to fill; empty in 1 min 30 s; 1 more consumer: 1 min 8 s",
        ),
        (
            {"ready": 40, "in_flight": 2, "trouble": "sink of x: no route to host"},
            "stopped: sink of x: no route to host; 42 wait",
        ),
        (
            {"ready": 9000, "out_a_second": 100, "write_share": None, "cpu_share": None},
            "consumer-bound: 100/s go by 1 consumer; empty in 1 min 30 s; 1 more consumer: 45 s",
        ),
        (
            {"in_a_second": 50, "out_a_second": 50, "write_share": None, "cpu_share": None},
            "source-bound: 50/s come, and are delivered at once",
        ),
        ({"ready": 9, "write_share": None, "cpu_share": None}, "stuck: 9 wait and none is delivered by 1 consumer"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_it_names_what_a_flow_is_bound_by_and_what_is_to_be_expected(known: dict[str, Any], sentence: str) -> None:
    assert bottleneck(load(**known)) == sentence


COUNTS = some.integers(0, 10**12)
RATES = some.floats(0, 1e9)
SHARES = some.none() | some.floats(0, 64)


@given(some.builds(Load, COUNTS, COUNTS, RATES, RATES, some.integers(0, 10_000), SHARES, SHARES, some.just("")))
def test_whatever_is_seen_it_is_one_sentence(seen: Load) -> None:
    said = bottleneck(seen)
    assert said.isprintable()
    assert 10 < len(said) < 250
    assert "-" not in said.partition(":")[2].replace("sink-bound", "")  # no negative time, nor number


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((0, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (3599, "59 min 59 s"), (3600, "1 h")),
        *((7500, "2 h 5 min"), (86399, "23 h 59 min"), (86400, "1 d"), (270_000, "3 d 3 h"), (1e9, "11,574 d 1 h")),
    ],
)
def test_a_span_is_said_to_two_units(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_an_age_is_said_in_one_unit() -> None:
    assert [age(seconds) for seconds in (3.14, 720, 18_720, 293_760)] == ["3.1 s", "12.0 min", "5.2 h", "3.4 d"]
