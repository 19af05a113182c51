"""The rows that point to other tests point to tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.faults.elsewhere import ELSEWHERE

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("fault", ELSEWHERE)
def test_a_row_that_is_proven_elsewhere_names_tests_that_exist(fault: str) -> None:
    _, *tests = ELSEWHERE[fault]
    written = {name for path in TESTS.rglob("*.py") for name in re.findall(r"def (test_\w+)\(", path.read_text())}
    assert tests
    assert set(tests) <= written
