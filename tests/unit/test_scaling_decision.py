"""How many consumers a flow should have, for all that may be seen of it."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.scaling.decision import SETTLE_SECONDS, Memory, Rules, Seen, decide
from millrace.scaling.rate import Rate
from millrace_pipeline.errors import ConfigError

COUNTS = st.integers(0, 10**7)
RULES = st.builds(
    lambda least, more, age, idle, calm: Rules(least, least + more, age, idle, calm),
    st.integers(0, 20),
    st.integers(1, 50),
    st.floats(1, 600),
    st.floats(0, 600),
    st.floats(0, 120),
)
SEEN = st.builds(
    Seen,
    moment=st.just(0.0),
    ready=COUNTS,
    in_flight=COUNTS,
    due=COUNTS,
    running=st.integers(0, 100),
    consumers=st.integers(0, 70),
    waits_seconds=st.floats(0, 10**6),
    in_a_second=st.floats(0, 10**6),
    rate=st.none() | st.floats(1e-6, 10**6),
    linger=st.floats(0, 60),
    held_up=st.sampled_from(["", "the sink takes nothing"]),
)
LOOKS = st.lists(st.tuples(st.floats(0.1, 30), SEEN), min_size=1, max_size=60)


def at(seen: Seen, moment: float) -> Seen:
    return Seen(**{**{name: getattr(seen, name) for name in seen.__struct_fields__}, "moment": moment})


def run(looks: list[tuple[float, Seen]], rules: Rules) -> list[tuple[Seen, int, int | None]]:
    """Each look, what was decided, and what had been before."""
    memory, moment, found = Memory(), 0.0, []
    for pause, seen in looks:
        moment += pause
        before = memory.desired
        desired, memory = decide(at(seen, moment), rules, memory)
        found.append((at(seen, moment), desired, before))
    return found


@given(looks=LOOKS, rules=RULES)
def test_it_stays_within_min_and_max(looks: list[tuple[float, Seen]], rules: Rules) -> None:
    assert all(rules.min <= desired <= rules.max for _, desired, _ in run(looks, rules))


@given(looks=LOOKS, rules=RULES)
def test_what_the_formula_asks_for_is_there_at_once(looks: list[tuple[float, Seen]], rules: Rules) -> None:
    for seen, desired, _ in run(looks, rules):
        if seen.lag and not seen.held_up:
            formula = math.ceil(min(seen.lag / (seen.rate * rules.age), rules.max)) if seen.rate else 1
            assert desired >= min(rules.max, formula)


@given(looks=LOOKS, rules=RULES)
def test_no_batch_that_somebody_works_on_loses_its_consumer(looks: list[tuple[float, Seen]], rules: Rules) -> None:
    for seen, desired, before in run(looks, rules):
        if before is not None and desired < before:
            assert desired >= min(before, seen.running, rules.max)


@given(looks=LOOKS, rules=RULES)
def test_it_takes_away_only_what_was_spare_for_all_of_the_calm(looks: list[tuple[float, Seen]], rules: Rules) -> None:
    found = run(looks, rules)
    first, since = found[0][0].moment, -math.inf
    for index, (seen, desired, before) in enumerate(found):
        if before is None or desired >= before:
            continue
        assert seen.moment - max(first, since) >= rules.calm
        for other, _, _ in found[:index]:
            if other.moment > max(since, seen.moment - rules.calm):
                assert desired >= min(before, other.running, rules.max)
        since = seen.moment


@given(looks=LOOKS, rules=RULES)
def test_it_goes_to_none_only_after_so_long_without_work(looks: list[tuple[float, Seen]], rules: Rules) -> None:
    worked = 0.0
    for index, (seen, desired, before) in enumerate(run(looks, rules)):
        if seen.lag or not index:
            worked = seen.moment
        if before and not desired:
            assert seen.moment - worked >= rules.idle


@given(looks=LOOKS, rules=RULES)
def test_while_more_would_do_nothing_there_are_no_more(looks: list[tuple[float, Seen]], rules: Rules) -> None:
    for seen, desired, before in run(looks, rules):
        if seen.held_up and before is not None:
            assert desired <= max(before, rules.min)


def test_one_that_waits_wakes_a_flow_at_the_first_look() -> None:
    asleep, memory = decide(Seen(0.0), Rules(), Memory())
    assert asleep == 0
    assert decide(Seen(1.0, ready=1), Rules(), memory)[0] == 1


def test_what_a_dead_consumer_left_behind_wakes_a_flow_too() -> None:
    assert decide(Seen(0.0, in_flight=5), Rules(), Memory())[0] == 1


def test_what_is_put_off_wakes_nobody_before_its_time() -> None:
    assert decide(Seen(0.0, due=0), Rules(), Memory())[0] == 0


def test_a_slow_sink_with_an_empty_list_keeps_all_its_consumers() -> None:
    memory = Memory()
    for second in range(600):  # eight batches of 500, a minute each: 4,000 records, all in flight
        seen = Seen(float(second), in_flight=4_000, running=8, consumers=8, rate=500 / 60, waits_seconds=0.0)
        desired, memory = decide(seen, Rules(age=600), memory)
        assert desired == 8, second


def test_what_waits_too_long_gets_more_but_not_more_each_second() -> None:
    memory, sizes = Memory(), []
    for second in range(40):
        seen = Seen(float(second), ready=100, waits_seconds=31.0, consumers=1, rate=1000.0)
        desired, memory = decide(seen, Rules(max=100), memory)
        sizes.append(desired)
    assert sizes[0] == 1
    assert sizes[-1] > 3
    steps = [index for index in range(1, 40) if sizes[index] != sizes[index - 1]]
    assert all(after - before >= SETTLE_SECONDS for before, after in itertools.pairwise(steps))


def simulated(arrivals: list[float], rules: Rules, rate: float = 100.0) -> tuple[list[int], list[float]]:
    """Numbers of consumers and ages, second by second, where each consumer does `rate` records a second."""
    waiting, memory, there = 0.0, Memory(), 0
    sizes, ages = [], []
    for second, coming in enumerate(arrivals):
        waiting = max(0.0, waiting + coming - there * rate)
        age = waiting / max(coming, 1.0)
        seen = Seen(
            float(second),
            ready=math.ceil(waiting),
            consumers=there,
            running=min(there, math.ceil(waiting / 50)),
            waits_seconds=age,
            in_a_second=coming,
            rate=rate,
        )
        there, memory = decide(seen, rules, memory)
        sizes.append(there)
        ages.append(age)
    return sizes, ages


@settings(max_examples=50, deadline=None)
@given(load=st.floats(0.05, 7.5))
def test_a_steady_load_comes_to_rest_and_within_its_age(load: float) -> None:
    sizes, ages = simulated([load * 100] * 1800, Rules())
    late = sizes[900:]
    assert sum(one != other for one, other in itertools.pairwise(late)) <= 4  # it doesn't flap
    assert max(ages[900:]) <= 2 * 30.0
    assert max(late) <= math.ceil(load) + 2


def test_a_burst_is_through_in_time_and_then_nobody_is_left() -> None:
    sizes, ages = simulated([0.0] * 10 + [20_000.0] + [0.0] * 900, Rules())
    assert sizes[9] == 0
    assert sizes[11] >= 7
    assert ages[11 + 90] == 0
    assert sizes[-1] == 0


@pytest.mark.parametrize("rules", [Rules(min=3, max=2), Rules(max=0), Rules(min=-1), Rules(age=0), Rules(max=10_001)])
def test_rules_that_cannot_be_kept_are_refused(rules: Rules) -> None:
    with pytest.raises(ConfigError, match="expected"):
        rules.checked()


def test_a_rate_is_of_the_time_at_work_and_outlasts_a_rest() -> None:
    rate = Rate()
    for second in range(60):
        rate.saw(float(second), second * 200, busy=2, bound=None)
    assert rate.a_second == pytest.approx(100, rel=0.05)
    for second in range(60, 7_200):
        rate.saw(float(second), 59 * 200, busy=0, bound=None)
    assert rate.a_second == pytest.approx(100, rel=0.05)


def test_before_a_batch_is_done_its_age_says_how_slow_it_is() -> None:
    rate = Rate()
    assert rate.a_second is None
    rate.saw(0.0, 0, busy=1, bound=50.0)
    rate.saw(10.0, 0, busy=1, bound=40.0)
    assert rate.a_second == 40.0
