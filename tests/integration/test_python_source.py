"""The python source: what may be named, and how a user's generator goes on after a kill."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import ValidationError

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import SourceRefused
from millrace_producer.sources.python import PythonSource
from tests.services import QUICKLY, Place, on_the_list

THEIRS = '''\
import threading
from pathlib import Path
from millrace_producer.sources.base import DeadLetter, Record

LIST = [{"n": 0}, 1, "two", None]
ONCE = iter(LIST)
NUMBER = 7


def endless(resume_from=None):
    """Counts, and says in a file how far it has been asked for."""
    number = -1 if resume_from is None else resume_from
    while True:
        number += 1
        Path("asked").write_text(str(number))
        yield Record({"n": number}, position=number)


def silent():
    yield {"n": 0}
    threading.Event().wait()


def with_letters():
    yield 0
    yield DeadLetter(b"bad", "as I say")
    yield Record(2, key="two", type="number")


def keeps_positions_to_itself():
    yield Record(1, position=1)


def one_record(n=1):
    return {"n": n}


async def later():
    return []


def fails():
    yield 1
    raise KeyError("theirs")


class Lines:
    def __init__(self, text):
        self.text = text

    def __iter__(self):
        return iter(self.text.split())
'''


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "theirs.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("theirs", None)


def came(source: PythonSource, resume_from: object = None) -> list[object]:
    return [record.data for record in source.read(resume_from) if isinstance(record, Record)]


def test_an_iterable_a_function_and_a_class_will_do(theirs: None) -> None:
    assert came(PythonSource(function="theirs:LIST")) == [{"n": 0}, 1, "two", None]
    assert came(PythonSource(function="theirs:Lines", arguments={"text": "a b c"})) == ["a", "b", "c"]
    assert came(PythonSource(function="string:digits.split")) == ["0123456789"]


def test_a_record_and_a_dead_letter_stay_what_they_are(theirs: None) -> None:
    first, letter, last = PythonSource(function="theirs:with_letters").read(None)
    assert first == Record(0)
    assert letter == DeadLetter(b"bad", "as I say")
    assert last == Record(2, key="two", type="number")


def test_what_is_counted_passes_over_as_many_as_were_published(theirs: None) -> None:
    source = PythonSource(function="theirs:LIST", counted=True)
    assert [record.position for record in source.read(None)] == [1, 2, 3, 4]
    assert came(source, 2) == ["two", None]
    assert came(source, 4) == []
    with pytest.raises(SourceRefused, match="checkpoint is a str"):
        came(source, "2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"function": "theirs"}, "expected a dotted path"),
        ({"function": "nowhere_at_all:f"}, "no module nowhere_at_all"),
        ({"function": "theirs:silnet"}, "did you mean 'silent'"),
        ({"function": "theirs:NUMBER"}, "nothing that can be iterated"),
        ({"function": "theirs:ONCE"}, "can be iterated only once"),
        ({"function": "theirs:LIST", "arguments": {"a": 1}}, "takes no arguments"),
        ({"function": "theirs:silent", "arguments": {"a": 1}}, "unexpected keyword argument 'a'"),
        ({"function": "theirs:Lines"}, "missing a required argument: 'text'"),
        ({"function": "theirs:endless", "counted": True}, "has a parameter resume_from"),
    ],
)
def test_what_can_not_work_is_said_when_the_flow_is_checked(
    theirs: None, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        PythonSource(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("theirs:one_record", "gave a dict"),
        ("theirs:later", "gave a coroutine"),
        ("theirs:keeps_positions_to_itself", "no parameter resume_from"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_what_can_only_be_seen_while_reading_is_refused(theirs: None, function: str, message: str) -> None:
    with pytest.raises(SourceRefused, match=message):
        came(PythonSource(function=function))


def test_an_exception_of_theirs_comes_through_as_it_is(theirs: None) -> None:
    with pytest.raises(KeyError, match="theirs"):
        came(PythonSource(function="theirs:fails"))


def test_killed_in_the_middle_it_goes_on_after_the_last_record_on_the_list(place: Place, client: redis.Redis) -> None:
    place.module(THEIRS)
    place.flow(source={"type": "python", "function": "theirs:endless"})
    for _ in range(2):
        before = client.llen(place.key_of())
        producer = place.produce()
        producer.until(lambda before=before: client.llen(place.key_of()) > before + 50)  # type: ignore[misc]
        producer.kill()
    found = on_the_list(client, place.key_of())
    assert found == [{"n": number} for number in range(len(found))]


def test_sigterm_while_it_blocks_ends_at_once(place: Place, client: redis.Redis) -> None:
    place.module(THEIRS)
    place.flow(source={"type": "python", "function": "theirs:silent"})
    producer = place.produce()
    producer.until(lambda: client.llen(place.key_of()) == 1)
    assert producer.terminate(QUICKLY) == 0, producer.said


def test_it_is_not_asked_for_more_while_the_list_is_full(place: Place, client: redis.Redis) -> None:
    place.module(THEIRS)
    place.flow(source={"type": "python", "function": "theirs:endless"}, queue={"max_ready": 50})
    producer = place.produce()
    producer.await_event("producer_held_back")
    assert producer.terminate(QUICKLY) == 0, producer.said
    # The list at its mark, the batch that waits, a buffer of two batches, and the one that is waiting to get in.
    assert int((place.folder / "asked").read_text()) <= 50 + 10 + 20 + 1


def test_the_example_yields_the_primes_and_a_second_run_adds_none(place: Place) -> None:
    place.example("python")
    for _ in range(2):
        producer = place.produce("primes")
        assert producer.wait() == 0, producer.said
        place.deliver_the_rest()
    files = (place.folder / "data" / "primes").rglob("*.jsonl")
    primes = [json.loads(line)["prime"] for path in files for line in path.read_text().splitlines()]
    assert sorted(primes)[:5] == [2, 3, 5, 7, 11]
    assert len(primes) == 168
