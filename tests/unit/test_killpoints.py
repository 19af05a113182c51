"""Kill points kill where and when a test says, and only then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
from millrace_pipeline.killpoints import killpoint
for number in range(5):
    killpoint("sink.before_write")
    killpoint("sink.after_write")
    print(number, flush=True)
"""


@pytest.mark.parametrize(
    ("point", "status", "printed"),
    [
        ("sink.after_write", -signal.SIGKILL, 0),
        ("sink.after_write:3", -signal.SIGKILL, 2),
        ("sink.before_write:6", 0, 5),
        ("sink.elsewhere", 0, 5),
        ("", 0, 5),
    ],
)
def test_the_process_dies_at_the_point_it_was_told(point: str, status: int, printed: int) -> None:
    environment = os.environ | {"MILLRACE_KILLPOINT": point}
    child = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=False)
    assert child.returncode == status
    assert len(child.stdout.splitlines()) == printed
