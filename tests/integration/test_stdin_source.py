"""`… | millrace produce FLOW`: what another program prints, as real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import SourceRefused
from millrace_producer.sources.stdin import KEPT_BYTES, StdinSource
from tests.conftest import eventually
from tests.integration.ports import refusing
from tests.services import QUICKLY, Place, Service, on_the_list


@pytest.fixture
def stdin() -> Iterator[None]:
    """This process's own standard input, put back after the test."""
    before = os.dup(0)
    yield
    os.dup2(before, 0)
    os.close(before)


def source_of(text: bytes, tmp_path: Path, **options: object) -> StdinSource:
    """A source that reads this."""
    path = tmp_path / "input"
    path.write_bytes(text)
    descriptor = os.open(path, os.O_RDONLY)
    os.dup2(descriptor, 0)
    os.close(descriptor)
    return StdinSource(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "records"),
    [
        (b"", []),
        (b"1\n2\n", [b"1", b"2"]),
        (b"1\n2", [b"1", b"2"]),
        (b"1\r\n2\r\n", [b"1", b"2"]),
        (b"\n\n1\n\n\r\n2\n\n", [b"1", b"2"]),
        (b'"' + b"x" * 300_000 + b'"\n2\n', [b'"' + b"x" * 300_000 + b'"', b"2"]),
    ],
)
def test_a_line_is_a_record_and_an_empty_one_is_none(
    text: bytes, records: list[bytes], tmp_path: Path, stdin: None
) -> None:
    assert [record.data for record in source_of(text, tmp_path).read(None) if isinstance(record, Record)] == records


def test_text_is_taken_as_text_and_what_is_none_becomes_a_dead_letter(tmp_path: Path, stdin: None) -> None:
    came = list(source_of(b"caf\xc3\xa9\ncaf\xe9\n1\n", tmp_path, format="text").read(None))
    assert [record.data for record in came if isinstance(record, Record)] == ["café", "1"]
    assert [(letter.original, letter.reason) for letter in came if isinstance(letter, DeadLetter)] == [
        (b"caf\xe9", "not UTF-8: byte 0xe9 at offset 3")
    ]


@pytest.mark.parametrize("size", [1001, 70_000, 400_000])
def test_a_line_that_is_too_long_is_set_aside_with_its_beginning_and_reading_goes_on(
    size: int, tmp_path: Path, stdin: None
) -> None:
    text = b"1\n" + b"x" * size + b"\n2\n" + b"y" * size
    first, long, second, last = source_of(text, tmp_path, max_line_bytes=1000).read(None)
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert (first.data, second.data) == (b"1", b"2")
    for letter, letters in ((long, b"x"), (last, b"y")):
        assert isinstance(letter, DeadLetter)
        assert letter.original == letters * min(size, KEPT_BYTES)
        assert str(size) in letter.reason


def test_the_key_and_the_time_are_where_the_pointers_say(tmp_path: Path, stdin: None) -> None:
    text = b'{"id": 7, "at": "2026-11-21T10:00:00Z"}\n'
    (record,) = source_of(text, tmp_path, key="/id", time="/at").read(None)
    assert isinstance(record, Record)
    assert record.key == "7"
    assert record.time is not None
    assert record.time.isoformat() == "2026-11-21T10:00:00+00:00"


def test_an_input_that_does_not_block_is_waited_for(stdin: None) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.dup2(reading, 0)
    os.close(reading)
    came: list[object] = []
    reader = threading.Thread(target=lambda: [came.append(record) for record in StdinSource().read(None)])
    reader.start()
    for number in range(3):
        os.write(writing, b"%d\n" % number)
        eventually(lambda number=number: len(came) == number + 1)  # type: ignore[misc]
    os.close(writing)
    reader.join(30)
    assert [record.data for record in came if isinstance(record, Record)] == [b"0", b"1", b"2"]


def test_under_a_supervisor_there_is_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_SUPERVISED", "1")
    with pytest.raises(SourceRefused, match="millrace produce"):
        list(StdinSource().read(None))


def piped(place: Place) -> Service:
    place.flow(source={"type": "stdin"})
    return place.start("produce", "numbers", stdin=subprocess.PIPE)


def say(service: Service, numbers: range) -> None:
    assert service.process.stdin is not None
    service.process.stdin.write(b"".join(b'{"n": %d}\n' % number for number in numbers))
    service.process.stdin.flush()


def test_what_a_program_prints_is_on_the_list_and_its_end_is_the_end(place: Place, client: redis.Redis) -> None:
    producer = piped(place)
    say(producer, range(250))
    assert producer.process.stdin is not None
    producer.process.stdin.close()
    assert producer.wait() == 0, producer.said
    assert on_the_list(client, place.key_of()) == [{"n": number} for number in range(250)]


def test_sigterm_while_the_input_is_silent_ends_at_once_and_what_it_said_is_on_the_list(
    place: Place, client: redis.Redis
) -> None:
    producer = piped(place)
    say(producer, range(25))
    producer.until(lambda: client.llen(place.key_of()) == 25)
    assert producer.terminate(QUICKLY) == 0, producer.said
    assert on_the_list(client, place.key_of()) == [{"n": number} for number in range(25)]


def test_a_full_list_holds_the_other_program_back(place: Place, client: redis.Redis) -> None:
    place.flow(source={"type": "stdin"}, queue={"max_ready": 50})
    endless = 'import itertools\nfor n in itertools.count(): print(\'{"n": %d, "filler": "%s"}\' % (n, \'x\' * 200))'
    with subprocess.Popen([sys.executable, "-c", endless], stdout=subprocess.PIPE) as program:
        try:
            assert program.stdout is not None
            producer = place.start("produce", "numbers", stdin=program.stdout.fileno())
            producer.await_event("producer_held_back")
            # What is read beyond the list: two batches in the buffer, a chunk of the pipe, and the pipe itself.
            assert client.llen(place.key_of()) < 100
            assert producer.terminate(QUICKLY) == 0
        finally:
            program.kill()
            program.stdout.close()
    found = on_the_list(client, place.key_of())
    assert [record["n"] for record in found] == list(range(len(found)))


def test_the_example_keeps_the_errors_of_a_log(place: Place) -> None:
    place.example("stdin")
    producer = place.start("produce", "log", stdin=subprocess.PIPE)
    lines = [b'{"id": %d, "level": "%s"}\n' % (number, b"info" if number % 2 else b"error") for number in range(20)]
    producer.process.communicate(b"".join(lines), timeout=60)
    assert producer.process.returncode == 0, producer.said
    place.deliver_the_rest()
    written = [line for path in (place.folder / "data").rglob("*.jsonl") for line in path.read_text().splitlines()]
    assert [json.loads(line)["id"] for line in written] == list(range(0, 20, 2))


def test_what_is_piped_begins_on_the_embedded_valkey_where_nobody_else_answers(place: Place) -> None:
    place.flow(source={"type": "stdin"})
    with refusing() as port:
        nobody = {"REDIS_URL": "", "MILLRACE_DEFAULT_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
        producer = place.produce(stdin=subprocess.PIPE, **nobody)
        assert producer.process.stdin is not None
        with producer.process.stdin as lines:
            lines.write(b'{"n": 1}\n{"n": 2}\n')
        assert producer.wait() == 0, producer.said
        assert "the embedded Valkey of this folder" in producer.await_event("redis_found")["redis"]
        consumer = place.consume("--until-empty", **nobody)
        assert consumer.wait() == 0, consumer.said
    assert place.numbers() == [1, 2]
