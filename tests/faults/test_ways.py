"""No test of a fault forgets a way to publish, and no row that runs in all of them is missing as shipped."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults import test_shipped_flows
from tests.faults.ways import LED

FOLDER = Path(__file__).parent
SHIPPED = inspect.getsource(test_shipped_flows)

ROW = re.compile(r"\brow\(f?(\"[^\"]+\")")
PRODUCER_AT_WORK = re.compile(r"\b(flow\.publishing|flow\.produce|place\.produce)\(")

NOT_AS_SHIPPED = {
    '"Redis restarts while max_ready holds producers back"',  # the mark of the shipped flows is at a million
    '"AOF tail cut, the stream silent since"',  # theirs never is
    '"SSE: cut mid-event"',  # faults of a source, which the list has no part in
    '"SSE: gzip bomb"',
    '"record of 100 MB"',  # nor has theirs such records
    '"a value that takes for ever"',
}


def written() -> dict[str, Callable[..., Any]]:
    """The tests of this folder that prove a row, but for those of the shipped flows, by name."""
    modules = [importlib.import_module(f"tests.faults.{path.stem}") for path in FOLDER.glob("test_*.py")]
    found = {name: one for module in modules for name, one in vars(module).items() if name.startswith("test_")}
    return {
        name: one
        for name, one in sorted(found.items())
        if inspect.isfunction(one)
        and ROW.search(inspect.getsource(one))
        and one.__module__ != test_shipped_flows.__name__
    }


def ways_of(test: Callable[..., Any]) -> set[str]:
    """The ways of publishing that a test is parametrized with."""
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize" and "way" in mark.args[0]]
    return {str(value[0] if isinstance(value, tuple) else value) for mark in marks for value in mark.args[1]}


TESTS = written()


@pytest.mark.parametrize("name", TESTS)
def test_a_fault_with_a_producer_at_work_runs_in_each_way_of_publishing(name: str) -> None:
    if PRODUCER_AT_WORK.search(inspect.getsource(TESTS[name])):
        assert ways_of(TESTS[name]) >= set(map(str, LED))


@pytest.mark.parametrize("name", [name for name, test in TESTS.items() if ways_of(test)])
def test_a_fault_that_runs_in_each_way_is_done_to_the_shipped_flows_too(name: str) -> None:
    rows = set(ROW.findall(inspect.getsource(TESTS[name])))
    assert {row for row in rows if row not in SHIPPED} <= NOT_AS_SHIPPED
