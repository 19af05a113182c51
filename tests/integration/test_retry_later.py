"""`RetryLater`: a record that can't be transformed now waits, counted, and is tried again; the others go on."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import millrace
from millrace.cli import verify
from millrace.inline import run_inline
from millrace_pipeline.flows.flow import load
from millrace_pipeline.queue import DeadLetters
from tests.conftest import eventually
from tests.services import Place

THEIRS = '''\
from pathlib import Path

import pyarrow

from millrace import RetryLater, concurrent


def is_busy(record):
    """Sevens can't be looked up until somebody opens, and each try is noted."""
    if record["n"] % 10 != 7:
        return False
    with Path("tries").open("a") as tries:
        tries.write(f"{record['n']}\\n")
    return not Path("open").exists()


def look_up(record):
    if is_busy(record):
        raise RetryLater(1, "the lookup is busy")
    return record


@concurrent(4)
def look_up_beside(record):
    return look_up(record)


async def look_up_async(record):
    return look_up(record)


def look_up_all(records: list[dict]):
    return [look_up(record) for record in records]


def look_up_table(table: pyarrow.Table):
    for record in table.to_pylist():
        look_up(record)
    return table


def twice(record):
    return [record, {**record, "again": True}]
'''


@pytest.fixture
def place(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    place.module(THEIRS)
    monkeypatch.chdir(place.folder)
    monkeypatch.setattr("sys.path", [str(place.folder), *__import__("sys").path])
    monkeypatch.setenv("REDIS_URL", place.redis_url)
    monkeypatch.delenv("MILLRACE_FLOWS", raising=False)
    monkeypatch.delitem(__import__("sys").modules, "theirs", raising=False)
    yield place
    __import__("sys").modules.pop("theirs", None)


def tries(place: Place) -> list[int]:
    path = place.folder / "tries"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def open_it(place: Place) -> None:
    (place.folder / "open").touch()


@pytest.mark.parametrize("function", ["look_up", "look_up_beside", "look_up_async", "look_up_all", "look_up_table"])
def test_what_is_to_be_tried_later_waits_and_is_delivered_once_in_the_end(place: Place, function: str) -> None:
    place.flow(transforms=[f"theirs:{function}"], max_attempts=1000)
    place.publish(range(30))
    consumer = place.consume()
    alone = function not in ("look_up_all", "look_up_table")  # such a function can't say which record it means
    delivered, delayed = (27, 3) if alone else (0, 30)
    consumer.until(lambda: (place.books().delivered, place.books().delayed) == (delivered, delayed))
    books = place.books()
    assert (books.dead, books.difference) == (0, 0)
    assert books.lag == books.ready + books.in_flight + books.delayed
    open_it(place)
    consumer.until(lambda: place.books().delivered == 30)
    assert consumer.terminate() == 0
    place.assert_once(range(30))
    assert not consumer.events("batch_reclaimed")
    assert place.books().difference == 0


def test_it_is_tried_max_attempts_times_in_all_and_then_set_aside(place: Place) -> None:
    place.flow(transforms=["theirs:look_up"], max_attempts=3)
    place.publish(range(10))
    place.deliver_the_rest()
    assert tries(place) == [7, 7, 7]
    books = place.books()
    assert (books.delivered, books.dead, books.delayed, books.difference) == (9, 1, 0, 0)
    with place.queue() as queue:
        (letter,) = DeadLetters(queue).newest()
    assert letter.attempts == 3
    assert letter.reason == "RetryLater: the lookup is busy: no attempt is left of 3"


def test_a_record_that_became_several_waits_as_one(place: Place) -> None:
    place.flow(transforms=["theirs:twice", "theirs:look_up"], max_attempts=1000)
    place.publish(range(10))
    consumer = place.consume()
    consumer.until(lambda: place.books().delayed == 1 and place.books().delivered == 9)
    assert sorted(place.numbers()) == sorted([n for n in range(10) if n != 7] * 2)
    open_it(place)
    consumer.until(lambda: place.books().delivered == 10)
    assert consumer.terminate() == 0
    assert sorted(place.numbers()) == sorted([*range(10)] * 2)


@pytest.mark.parametrize("fsync", ["off", "acknowledge", "write"])
@pytest.mark.parametrize("point", ["after_delay", "before_write", "after_write"])
def test_a_consumer_killed_around_it_loses_nothing_and_writes_nothing_twice(
    place: Place, point: str, fsync: str
) -> None:
    place.flow(transforms=["theirs:look_up"], max_attempts=1000, lease="500ms", queue={"fsync": fsync})
    place.publish(range(20))
    killed = place.consume(MILLRACE_KILLPOINT=f"consumer.{point}:2")
    assert killed.wait() == -signal.SIGKILL, killed.said
    assert place.books().difference == 0
    assert place.books().delayed >= 1
    open_it(place)
    place.deliver_the_rest()
    place.assert_once(range(20))
    assert (place.books().delivered, place.books().difference) == (20, 0)


def test_verify_knows_the_files_of_what_came_later(place: Place) -> None:
    place.flow(transforms=["theirs:look_up"], max_attempts=1000)
    place.publish(range(10))
    consumer = place.consume()
    consumer.until(lambda: place.books().delayed == 1)
    open_it(place)
    consumer.until(lambda: place.books().delivered == 10)
    assert consumer.terminate() == 0
    assert len(place.files()) == 2
    verified = CliRunner().invoke(verify.app, ["--sink"])
    assert verified.exit_code == 0, verified.output
    assert "10 records of 10 delivered" in verified.stdout
    assert "not written by a consumer" not in verified.stdout


def test_a_batch_that_a_sink_may_have_seen_is_put_off_whole(place: Place) -> None:
    place.flow(transforms=["theirs:look_up"], max_attempts=1000, lease="500ms")
    open_it(place)
    place.publish(range(10))
    killed = place.consume(MILLRACE_KILLPOINT="consumer.after_write")
    assert killed.wait() == -signal.SIGKILL, killed.said
    (batch,) = place.batches()
    (place.folder / "open").unlink()
    consumer = place.consume()
    consumer.until(lambda: place.books().delayed == 10)
    (lease,) = place.books().leases
    assert (lease.batch, lease.note) == (batch, "the lookup is busy")
    open_it(place)
    consumer.until(lambda: place.books().delivered == 10)
    assert place.batches() == {batch}
    place.assert_once(range(10))


def test_a_dead_letter_tells_of_delays_and_of_deaths(place: Place) -> None:
    place.module(
        "import os\nfrom millrace import RetryLater\n\n"
        "def odd(record):\n"
        "    tries = os.path.getsize('tries') if os.path.exists('tries') else 0\n"
        "    open('tries', 'a').write('.')\n"
        "    if tries == 0 or record['n'] == 7 and tries > 1:\n"
        "        raise RetryLater(0, 'the lookup is busy')\n"
        "    os._exit(9)\n"
    )
    place.flow(transforms=["theirs:odd"], max_attempts=3, lease="300ms")
    for n, reason in (
        (1, "killed its consumer: 3 attempts, 2 came to no end and 1 asked for a later time: the lookup is busy"),
        (7, "RetryLater: the lookup is busy: no attempt is left of 3, 1 of which came to no end"),
    ):
        place.publish([n])
        while place.books().lag:
            place.consume("--until-empty").wait()
        with place.queue() as queue:
            assert next(iter(DeadLetters(queue).newest())).reason == reason
        (place.folder / "tries").unlink()


def test_records_that_others_pushed_keep_one_name_when_a_batch_comes_again(place: Place) -> None:
    place.flow(
        transforms=["theirs:look_up"],
        max_attempts=1000,
        lease="500ms",
        sink={"type": "jsonl", "path": "out/numbers", "envelope": True},
    )
    with place.queue() as queue:
        for n in (7, 1, 2):
            queue.ask(("LPUSH", queue.keys.ready, json.dumps({"n": n})))
    killed = place.consume(MILLRACE_KILLPOINT="consumer.after_write")
    assert killed.wait() == -signal.SIGKILL, killed.said
    before = {record["id"]: record["data"]["n"] for record in place.records()}
    open_it(place)
    place.deliver_the_rest()
    after = {record["id"]: record["data"]["n"] for record in place.records()}
    assert sorted(before.values()) == [1, 2]
    assert before.items() <= after.items()
    assert sorted(after.values()) == [1, 2, 7]
    assert (place.books().foreign, place.books().difference) == (3, 0)


def test_people_see_what_waits_and_why(place: Place) -> None:
    place.flow(transforms=["theirs:look_up"], max_attempts=1000)
    place.publish(range(10))
    consumer = place.consume()
    consumer.until(lambda: place.books().delayed == 1)
    consumer.until(lambda: "1 delayed" in run(place, "status"))
    assert "the lookup is busy" in run(place, "status")
    # It may be met twice, as it moves between the two.
    found = json.loads(run(place, "where", "numbers", "7", "--json"))["records"][0]["sightings"]
    assert {sighting["state"] for sighting in found} <= {"delayed", "in_flight"}
    assert found
    assert "− delayed" in run(place, "verify")


def run(place: Place, *arguments: str) -> str:
    asked = place.start(*arguments)
    asked.wait()
    return asked.printed


def test_a_reader_gets_it_when_its_time_has_come(place: Place) -> None:
    place.flow(transforms=["theirs:look_up"], max_attempts=1000)
    place.publish(range(10))
    got = []
    with millrace.reader("numbers", until_empty=True) as messages:
        for message in messages:
            got.append(message.data["n"])
            if len(got) == 9:
                messages.checkpoint()
                assert place.books().delayed == 1
                open_it(place)
        messages.checkpoint()
    assert got == [0, 1, 2, 3, 4, 5, 6, 8, 9, 7]
    assert (place.books().delivered, place.books().difference) == (10, 0)


def test_inline_waits_for_it(place: Place) -> None:
    place.folder.joinpath("in.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(10)))
    place.flow(source={"type": "files", "path": "in.jsonl"}, transforms=["theirs:look_up"], max_attempts=3, dedupe=None)
    done = run_inline(load(Path("flows.yaml"))["numbers"])
    assert (done.delivered, len(done.dead), tries(place)) == (9, 1, [7, 7, 7])
    open_it(place)
    done = run_inline(load(Path("flows.yaml"))["numbers"])
    assert (done.delivered, len(done.dead)) == (10, 0)


def test_a_dry_run_says_that_it_would_wait(place: Place) -> None:
    place.flow(transforms=["theirs:look_up"])
    asked = place.start("test", "numbers", "--record", '{"n": 7}')
    assert asked.wait() == 0
    assert "record 1 would be tried again later: the lookup is busy" in asked.printed


def test_the_wait_is_over_soon_after_its_time(place: Place) -> None:
    place.flow(transforms=["theirs:look_up"], max_attempts=1000)
    place.publish([7])
    consumer = place.consume()
    eventually(lambda: len(tries(place)) >= 3, 12)
    assert consumer.terminate() == 0
    assert place.books().delayed + place.books().in_flight == 1
