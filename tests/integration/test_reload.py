"""`millrace run --reload`: what is saved is run, what is wrong is said and changes nothing, and no record is lost."""

from __future__ import annotations

import pytest

from tests.services import Place

COUNTING = """
import threading
from millrace import Record

WORD = "first"

def numbers(resume_from=None):
    number = resume_from or 0
    while True:
        number += 1
        yield Record({"n": number}, position=number)
        threading.Event().wait(0.005)

def worded(record):
    return {**record, "word": WORD}
"""


@pytest.fixture
def counting(place: Place) -> Place:
    place.module(COUNTING)
    place.flow(source={"type": "python", "function": "theirs:numbers"}, transforms=["theirs:worded"])
    return place


def words(place: Place) -> set[str]:
    return {record["word"] for record in place.records()}


@pytest.mark.timeout(400)
def test_saved_changes_are_run_broken_ones_said_and_nothing_is_lost(counting: Place) -> None:
    running = counting.start("run", "--reload", "numbers")
    running.until(lambda: words(counting) == {"first"})
    counting.module(COUNTING.replace("def worded", "def renamed"))
    assert "theirs:worded" in running.await_event("reload_refused")["reason"]
    before = counting.books().delivered
    running.until(lambda: counting.books().delivered > before + 20)
    assert not running.events("run_reloads")
    counting.module(COUNTING.replace('"first"', '"second"'))
    running.await_event("run_reloads")
    running.until(lambda: words(counting) == {"first", "second"})
    counting.flow(source={"type": "python", "function": "theirs:numbers"}, sink={"type": "jsonl", "path": "out/other"})
    running.until(lambda: len(running.events("run_reloads")) == 2 and counting.files("other"))
    assert running.terminate() == 0, running.said
    counting.deliver_the_rest()
    found = [*counting.numbers(), *counting.numbers("other")]
    assert sorted(found) == list(range(1, counting.books().published + 1))


def test_reload_and_until_empty_are_not_for_one_run(counting: Place) -> None:
    refused = counting.start("run", "--reload", "--until-empty")
    assert refused.wait() == 2
    assert "--reload runs until Ctrl-C" in refused.said
