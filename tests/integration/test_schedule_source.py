"""The schedule source: its timetable, what it does about missed ticks, and that a kill loses and doubles none."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
from pydantic import ValidationError

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import SourceRefused
from millrace_pipeline.moment import timestamp
from millrace_producer.sources.schedule import ScheduleSource
from millrace_producer.sources.timetable import Cron, Every
from tests.services import QUICKLY, Place, on_the_list

THEIRS = '''\
from pathlib import Path
from millrace_producer.sources.base import DeadLetter, Record

NUMBER = 7


def three(tick):
    """Three records a tick; says in a file, by its length, how often it was called."""
    with open("calls", "a") as calls:
        calls.write(".")
    return [{"tick": tick, "n": number} for number in range(3)]


def one():
    return {"n": 1}


def none():
    return None


def mixed(tick, more):
    yield "text"
    yield DeadLetter(b"bad", "as I say")
    yield Record({"more": more}, key="mine", type="mine")


def fails_once(tick):
    if not Path("failed").exists():
        Path("failed").write_text(tick.isoformat())
        raise KeyError("theirs")
    return {"tick": tick}


def fails_in_the_middle(tick):
    yield 0
    yield 1
    raise KeyError("theirs")
'''


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "theirs.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("theirs", None)


def days(**options: Any) -> ScheduleSource:
    """Three days that are over."""
    return ScheduleSource(every="1d", since="2026-03-01", until="2026-03-03T12:00:00Z", missed="all", **options)  # type: ignore[arg-type]


def first(source: ScheduleSource, count: int, resume_from: object = None) -> list[Record]:
    reading = source.read(resume_from)
    came = list(islice(reading, count))
    reading.close()  # type: ignore[attr-defined]  # a generator
    assert all(isinstance(record, Record) for record in came)
    return came  # type: ignore[return-value]


def ticks(records: list[Record]) -> list[datetime]:
    return [at(record.data["tick"]) for record in records]


@pytest.mark.parametrize(
    ("seconds", "moment", "until", "after"),
    [
        (3600, "2026-03-01T10:30:00Z", "2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z"),
        (3600, "2026-03-01T10:00:00Z", "2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z"),
        (0.25, "2026-03-01T10:00:00.300Z", "2026-03-01T10:00:00.250Z", "2026-03-01T10:00:00.500Z"),
        (86_400, "2026-03-01T00:00:00+01:00", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"),
    ],
)
def test_an_interval_is_counted_from_the_epoch(seconds: float, moment: str, until: str, after: str) -> None:
    assert Every(seconds).until(at(moment)) == at(until)
    assert Every(seconds).after(at(moment)) == at(after)


@pytest.mark.parametrize(
    ("expression", "zone", "moment", "until", "after"),
    [
        ("*/5 * * * *", "UTC", "2026-03-01T10:03:20Z", "2026-03-01T10:00:00Z", "2026-03-01T10:05:00Z"),
        ("*/5 * * * *", "UTC", "2026-03-01T10:05:00Z", "2026-03-01T10:05:00Z", "2026-03-01T10:10:00Z"),
        ("*/10 * * * * *", "UTC", "2026-03-01T10:03:21Z", "2026-03-01T10:03:20Z", "2026-03-01T10:03:30Z"),
        ("0 6 * * MON", "Europe/Prague", "2026-03-04T00:00:00Z", "2026-03-02T05:00:00Z", "2026-03-09T05:00:00Z"),
        # The night in which 02:30 doesn't exist: its job is done when the clocks have changed.
        ("30 2 * * *", "Europe/Prague", "2026-03-29T00:59:00Z", "2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z"),
    ],
)
def test_cron_goes_by_the_clock_of_its_time_zone(
    expression: str, zone: str, moment: str, until: str, after: str
) -> None:
    cron = Cron(expression, ZoneInfo(zone))
    assert cron.until(at(moment)) == at(until)
    assert cron.after(at(moment)) == at(after)


def test_without_a_function_the_tick_is_the_record() -> None:
    records = list(days().read(None))
    assert [record.data for record in records if isinstance(record, Record)] == [
        {"tick": f"2026-03-0{day}T00:00:00.000000Z"} for day in (1, 2, 3)
    ]
    (record, *_) = records
    assert isinstance(record, Record)
    assert (record.key, record.type, record.time) == (record.data["tick"], "tick", at("2026-03-01T00:00:00Z"))


def test_a_tick_comes_when_its_time_has_come_and_not_before() -> None:
    began = datetime.now(UTC)
    reading = ScheduleSource(every=0.05).read(None)
    for _ in range(5):
        record = next(reading)
        assert isinstance(record, Record)
        assert began < at(record.data["tick"]) <= datetime.now(UTC)


def test_what_a_function_gives_are_the_records(theirs: None) -> None:
    assert [record.data["n"] for record in first(days(function="theirs:three"), 9)] == [0, 1, 2] * 3
    assert [record.data for record in first(days(function="theirs:one"), 9)] == [{"n": 1}] * 3
    assert first(days(function="theirs:none"), 9) == []
    text, letter, mine = islice(days(function="theirs:mixed", arguments={"more": 7}).read(None), 3)
    assert isinstance(text, Record)
    assert (text.data, text.key, text.time) == ("text", "2026-03-01T00:00:00.000000Z", at("2026-03-01T00:00:00Z"))
    assert isinstance(letter, DeadLetter)
    assert (letter.original, letter.reason) == (b"bad", "as I say")
    assert isinstance(mine, Record)
    assert (mine.data, mine.key, mine.type, mine.position) == ({"more": 7}, "mine", "mine", text.key)


def test_every_record_has_a_key_of_its_own(theirs: None) -> None:
    keys = [record.key for record in first(days(function="theirs:three"), 9)]
    assert len(set(keys)) == 9
    assert keys[:2] == ["2026-03-01T00:00:00.000000Z", "2026-03-01T00:00:00.000000Z/1"]


def hours_ago(hours: int) -> datetime:
    return Every(3600).until(datetime.now(UTC)) - timedelta(hours=hours)


def test_all_missed_ticks_are_caught_up_with_the_oldest_first() -> None:
    last = hours_ago(3)
    source = ScheduleSource(every=3600, missed="all")
    assert ticks(first(source, 3, timestamp(last)))[:3] == [last + timedelta(hours=hour) for hour in (1, 2, 3)]


def test_the_last_missed_tick_is_caught_up_with() -> None:
    (tick,) = ticks(first(ScheduleSource(every=3600, missed="last"), 1, timestamp(hours_ago(3))))
    assert hours_ago(1) < tick <= datetime.now(UTC)


def test_nothing_is_caught_up_with_where_nothing_was_missed() -> None:
    """The tick that is over isn't done again, in whichever way missed ones are treated."""
    step = 0.2
    for missed in ("skip", "last", "all"):
        last = Every(step).until(datetime.now(UTC))
        (tick,) = ticks(first(ScheduleSource(every=step, missed=missed), 1, timestamp(last)))  # type: ignore[arg-type]
        assert tick > last


def test_missed_ticks_are_skipped() -> None:
    began = datetime.now(UTC)
    (tick,) = ticks(first(ScheduleSource(every=0.05), 1, timestamp(began - timedelta(hours=3))))
    assert tick > began


def test_a_tick_that_was_begun_is_finished_though_missed_ones_are_skipped(theirs: None) -> None:
    position = {"tick": "2026-03-01T00:00:00.000000Z", "done": 1}
    source = ScheduleSource(every=0.05, function="theirs:three")
    records = first(source, 3, position)
    assert [record.data["n"] for record in records] == [1, 2, 0]
    assert [record.data["tick"] == at("2026-03-01T00:00:00Z") for record in records] == [True, True, False]


def test_the_first_start_is_a_tick_where_that_is_wanted_and_a_restart_is_none() -> None:
    source = ScheduleSource(every="1d", at_start=True, missed="all")  # type: ignore[arg-type]
    began = datetime.now(UTC)
    (record,) = first(source, 1)
    assert began <= at(record.data["tick"]) <= datetime.now(UTC)
    hourly = ScheduleSource(every=3600, at_start=True, missed="all")
    last = hours_ago(1)
    assert ticks(first(hourly, 1, timestamp(last))) == [last + timedelta(hours=1)]


def test_a_tick_whose_function_failed_comes_again_when_ticks_are_caught_up_with(theirs: None) -> None:
    source = ScheduleSource(every=0.05, missed="all", function="theirs:fails_once")
    with pytest.raises(KeyError):
        first(source, 1)
    (record,) = first(source, 1)
    assert record.data["tick"].isoformat() == Path("failed").read_text()


def test_what_came_before_a_function_failed_is_kept_and_its_tick_is_not_over(theirs: None) -> None:
    reading = days(function="theirs:fails_in_the_middle").read(None)
    records = [next(reading), next(reading)]
    assert [record.position for record in records] == [
        {"tick": "2026-03-01T00:00:00.000000Z", "done": done} for done in (1, 2)
    ]
    with pytest.raises(KeyError):
        next(reading)


@pytest.mark.parametrize("position", [7, "tomorrow", {"tick": "2026-03-01"}, {"done": 1}, []])
def test_a_checkpoint_of_another_source_is_refused(position: object) -> None:
    with pytest.raises(SourceRefused, match="no tick"):
        list(days().read(position))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "when"),
        ({"every": 1, "cron": "* * * * *"}, "expected one of them"),
        ({"cron": "61 * * * *"}, "bad minute"),
        ({"cron": "every hour"}, "wrong number of fields"),
        ({"every": 0}, "greater than or equal"),
        ({"cron": "* * * * *", "timezone": "Prague"}, "no time zone 'Prague'"),
        ({"every": 1, "function": "theirs:NUMBER"}, "can't be called"),
        ({"every": 1, "function": "theirs:thre"}, "did you mean 'three'"),
        ({"every": 1, "function": "theirs:mixed"}, "missing a required argument: 'more'"),
        ({"every": 1, "arguments": {"a": 1}}, "there is none"),
    ],
)
def test_what_can_not_work_is_said_when_the_flow_is_checked(
    theirs: None, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        ScheduleSource(**options)


def test_killed_again_and_again_every_tick_has_its_three_records_once(place: Place, client: redis.Redis) -> None:
    place.module(THEIRS)
    place.flow(source={"type": "schedule", "every": "20ms", "missed": "all", "function": "theirs:three"})
    for _ in range(2):
        before = client.llen(place.key_of())
        producer = place.produce()
        producer.until(lambda before=before: client.llen(place.key_of()) > before + 40)  # type: ignore[misc]
        producer.kill()
    found = on_the_list(client, place.key_of())
    began = at(found[0]["tick"])
    expected = [(began + timedelta(milliseconds=20 * (index // 3)), index % 3) for index in range(len(found))]
    assert [(at(record["tick"]), record["n"]) for record in found] == expected


def test_sigterm_between_two_ticks_ends_at_once(place: Place, client: redis.Redis) -> None:
    place.flow(source={"type": "schedule", "cron": "0 0 1 1 *", "at_start": True})
    producer = place.produce()
    producer.until(lambda: client.llen(place.key_of()) == 1)
    assert producer.terminate(QUICKLY) == 0, producer.said


def test_the_function_is_not_called_while_the_list_is_full(place: Place, client: redis.Redis) -> None:
    place.module(THEIRS)
    options = {"since": "2026-01-01", "missed": "all", "function": "theirs:three"}
    place.flow(source={"type": "schedule", "every": "1s", **options}, queue={"max_ready": 30})
    producer = place.produce()
    producer.await_event("producer_held_back")
    assert producer.terminate(QUICKLY) == 0, producer.said
    # The list at its mark, the batch that waits, a buffer of two batches, a tick in hand and the one ahead of it.
    assert len((place.folder / "calls").read_text()) * 3 <= 30 + 10 + 20 + 3 + 3


def test_the_example_looks_at_the_disks_at_each_tick(place: Place, client: redis.Redis) -> None:
    place.example("schedule")
    producer = place.produce("disks", EVERY="100ms")
    producer.until(lambda: client.llen(place.key_of("disks")) >= 6)
    assert producer.terminate(QUICKLY) == 0, producer.said
    place.deliver_the_rest()
    files = (place.folder / "data" / "disks").rglob("*.jsonl")
    paths = [json.loads(line)["path"] for path in files for line in path.read_text().splitlines()]
    assert {"/", "/tmp"} == set(paths)
