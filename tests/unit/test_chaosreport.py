"""What chaos makes of files in which records were planted twice, or are missing."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from millrace.cli.chaosreport import Outcome, outcomes, print_report
from millrace_pipeline.flows.flow import Flow, load
from millrace_pipeline.queue import Books

RECORDS = 10


def flow_with(folder: Path, fsync: str) -> Flow:
    flow = {
        "source": {"type": "sse", "url": "http://127.0.0.1:9/", "key": "/id"},
        "queue": {"fsync": fsync},
        "sink": {"type": "jsonl", "path": str(folder / "out")},
    }
    (folder / "flows.yaml").write_text(json.dumps({"flows": {"mine": flow}}))
    return load(folder / "flows.yaml")["mine"]


def found_in(folder: Path, fsync: str, power_cuts: int, ids: list[int]) -> Outcome:
    """The outcome of a flow that delivered its records, and whose files hold those of these ids."""
    (folder / "out").mkdir()
    (folder / "out" / "batch.jsonl").write_text("".join(f'{{"id":{id}}}\n' for id in ids))
    books = Books(RECORDS, 0, RECORDS, 0, 0, 0, 0, 0, 0.0, [], {})
    (outcome,) = outcomes([flow_with(folder, fsync)], {"mine": books}, None, power_cuts=power_cuts)
    return outcome


def told(outcome: Outcome) -> tuple[bool, str]:
    """Whether all is well, and what is said."""
    said = io.StringIO()
    ok = print_report(Console(file=said, width=200), {"power": 1}, [outcome], why_not="")
    return ok, said.getvalue()


@pytest.mark.parametrize(
    ("fsync", "power_cuts", "allowed"),
    [("acknowledge", 1, True), ("acknowledge", 0, False), ("write", 1, False), ("write", 0, False)],
)
def test_doubles_that_fsync_allows_are_told_and_are_no_failure(
    tmp_path: Path, fsync: str, power_cuts: int, allowed: bool
) -> None:
    outcome = found_in(tmp_path, fsync, power_cuts, [*range(RECORDS), 3, 4, 5])
    ok, said = told(outcome)
    assert (outcome.lost, outcome.twice, ok) == (0, 3, allowed)
    assert ("mine: 3 twice after a power cut" in said) == allowed
    assert ("this should not have happened" in said) != allowed


def test_a_history_that_says_less_than_the_counters_is_a_failure(tmp_path: Path) -> None:
    outcome = found_in(tmp_path, "write", 0, [*range(RECORDS)])
    outcome.moved = {"published": RECORDS, "delivered": RECORDS, "bytes_in": 0, "a new one": 7}
    assert told(outcome)[0]
    outcome.moved = {"published": RECORDS, "delivered": RECORDS - 1}
    ok, said = told(outcome)
    assert not ok
    assert "mine: its history says 9 delivered, its counters 10" in said


@pytest.mark.parametrize("fsync", ["acknowledge", "write"])
def test_a_lost_record_is_a_failure_also_behind_one_that_is_there_twice(tmp_path: Path, fsync: str) -> None:
    outcome = found_in(tmp_path, fsync, 1, [*range(1, RECORDS), 3])
    ok, said = told(outcome)
    assert not ok
    assert "this should not have happened" in said
    if fsync == "acknowledge":
        assert (outcome.lost, outcome.twice) == (1, 1)


@pytest.mark.parametrize("fsync", ["acknowledge", "write"])
def test_each_record_once_is_no_failure_after_a_power_cut(tmp_path: Path, fsync: str) -> None:
    ok, said = told(found_in(tmp_path, fsync, 1, [*range(RECORDS)]))
    assert ok
    assert "twice after a power cut" not in said
