"""Following a file that grows, across its rotation in each manner that there is."""

from __future__ import annotations

import gzip
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.jsontext import encode_json
from millrace_producer.sources.files import FilesSource
from tests.integration.pausing import Pauses, pauses
from tests.services import Place, on_the_list

__all__ = ["pauses"]  # the fixture

LONG = "x" * 2000
"""Longer than what is looked at of a file's beginning."""


class Log:
    """A program's log, as a program writes it: it keeps the file open until it is told to open it anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.numbers = 0
        self._file = path.open("ab", buffering=0)
        self._clock = time.time() - 3600

    def write(self, count: int = 1, text: str = "") -> None:
        for _ in range(count):
            self._file.write(json.dumps({"n": self.numbers, "text": text}).encode() + b"\n")
            self.numbers += 1
        self._touch(self._file.fileno())

    def half(self) -> bytes:
        """Half a line; returns the other half."""
        line = json.dumps({"n": self.numbers}).encode() + b"\n"
        self.numbers += 1
        self._file.write(line[:4])
        return line[4:]

    def write_bytes(self, text: bytes) -> None:
        self._file.write(text)

    def rename(self, suffix: str = ".1") -> None:
        """What logrotate does first: the program still writes into the file, by whatever name."""
        self.path.rename(f"{self.path}{suffix}")

    def reopen(self) -> None:
        self._file.close()
        self._file = self.path.open("ab", buffering=0)

    def rotate(self, suffix: str = ".1") -> None:
        self.rename(suffix)
        self.reopen()

    def copy_and_truncate(self, suffix: str = ".1") -> None:
        shutil.copyfile(self.path, f"{self.path}{suffix}")
        self._touch(Path(f"{self.path}{suffix}"))
        os.truncate(self.path, 0)

    def _touch(self, path: Path | int) -> None:
        """Each change a minute after the last, and none of them of late: nobody has to wait for it to settle."""
        self._clock += 60
        os.utime(path, (self._clock, self._clock))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "app.jsonl")


def tail(log: Log, **options: Any) -> FilesSource:
    return FilesSource(path=str(log.path), mode="tail", settle=1, **options)


def numbers(records: list[Any]) -> list[int]:
    return [json.loads(record.data)["n"] for record in records]


def test_what_is_added_is_read_as_it_comes(log: Log, pauses: Pauses) -> None:
    log.write(3)
    came = pauses.read(tail(log), log.write, lambda: log.write(2), lambda: None)
    assert numbers(came) == [0, 1, 2, 3, 4, 5]


def test_a_half_written_line_waits_for_its_newline(log: Log, pauses: Pauses) -> None:
    log.write(2)
    rest = log.half()
    came = pauses.read(tail(log), lambda: None, lambda: log.write_bytes(rest[:-1]), lambda: log.write_bytes(rest[-1:]))
    assert numbers(came) == [0, 1, 2]
    assert pauses.counts == [2, 2, 2, 3]


@pytest.mark.parametrize("text", ["", LONG])
def test_a_renamed_file_is_read_to_its_end_before_the_new_one(log: Log, pauses: Pauses, text: str) -> None:
    log.write(3, text)
    came = pauses.read(
        tail(log),
        log.rename,
        lambda: log.write(2, text),  # into the old file still
        log.reopen,
        lambda: log.write(2, text),
        lambda: log.rotate(".2"),
        lambda: log.write(1, text),
    )
    assert numbers(came) == list(range(8))


@pytest.mark.parametrize("text", ["", LONG])
@pytest.mark.parametrize("later", [0, 1, 20])
def test_a_file_that_is_copied_and_truncated_loses_and_doubles_nothing(
    log: Log, pauses: Pauses, later: int, text: str
) -> None:
    log.write(3, text)

    def rotation() -> None:
        log.write(2, text)  # not read yet when it is copied
        log.copy_and_truncate()
        log.write(later, text)  # from none to more than was there before

    came = pauses.read(tail(log), rotation, lambda: log.write(1, text))
    assert numbers(came) == list(range(6 + later))


def test_several_rotations_between_two_looks_lose_nothing(log: Log, pauses: Pauses) -> None:
    log.write(3)

    def rotations() -> None:
        log.write()
        log.rename(".1")
        log.reopen()
        log.write(2)
        Path(f"{log.path}.1").rename(f"{log.path}.2")
        log.rotate(".1")
        log.write(2)

    assert numbers(pauses.read(tail(log), rotations)) == list(range(8))


@pytest.mark.parametrize("read", [1, 3])
@pytest.mark.parametrize("text", ["", LONG])
@pytest.mark.parametrize("how", ["renamed", "copied", "packed", "numbered before the suffix"])
def test_a_restart_finds_the_rest_of_what_was_rotated_meanwhile(
    log: Log, pauses: Pauses, how: str, text: str, read: int
) -> None:
    log.write(3, text)
    position = json.loads(encode_json(pauses.read(tail(log))[read - 1].position))
    log.write(2, text)
    if how == "copied":
        log.copy_and_truncate(".1")
    else:
        log.rotate("-20261121")
    if how == "packed":
        old = Path(f"{log.path}-20261121")
        packed = Path(f"{old}.gz")
        packed.write_bytes(gzip.compress(old.read_bytes()))
        os.utime(packed, ns=(old.stat().st_mtime_ns,) * 2)
        old.unlink()
    if how == "numbered before the suffix":
        Path(f"{log.path}-20261121").rename(log.path.with_name("app-20261121.jsonl"))
    log.write(2, text)
    log.rotate("-20261122")
    log.write(2, text)
    assert numbers(pauses.read(tail(log), position=position)) == list(range(read, 9))


def test_a_restart_goes_on_from_each_record_across_a_rotation(log: Log, pauses: Pauses) -> None:
    log.write(3)
    came = pauses.read(tail(log), lambda: (log.write(), log.rotate(), log.write(2)), lambda: log.write(2))
    assert numbers(came) == list(range(8))
    for count, record in enumerate(came, 1):
        position = json.loads(encode_json(record.position))
        assert numbers(pauses.read(tail(log), position=position)) == list(range(count, 8))


def test_what_was_rotated_away_and_removed_is_said_to_be_lost(
    log: Log, pauses: Pauses, caplog: pytest.LogCaptureFixture
) -> None:
    log.write(3)
    position = pauses.read(tail(log))[0].position
    log.rotate()
    Path(f"{log.path}.1").unlink()
    log.write(2, "another")
    with caplog.at_level(logging.WARNING):
        assert numbers(pauses.read(tail(log), position=json.loads(encode_json(position)))) == [3, 4]
    assert "is lost" in caplog.text


def test_files_beside_it_that_are_no_rotations_are_left_alone(log: Log, pauses: Pauses) -> None:
    log.write(2)
    for name in ("app.jsonl.bak", "app.jsonl.swp", "app2.jsonl", "other.jsonl.1", "app.jsonl~"):
        log.path.with_name(name).write_text('{"n": "not ours"}\n')
    assert numbers(pauses.read(tail(log), log.rotate, lambda: log.write(2))) == [0, 1, 2, 3]


def test_a_file_that_is_not_there_yet_is_waited_for(tmp_path: Path, pauses: Pauses) -> None:
    path = tmp_path / "later.log"
    came = pauses.read(FilesSource(path=str(path), mode="tail"), lambda: None, lambda: path.write_text("one\ntwo\n"))
    assert [record.data for record in came if not isinstance(record, DeadLetter)] == ["one", "two"]


def test_a_growing_csv_has_its_rows_by_the_header_of_each_file(tmp_path: Path, pauses: Pauses) -> None:
    path = tmp_path / "sales.csv"
    path.write_text('n,text\r\n1,"a\r\n')
    source = FilesSource(path=str(path), mode="tail", settle=0)

    def add(text: str) -> Callable[[], None]:
        def write() -> None:
            with path.open("a") as file:
                file.write(text)

        return write

    def rotate() -> None:
        path.rename(f"{path}.1")
        path.write_text("text,n\nd,4\n")

    came = pauses.read(source, add('b"\r\n2'), add(',"c"\r\n3,'), add("x\r\n"), rotate)
    assert pauses.counts == [0, 1, 2, 3, 4]
    rows = [{"n": "1", "text": "a\r\nb"}, {"n": "2", "text": "c"}, {"n": "3", "text": "x"}, {"n": "4", "text": "d"}]
    assert [record.data for record in came if not isinstance(record, DeadLetter)] == rows
    for count, record in enumerate(came[:3], 1):
        position = json.loads(encode_json(record.position))
        found = pauses.read(source, position=position)
        assert [again.data for again in found if not isinstance(again, DeadLetter)] == rows[count:]


def test_a_real_producer_killed_and_started_again_has_every_line_of_a_rotating_log_once(
    place: Place, client: redis.Redis
) -> None:
    path = place.folder / "app.jsonl"
    log = Log(path)
    place.flow(source={"type": "files", "path": "app.jsonl", "mode": "tail", "interval": "20ms", "settle": "100ms"})
    for turn in range(2):
        producer = place.produce()
        log.write(50)
        producer.until(lambda: client.llen(place.key_of()) == log.numbers)
        log.write(50)
        log.rotate(f".{turn}1")
        log.write(50)
        producer.until(lambda: client.llen(place.key_of()) == log.numbers)
        log.write(5)
        log.copy_and_truncate(f".{turn}2")
        log.write(20)
        producer.kill()
        log.write(20)
        log.rotate(f".{turn}3")
    log.write(20)
    producer = place.produce()
    producer.until(lambda: client.llen(place.key_of()) >= log.numbers)
    assert producer.terminate() == 0, producer.said
    assert [record["n"] for record in on_the_list(client, place.key_of())] == list(range(log.numbers))
