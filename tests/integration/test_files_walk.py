"""Reading many files: their order, new ones, replaced ones, damaged ones; killed in the middle; in a bucket."""

from __future__ import annotations

import gzip
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import SourceRefused, SourceUnavailable
from millrace_pipeline.jsontext import encode_json
from millrace_producer.sources.files import FilesSource
from tests.integration.pausing import Pauses, pauses
from tests.moto_server import REGION, MotoServer
from tests.services import Place, on_the_list

__all__ = ["pauses"]  # the fixture


def lines(*numbers: int) -> bytes:
    return b"".join(b'{"n": %d}\n' % number for number in numbers)


def content(suffix: str, rows: Sequence[int]) -> bytes:
    """What a file of this kind holds with an `n` in each row."""
    out: Any = pa.BufferOutputStream()
    if suffix == ".parquet":
        pq.write_table(pa.table({"n": rows}), out, row_group_size=300)
    elif suffix in (".jsonl.gz", ".jsonl.zst"):
        with pa.CompressedOutputStream(out, "gzip" if suffix == ".jsonl.gz" else "zstd") as packed:
            packed.write(lines(*rows))
    else:
        out.write(lines(*rows) if suffix == ".jsonl" else b"n\n" + b"".join(b"%d\n" % row for row in rows))
    return bytes(out.getvalue().to_pybytes())


def numbers(records: list[Any]) -> list[Any]:
    """The `n` of each record, None for a dead letter."""
    found: list[Any] = []
    for record in records:
        if isinstance(record, DeadLetter):
            found.append(None)
        else:
            data = json.loads(record.data) if isinstance(record.data, bytes) else record.data
            found.append(int(data["n"]))
    return found


def as_saved(record: Any) -> Any:
    """Its position, as Redis gives it back."""
    return json.loads(encode_json(record.position))


class Folder:
    """Files that were changed an hour ago or less, each a second after the last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._clock = int(time.time()) - 3600

    def put(self, name: str, content: bytes, *, seconds_ago: float | None = None) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = path.with_name(f".{path.name}")
        hidden.write_bytes(content)
        self._clock += 1
        changed = self._clock if seconds_ago is None else time.time() - seconds_ago
        os.utime(hidden, (changed, changed))
        hidden.rename(path)

    def add(self, name: str, content: bytes) -> None:
        with (self.path / name).open("ab") as file:
            file.write(content)
        self._clock += 1
        os.utime(self.path / name, (self._clock, self._clock))

    def adding(self, name: str, content: bytes) -> Callable[[], None]:
        return lambda: self.add(name, content)

    def putting(self, name: str, content: bytes) -> Callable[[], None]:
        return lambda: self.put(name, content)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "in")


def source(folder: Folder, pattern: str = "*.jsonl", **options: Any) -> FilesSource:
    return FilesSource(path=str(folder.path / pattern), **options)


def test_files_are_read_by_name_however_they_came(folder: Folder) -> None:
    for name, number in (("b/2.jsonl", 3), ("a/1.jsonl", 1), ("c.jsonl", 4), ("a/10.jsonl", 2), ("d.txt", 5)):
        folder.put(name, lines(number))
    folder.put("a/.hidden.jsonl", lines(6))
    assert numbers(list(source(folder, "**/*.jsonl").read(None))) == [1, 2, 3, 4]


def test_or_by_the_time_of_their_last_change(folder: Folder) -> None:
    for name, number in (("b.jsonl", 1), ("a.jsonl", 2), ("c.jsonl", 3)):
        folder.put(name, lines(number, number + 10))
    came = list(source(folder, order="time").read(None))
    assert numbers(came) == [1, 11, 2, 12, 3, 13]
    for count, record in enumerate(came, 1):
        assert numbers(list(source(folder, order="time").read(as_saved(record)))) == numbers(came)[count:]


def test_a_position_stays_small_however_many_files_there_are(folder: Folder) -> None:
    for number in range(300):
        folder.put(f"{number:04}.jsonl", lines(number))
    assert max(len(encode_json(record.position)) for record in source(folder).read(None)) < len(str(folder.path)) + 80


def test_new_files_are_found_and_the_last_one_may_grow(folder: Folder, pauses: Pauses) -> None:
    folder.put("1.jsonl", lines(1))
    came = pauses.read(
        source(folder, mode="watch"),
        folder.adding("1.jsonl", lines(2) + b'{"n": 3'),
        folder.putting("2.jsonl", lines(4)),
        folder.putting("3.jsonl", lines(5)),
        folder.adding("3.jsonl", lines(6)),
        lambda: None,
    )
    # Half a line of a file that others follow is all that there will be of it.
    assert numbers(came) == [1, 2, None, 4, 5, 6]
    assert pauses.counts == [1, 2, 4, 5, 6, 6]
    for count, record in enumerate(came, 1):
        assert numbers(pauses.read(source(folder, mode="watch"), position=as_saved(record))) == numbers(came)[count:]


def test_a_file_is_left_for_the_next_only_once_it_has_settled(folder: Folder, pauses: Pauses) -> None:
    folder.put("1.jsonl", lines(1) + b'{"n": ', seconds_ago=0)
    folder.put("2.jsonl", lines(3))
    came = pauses.read(source(folder, mode="watch", settle=600), lambda: None, folder.adding("1.jsonl", b"2}\n"))
    assert numbers(came) == [1, 2, 3]
    assert pauses.counts == [1, 1, 3]


def test_a_last_line_without_newline_is_a_record_once_its_file_has_settled(folder: Folder, pauses: Pauses) -> None:
    folder.put("1.jsonl", lines(1) + b'{"n": 2}')
    assert numbers(list(source(folder).read(None))) == [1, 2]
    folder.put("1.jsonl", lines(1) + b'{"n": 2}', seconds_ago=0)
    assert numbers(pauses.read(source(folder, settle=600), folder.adding("1.jsonl", b"\n"))) == [1, 2]
    assert pauses.counts == [1]


def test_a_packed_file_is_read_once_it_has_settled(folder: Folder, pauses: Pauses) -> None:
    packed = gzip.compress(lines(*range(1000)))
    folder.put("1.jsonl.gz", packed[:500], seconds_ago=0)
    came = pauses.read(
        source(folder, "*.jsonl.gz", mode="watch", settle=600), folder.adding("1.jsonl.gz", packed[500:])
    )
    assert numbers(came) == list(range(1000))
    assert pauses.counts == [0, 1000]


def test_a_file_that_comes_too_late_by_its_name_is_not_read_and_that_is_said(
    folder: Folder, pauses: Pauses, caplog: pytest.LogCaptureFixture
) -> None:
    folder.put("2.jsonl", lines(2))
    with caplog.at_level(logging.WARNING):
        came = pauses.read(source(folder, mode="watch"), folder.putting("1.jsonl", lines(1)), lambda: None)
    assert numbers(came) == [2]
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder.path}/1.jsonl is not read: in order of name it comes before what is done"
    ]
    assert numbers(pauses.read(source(folder, mode="watch", order="time"), folder.putting("0.jsonl", lines(0)))) == [
        *[2, 1],
        0,
    ]


def test_by_time_a_file_that_was_changed_since_is_read_again_whole(folder: Folder, pauses: Pauses) -> None:
    folder.put("1.jsonl", lines(1))
    folder.put("2.jsonl", lines(2))
    watch = source(folder, mode="watch", order="time")
    assert numbers(pauses.read(watch, folder.putting("1.jsonl", lines(3, 4)))) == [1, 2, 3, 4]
    for name in ("1.jsonl", "2.jsonl"):
        (folder.path / name).unlink()
    folder.put("1.jsonl", lines(1))

    def both() -> None:
        folder.put("2.jsonl", lines(2))
        folder.add("1.jsonl", lines(3))

    came = pauses.read(watch, folder.adding("1.jsonl", lines(5)), both, lambda: None)
    assert numbers(came) == [1, 5, 2, 1, 5, 3]  # only the last one that was read can go on where it was


def test_a_file_that_was_replaced_in_the_middle_is_read_from_its_start(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.put("1.jsonl", lines(1, 2, 3))
    position = as_saved(list(source(folder).read(None))[1])
    folder.put("1.jsonl", lines(1, 2, 3, 4))  # another file, but it begins as the other did
    assert numbers(list(source(folder).read(position))) == [3, 4]
    assert not caplog.records
    folder.put("1.jsonl", lines(5, 6, 7))
    assert numbers(list(source(folder).read(position))) == [5, 6, 7]
    assert "was replaced" in caplog.text


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl.gz"])
def test_a_whole_file_that_was_replaced_is_known_by_its_content(folder: Folder, suffix: str) -> None:
    folder.put(f"1{suffix}", same := content(suffix, [1, 2, 3]))
    files = source(folder, f"*{suffix}")
    position = as_saved(next(iter(files.read(None))))
    folder.put(f"1{suffix}", same)
    assert numbers(list(files.read(position))) == [2, 3]
    folder.put(f"1{suffix}", content(suffix, [4, 5, 6]))
    assert numbers(list(files.read(position))) == [4, 5, 6]


def test_the_file_that_the_position_is_in_may_be_gone(folder: Folder) -> None:
    for number in (1, 2, 3):
        folder.put(f"{number}.jsonl", lines(number))
    position = as_saved(list(source(folder).read(None))[1])
    (folder.path / "2.jsonl").unlink()
    assert numbers(list(source(folder).read(position))) == [3]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl.gz", ".jsonl.zst"])
@pytest.mark.parametrize("damage", ["cut", "something else", "empty"])
def test_a_damaged_file_is_a_dead_letter_and_the_next_is_read(folder: Folder, suffix: str, damage: str) -> None:
    whole = content(suffix, range(50_000))
    folder.put(f"1{suffix}", {"cut": whole[:-20], "something else": b"no such thing" * 100, "empty": b""}[damage])
    folder.put(f"2{suffix}", whole)
    came = list(source(folder, f"*{suffix}").read(None))
    letters = [record for record in came if isinstance(record, DeadLetter)]
    assert numbers(came)[-50_000:] == list(range(50_000))
    if damage == "empty" and suffix != ".parquet":
        assert len(came) == 50_000
        return
    assert len(letters) == 1
    assert "is damaged behind offset" in letters[0].reason
    before = came.index(letters[0])
    assert numbers(came)[:before] == list(range(before))
    if damage == "cut" and suffix != ".parquet":
        assert before > 40_000
    assert len(list(source(folder, f"*{suffix}").read(as_saved(letters[0])))) == 50_000


def test_a_pattern_that_fits_nothing_ends_and_says_so(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    folder.put("1.csv", b"a\n1\n")
    assert list(source(folder).read(None)) == []
    assert "no file that fits" in caplog.text
    with pytest.raises(SourceUnavailable, match="there is no directory"):
        list(FilesSource(path=str(folder.path / "none" / "*.jsonl")).read(None))


def test_a_file_that_is_named_and_not_there_is_refused(folder: Folder) -> None:
    folder.put("1.csv", b"a\n1\n")
    with pytest.raises(SourceRefused, match=r"there is no file .*/typo\.csv"):
        list(FilesSource(path=str(folder.path / "typo.csv")).read(None))


def test_a_checkpoint_of_another_source_is_refused(folder: Folder) -> None:
    for position in (7, "an event id", {"file": 1}, []):
        with pytest.raises(SourceRefused, match="checkpoint"):
            list(source(folder).read(position))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".jsonl.gz", ".parquet"])
def test_a_producer_killed_in_mid_file_has_every_row_on_the_list_once(
    place: Place, client: redis.Redis, suffix: str
) -> None:
    folder, total = Folder(place.folder / "in"), 3000
    for start in range(0, total, 1000):
        folder.put(f"{start:04}{suffix}", content(suffix, range(start, start + 1000)))
    files = {"type": "files", "path": f"in/*{suffix}"}
    place.flow(source=files, queue={"max_ready": 1234})
    producer = place.produce()
    producer.await_event("producer_held_back")
    producer.kill()
    assert 1234 <= client.llen(place.key_of()) < 1300
    place.flow(source=files)
    producer = place.produce()
    assert producer.wait() == 0, producer.said
    assert [int(record["n"]) for record in on_the_list(client, place.key_of())] == list(range(total))
    assert place.books().published == total


@pytest.fixture(scope="module")
def server() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture
def bucket(server: MotoServer) -> str:
    name = f"walk-{uuid.uuid4().hex}"
    server.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name


def test_a_real_producer_watches_a_bucket_and_goes_on_after_a_kill(
    place: Place, client: redis.Redis, server: MotoServer, bucket: str
) -> None:
    s3 = server.client("s3")

    def put(number: int) -> None:
        rows = range(number * 100, number * 100 + 100)
        s3.put_object(Bucket=bucket, Key=f"day={number}/part.jsonl.gz", Body=gzip.compress(lines(*rows)))

    def count() -> int:
        return int(client.llen(place.key_of()))

    put(0)
    put(1)
    s3.put_object(Bucket=bucket, Key="day=1/_SUCCESS", Body=b"")
    files = {"type": "files", "path": f"s3://{bucket}/**/*.jsonl.gz", "mode": "watch", "interval": "50ms"}
    store = {"endpoint": "${AWS_ENDPOINT_URL}", "allow_http": True, "secret_access_key": "${AWS_SECRET_ACCESS_KEY}"}
    place.flow(source={**files, "store": {**store, "access_key_id": "${AWS_ACCESS_KEY_ID}"}}, queue={"max_ready": 150})
    producer = place.produce(**server.environ)
    producer.await_event("producer_held_back")
    producer.kill()
    assert count() < 200
    place.flow(source={**files, "store": {"endpoint": server.url, "allow_http": True}})
    producer = place.produce(**server.environ)
    producer.until(lambda: count() == 200)
    put(2)
    producer.until(lambda: count() == 300)
    assert producer.terminate() == 0, producer.said
    assert [record["n"] for record in on_the_list(client, place.key_of())] == list(range(300))
    assert server.environ["AWS_SECRET_ACCESS_KEY"] not in producer.said


def test_an_object_replaced_while_it_is_read_is_read_again_whole(
    server: MotoServer, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = server.client("s3")
    monkeypatch.setattr("millrace_producer.sources.reading.bucket.RANGE_BYTES", 64)
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    files = FilesSource.model_validate(
        {"path": f"s3://{bucket}/*.jsonl", "store": {"endpoint": server.url, "allow_http": True}}
    )
    s3.put_object(Bucket=bucket, Key="1.jsonl", Body=lines(*range(100)))
    reading = files.read(None)
    first = [next(reading) for _ in range(3)]
    s3.put_object(Bucket=bucket, Key="1.jsonl", Body=lines(*range(100, 200)))
    with pytest.raises(SourceUnavailable, match="was replaced"):
        list(reading)
    again = list(files.read(as_saved(first[-1])))
    assert numbers(first) == [0, 1, 2]
    assert numbers(again) == list(range(100, 200))
    assert all(isinstance(record, Record) for record in again)


def test_the_example_reads_sales_as_they_come_and_follows_a_log(place: Place) -> None:
    place.example("files")
    folder = Folder(place.folder / "in")
    header = b"receipt,day,article,pieces,price\n"
    folder.put("sales-2026-11-20.csv", header + b'A1,2026-11-20,tea,2,3.40\nA2,2026-11-20,"cake, plain",one,2.00\n')
    folder.put("sales-2026-11-21.csv", header + b"A1,2026-11-20,tea,2,3.40\nA3,2026-11-21,tea,1,1.70\n")
    (place.folder / "app.log").write_text("started\nand wor")
    sales, log = place.produce("sales", MODE="once"), place.produce("log")
    assert sales.wait() == 0, sales.said
    log.until(lambda: place.books("log").published == 1)
    with (place.folder / "app.log").open("a") as file:
        file.write("king\n")
    log.until(lambda: place.books("log").published == 2)
    assert log.terminate() == 0, log.said
    place.deliver_the_rest()
    table = pq.read_table(place.folder / "data" / "sales")
    assert sorted(table["receipt"].to_pylist()) == ["A1", "A3"]
    written = [line for path in (place.folder / "data" / "log").glob("*") for line in path.read_text().splitlines()]
    assert written == ['"started"', '"and working"']
    assert place.books("sales").dead == 1


@pytest.mark.parametrize(
    ("value", "kind", "key"),
    [
        (Decimal(12345678901234567890), pa.decimal128(38, 0), "12345678901234567890"),
        (date(2026, 3, 1), pa.date32(), "2026-03-01"),
        (7, pa.int64(), "7"),
        ("a", pa.string(), "a"),
        (0.5, pa.float64(), None),
    ],
)
def test_a_key_of_a_typed_column_is_as_the_record_holds_it(
    value: Any, kind: pa.DataType, key: str | None, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"id": pa.array([value], kind)}), tmp_path / "in.parquet")
    (record,) = FilesSource(path=str(tmp_path / "in.parquet"), key="/id").read(None)
    assert isinstance(record, Record)
    assert record.key == key


@pytest.mark.parametrize("columns", [None, ["a", "b"]])
def test_a_csv_that_says_its_delimiter_goes_on_in_the_middle_by_it(folder: Folder, columns: list[str] | None) -> None:
    folder.put("1.csv", b"sep=;\na;b\n1;2,3\n4;5\n6;7\n")
    source = FilesSource(path=str(folder.path / "1.csv"), columns=columns, settle=0)
    first, *others = source.read(None)
    assert [record.data for record in (first, *others)] == [  # type: ignore[union-attr]
        {"a": "1", "b": "2,3"},
        {"a": "4", "b": "5"},
        {"a": "6", "b": "7"},
    ]
    again = list(source.read(as_saved(first)))
    assert [record.data for record in again] == [{"a": "4", "b": "5"}, {"a": "6", "b": "7"}]  # type: ignore[union-attr]
