"""A record over which a consumer stands still: alive, but with no thread that could renew a lease or hear a signal."""

from __future__ import annotations

import signal

import pytest

from millrace_pipeline.process.watchdog import EXIT_CODE
from millrace_pipeline.queue import DeadLetters
from tests.conftest import eventually
from tests.faults.conftest import Row
from tests.faults.counting import text
from tests.faults.flowrun import FlowRun
from tests.faults.ways import in_every_way
from tests.services import Service

THEIRS = """
import re
from pathlib import Path
from threading import Event


def matched(record):
    '''A pattern that takes for ever, in C: the interpreter's lock is not let go of meanwhile.'''
    if record.get("n") == 57:
        re.match("(a+)+$", "a" * 60 + "b")
    return record


def matched_later(record):
    Path("reached").touch()
    while not Path("go").exists():
        Event().wait(0.01)
    return matched({"n": 57})
"""


@in_every_way
@pytest.mark.timeout(400)
def test_a_record_that_takes_for_ever_is_set_aside_and_all_others_come_once(flow: FlowRun, row: Row) -> None:
    row("a value that takes for ever", flow.invariants)
    flow.place.module(THEIRS)
    flow.declare(transforms=["theirs:matched"], lease="1s", max_attempts=2, batch={"records": 8, "linger": 0})
    flow.publish(100)
    crew = [flow.consume(), flow.consume()]
    ended: list[Service] = []

    def all_done() -> bool:
        for place, one in enumerate(crew):
            if not one.running:
                ended.append(one)
                crew[place] = flow.consume()
        return flow.queue.lag() == 0

    eventually(all_done, 300)
    assert {one.wait() for one in ended} == {EXIT_CODE}
    assert all("in matched" in one.said for one in ended)
    assert len(ended) <= 2 + 1 + 3  # both attempts, perhaps one uncounted ahead of its time, and a death a halving
    (letter,) = DeadLetters(flow.queue).newest()
    assert text(57) in letter.record
    assert letter.reason.startswith("killed its consumer")
    assert flow.queue.books().delivered == 99
    flow.invariants.check_live()
    flow.invariants.check_complete()
    flow.invariants.check_sound()
    flow.invariants.check_distinct()


def test_a_consumer_that_was_told_to_stop_stands_still_for_no_longer_than_its_grace(flow: FlowRun, row: Row) -> None:
    row("a value that takes for ever", "L")
    flow.place.module(THEIRS)
    flow.declare(transforms=["theirs:matched_later"], lease="10m")
    flow.publish(1)
    consumer = flow.consume(MILLRACE_GRACE_SECONDS="2")
    consumer.until(lambda: (flow.place.folder / "reached").exists())
    consumer.signal(signal.SIGTERM)
    consumer.await_event("service_stopping")
    (flow.place.folder / "go").touch()
    assert consumer.wait() == EXIT_CODE, consumer.said
