"""Which life of a service is a healthy one, after which its next failure is the first in a row again."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from millrace_pipeline.process.supervisor import Child
from tests.conftest import eventually
from tests.services import PATIENCE

FAILING = """
import json, sys, time
for event in sys.argv[1:]:
    print(json.dumps({"event": event, "level": "warning", "reason": "theirs"}), flush=True)
    time.sleep(0.4)
sys.exit(1)
"""


@pytest.mark.parametrize(
    ("events", "given_up"),
    [(["source_failed", "source_failed"], True), (["source_failed", "source_resumed"], False), (["other"], False)],
)
def test_a_life_that_a_producer_spends_in_trying_its_source_again_is_not_a_healthy_one(
    events: list[str], given_up: bool
) -> None:
    command = [sys.executable, "-c", FAILING, *events]
    child = Child("p", command, os.environ, lambda *_: None, failures=1, longest_wait=0.01, healthy=0.3)
    child.start()

    def over() -> bool:
        child.look()
        return child.gave_up or child.starts > 3

    eventually(over, PATIENCE)
    assert child.gave_up is given_up
    child.signal(signal.SIGTERM)
    child.wait(10)
