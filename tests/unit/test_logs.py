"""What people are shown of a log: batches folded into a line now and then, all of them at debug, and sentences."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from millrace_pipeline.process import logs
from millrace_pipeline.process.ending import sentence_of
from millrace_pipeline.process.logs import FOLDED_SECONDS, FoldedBatches, Lines

Fold = Callable[..., "dict[str, Any] | None"]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fold(clock: Clock) -> Fold:
    folded = FoldedBatches(clock)

    def one(flow: str = "a", event: str = "batch_delivered", **fields: Any) -> dict[str, Any] | None:
        try:
            return dict(folded(None, "info", {"event": event, "flow": flow, **fields}))
        except structlog.DropEvent:
            return None

    return one


def test_a_flows_first_batch_is_told_at_once_and_the_next_after_some_seconds(fold: Fold, clock: Clock) -> None:
    assert fold(records=10) == {"event": "batches_delivered", "flow": "a", "batches": 1, "records": 10}
    clock.now += FOLDED_SECONDS - 0.1
    assert fold(records=20) is None
    clock.now += 0.1
    assert fold(records=30) == {
        **{"event": "batches_delivered", "flow": "a", "batches": 2, "records": 50},
        "a_second": round(50 / FOLDED_SECONDS),
    }
    assert fold(records=1) is None


def test_the_rate_is_of_the_time_that_has_passed(fold: Fold, clock: Clock) -> None:
    fold(records=10)
    clock.now += 4 * FOLDED_SECONDS
    assert (told := fold(records=1000)) is not None
    assert told["a_second"] == round(1000 / (4 * FOLDED_SECONDS))


def test_filtered_and_dead_records_are_summed_and_not_shown_where_there_are_none(fold: Fold, clock: Clock) -> None:
    fold(records=1)
    fold(records=5, dead=2)
    fold(records=0, dead=1, filtered=4)
    clock.now += FOLDED_SECONDS
    assert (told := fold(records=2, dead=0)) is not None
    assert (told["batches"], told["records"], told["dead"], told["filtered"]) == (3, 7, 3, 4)
    clock.now += FOLDED_SECONDS
    assert (after := fold(records=2)) is not None
    assert "dead" not in after
    assert "filtered" not in after


def test_each_flow_has_a_line_of_its_own_and_other_events_are_left_alone(fold: Fold) -> None:
    assert fold("a", records=1)
    assert fold("b", records=1)
    assert fold("a", records=1) is None
    other = {"event": "source_opened", "flow": "a", "records": 7}
    assert fold(**other) == other


def test_at_debug_each_batch_of_another_process_is_a_line() -> None:
    events = [{"event": "batch_delivered", "level": "info", "flow": "a", "records": n} for n in range(3)]
    assert [line is not None for line in map(Lines("info").line, [dict(event) for event in events])] == [
        *(True, False, False)
    ]
    lines = [Lines("debug").line(dict(event)) for event in events]
    assert all(line and "batch_delivered" in line and f"records={n}" in line for n, line in enumerate(lines))


@pytest.fixture
def unconfigured() -> Iterator[None]:
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers, logging.getLogger().level = handlers, level


@pytest.mark.parametrize(("level", "lines"), [("info", 1), ("debug", 3)])
def test_at_debug_each_batch_of_this_process_is_a_line(
    unconfigured: None, capsys: pytest.CaptureFixture[str], level: str, lines: int
) -> None:
    logs.configure("pretty", level)
    for number in range(3):
        structlog.get_logger().info("batch_delivered", flow="a", records=number)
    assert len(capsys.readouterr().err.splitlines()) == lines


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        ({"event": "flow_done", "delivered": 173, "filtered": 0, "dead": 0, "left": 0}, "gen: 173 delivered"),
        (
            {"event": "flow_done", "delivered": 1730, "dead": 27, "left": 2, "look": "millrace dead ls gen"},
            "gen: 1,730 delivered, 27 dead, 2 left: millrace dead ls gen",
        ),
        (
            {"event": "producer_done", "published": 30, "dead": 3, "duplicates": 2, "look": "millrace dead ls gen"},
            "gen: 30 published, 3 dead among them, 2 duplicates: millrace dead ls gen",
        ),
        ({"event": "consumer_done", "delivered": 0, "filtered": 4}, "gen: 0 delivered, 4 filtered"),
        ({"event": "inline_done", "delivered": 4, "variants": 1}, "gen: 4 delivered, 1 variant"),
        ({"event": "source_ended", "records": 4}, None),
    ],
)
def test_a_flow_that_is_done_is_a_sentence(event: dict[str, Any], sentence: str | None) -> None:
    assert sentence_of({"flow": "gen", **event}) == sentence


class CountingStream:
    """A stream that keeps each write."""

    def __init__(self) -> None:
        self.writes: list[str] = []

    def write(self, text: str) -> None:
        self.writes.append(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


@pytest.mark.parametrize("style", ["json", "pretty"])
def test_a_line_is_one_write_so_that_no_other_thread_or_process_comes_in_between(
    style: logs.Style, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = CountingStream()
    monkeypatch.setattr("sys.stderr", stream)
    logs.configure(style, service="consume")
    structlog.get_logger("ours").info("batch_delivered", flow="f", records=1)
    logging.getLogger("theirs").warning("careful")
    assert len(stream.writes) == 2
    assert all(line.endswith("\n") for line in stream.writes)
