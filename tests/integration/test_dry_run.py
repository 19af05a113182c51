"""`millrace test`: says what would become of a record, as the services then make it so, and changes nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from millrace.cli import dryrun
from millrace_pipeline.flows.reference import load_object
from millrace_producer.sources import SOURCES
from tests.services import Place

THEIRS = """\
from pydantic import BaseModel


class Edit(BaseModel):
    n: int
    wiki: str = "none"


def no_bots(record):
    return None if record.get("bot") else record


def doubled(record):
    return [record, {**record, "n": record["n"] * 2}]
"""


class Dry:
    """A flow in a folder, and the command that tries records on it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        place.module(THEIRS)

    def flow(self, sink: dict[str, Any], **options: Any) -> None:
        self.place.flow(sink=sink, **{"transforms": ["theirs:no_bots"], "model": "theirs:Edit", **options})
        self.before = self.files

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.place.folder.rglob("*") if "__pycache__" not in path.parts)

    def __call__(self, *arguments: str, say: str = "", code: int = 0) -> str:
        with capture_logs():  # what a thread of another test says at last is no output of the command
            done = CliRunner().invoke(
                dryrun.app, ["numbers", *arguments], input=say, env={"REDIS_URL": "redis://nobody"}
            )
        assert done.exit_code == code, (done.output, done.exception)
        assert self.files == self.before
        return done.output

    def tell(self, *arguments: str, **options: Any) -> list[dict[str, Any]]:
        """The same, as scripts get it."""
        told: list[dict[str, Any]] = json.loads(self("--json", *arguments, **options))
        return told


@pytest.fixture
def dry(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dry]:
    monkeypatch.chdir(place.folder)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    yield Dry(place)
    sys.modules.pop("theirs", None)


JSONL = {"type": "jsonl", "path": "out"}


@pytest.mark.parametrize(
    ("sink", "where", "text"),
    [
        (JSONL, "out/BATCH.jsonl", '{"n": 1, "wiki": "dewiki"}'),
        ({**JSONL, "compression": "gzip"}, "out/BATCH.jsonl.gz", '{"n": 1, "wiki": "dewiki"}'),
        ({**JSONL, "compression": "zstd"}, "out/BATCH.jsonl.zst", '{"n": 1, "wiki": "dewiki"}'),
        ({**JSONL, "partition": ["wiki"]}, "out/wiki=dewiki/BATCH.jsonl", '{"n": 1, "wiki": "dewiki"}'),
        ({"type": "csv", "path": "out"}, "out/BATCH.csv", "n,wiki\r\n1,dewiki"),
        ({"type": "parquet", "path": "out"}, "out/BATCH.parquet", '{"n":1,"wiki":"dewiki"}'),
        (
            {"type": "jsonl", "path": "s3://lake/edits", "partition": ["wiki"]},
            "s3://lake/edits/wiki=dewiki/BATCH.jsonl",
            '{"n": 1, "wiki": "dewiki"}',
        ),
        ({"type": "stdout"}, "sink stdout", '{"n": 1, "wiki": "dewiki"}'),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith(("out", "sink")) else "",
)
def test_what_would_be_written_is_shown_as_the_sink_encodes_it(
    dry: Dry, sink: dict[str, Any], where: str, text: str
) -> None:
    dry.flow(sink)
    (told,) = dry.tell("--record", '{"n": 1, "wiki": "dewiki"}')
    assert told["verdict"] == "delivered"
    assert [(output["place"], output["text"]) for output in told["outputs"]] == [(where, text)]
    shown = dry("--record", '{"n": 1, "wiki": "dewiki"}')
    assert "record 1 would be written" in shown
    assert where in shown


def test_parquet_is_shown_with_the_types_of_its_columns(dry: Dry) -> None:
    dry.flow({"type": "parquet", "path": "out"})
    assert dry.tell("--record", '{"n": 1}')[0]["outputs"][0]["columns"] == {"n": "int64", "wiki": "string"}
    assert "(n: int64, wiki: string)" in dry("--record", '{"n": 1}')


def test_each_record_has_its_verdict_and_reason_and_one_that_is_set_aside_ends_it_with_1(dry: Dry) -> None:
    dry.flow(JSONL)
    records = '{"n": 1}\n{"n": 2, "bot": true}\n\n{"n": "many"}\n{no json\n'
    told = dry.tell(say=records, code=1)
    assert [one["verdict"] for one in told] == ["delivered", "filtered", "dead", "dead"]
    assert "n: Input should be a valid integer" in told[2]["reason"]
    assert told[3]["reason"].startswith("not JSON")
    assert told[3]["outputs"] == told[2]["outputs"] == []
    shown = dry(say=records, code=1)
    assert "record 2 would be left out" in shown
    assert "record 3 would become a dead letter: does not fit Edit" in shown


def test_a_record_that_a_transform_makes_several_of_shows_them_all(dry: Dry) -> None:
    dry.flow(JSONL, transforms=["theirs:doubled"])
    assert dry.tell("--record", '{"n": 2}')[0]["outputs"][0]["text"] == '{"n":2}\n{"n":4}'


def test_what_the_sink_rejects_is_told_with_its_reason(dry: Dry) -> None:
    dry.flow({"type": "parquet", "path": "out"})
    (told,) = dry.tell("--record", '{"n": 123456789012345678901234567890}', code=1)
    assert told["verdict"] == "dead"
    assert told["reason"].startswith("n: ")


def test_an_envelope_is_taken_as_it_stands_so_a_dead_letter_can_be_piped_in(dry: Dry) -> None:
    dry.flow({**JSONL, "envelope": True, "partition": ["date"]}, model=None)
    envelope = '{"specversion":"1.0","id":"7","source":"s","type":"t","time":"2020-02-29T00:00:00Z","data":{"n":7}}'
    (told,) = dry.tell(say=envelope + "\n")
    assert told["outputs"][0] == {"place": "out/date=2020-02-29/BATCH.jsonl", "text": envelope, "columns": None}


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        ('{"specversion":"0.3","id":"7","source":"s","type":"t","data":{"n":7}}', "unknown version"),
        ('{"specversion":"1.0","id":"7","source":"s","type":"t"}', "envelope without data"),
        ('{"specversion":"1.0","id":"7","data":{"n":7}}', "envelope without source, type"),
    ],
)
def test_an_envelope_that_is_none_of_use_is_a_dead_letter_here_too(dry: Dry, envelope: str, reason: str) -> None:
    dry.flow(JSONL, model=None)
    (told,) = dry.tell(say=envelope + "\n", code=1)
    assert (told["verdict"], reason in told["reason"]) == ("dead", True)


def test_records_come_from_a_file_or_standard_input_and_not_from_two_places(dry: Dry, tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    dry.flow(JSONL)
    assert len(dry.tell("--file", "records.jsonl")) == 2
    assert len(dry.tell("--file", "-", say='{"n": 1}\n{"n": 2}\n{"n": 3}\n')) == 3
    for arguments, mend in (
        (["--file", "none.jsonl"], "none.jsonl: No such file"),
        (["--file", "records.jsonl", "--record", "{}"], "expected one of them"),
    ):
        done = CliRunner().invoke(dryrun.app, ["numbers", *arguments])
        assert mend in str(done.exception)


def test_it_says_what_the_services_then_do(dry: Dry) -> None:
    dry.flow({"type": "csv", "path": "out/numbers"})
    told = dry.tell("--record", '{"n": 5}')
    dry.place.publish([5])
    dry.place.deliver_the_rest()
    (file,) = dry.place.files()
    assert file.read_bytes().decode().rstrip("\r\n") == told[0]["outputs"][0]["text"]


def test_the_command_line_has_it(place: Place) -> None:
    place.flow()
    tested = place.start("test", "numbers", "--record", '{"n": 1}', REDIS_URL="")
    assert tested.wait() == 0, tested.said
    assert '{"n": 1}' in tested.printed


TIMES = {
    "sse": {"type": "sse", "url": "http://127.0.0.1:9/", "key": "/meta/id", "time": "/at"},
    "rest": {"type": "rest", "url": "http://127.0.0.1:9/", "key": "/meta/id", "time": "/at"},
    "websocket": {"type": "websocket", "url": "ws://127.0.0.1:9/", "key": "/meta/id", "time": "/at"},
    "files": {"type": "files", "path": "in.jsonl", "key": "/meta/id", "time": "/at"},
    "stdin": {"type": "stdin", "key": "/meta/id", "time": "/at"},
    "kafka": {"type": "kafka", "topics": ["t"], "brokers": "127.0.0.1:9", "key": "/meta/id", "time": "/at"},
    "sqs": {"type": "sqs", "url": "http://127.0.0.1:9/1/q", "key": "/meta/id", "time": "/at"},
    "redis": {"type": "redis", "url": "redis://127.0.0.1:9", "key": "l", "record_key": "/meta/id", "time": "/at"},
    "scrapy": {"type": "scrapy", "spider": "quotes", "key": "/meta/id", "time": "/at"},
}


def test_every_source_that_takes_a_time_is_among_these() -> None:
    found = {name for name, path in SOURCES.items() if "time" in load_object(path).model_fields}
    assert found == set(TIMES)


@pytest.mark.parametrize("source", TIMES)
def test_the_source_s_time_says_the_partition_and_its_key_the_name(dry: Dry, source: str) -> None:
    sink = {"type": "jsonl", "path": "out", "partition": ["date"]}
    dry.flow(sink, source=TIMES[source], transforms=[])
    printed = dry("--record", '{"n": 1, "meta": {"id": "k7"}, "at": 1514764800000}')
    assert "key: k7; time: 2018-01-01T00:00:00" in printed
    assert "out/date=2018-01-01/BATCH.jsonl" in printed
    (told,) = dry.tell("--record", '{"n": 1, "meta": {"id": "k7"}, "at": 1514764800000}')
    assert (told["key"], told["time"][:10]) == ("k7", "2018-01-01")


def test_a_key_or_time_that_finds_nothing_is_said(dry: Dry) -> None:
    dry.flow({"type": "jsonl", "path": "out"}, source=TIMES["sse"], transforms=[])
    printed = dry("--record", '{"n": 1, "at": "yesterday"}')
    assert "key: none, for there is nothing at /meta/id" in printed
    assert "time: when it is published, for there is no time at /at" in printed


def test_what_the_services_would_say_of_a_record_is_shown_with_it(dry: Dry) -> None:
    flt = {"type": "filter", "where": "n == `1`"}
    dry.flow({"type": "jsonl", "path": "out"}, source={**TIMES["stdin"], "key": "/id"}, transforms=[flt])
    records = ["--record", '{"n": "1", "id": "a", "at": "yesterday"}', "--record", '{"n": 1, "id": "a", "at": 0}']
    printed = dry(*records)
    assert "record 1 would be left out" in printed
    assert "warning: kinds_differ: place n == `1`; found text: '1'; compared with a number: 1" in printed
    assert "warning: time_not_understood: time /at; found 'yesterday'" in printed
    first, second = dry.tell(*records)
    assert [note.partition(":")[0] for note in first["notes"]] == ["time_not_understood", "kinds_differ"]
    assert second["notes"] == []


def test_a_field_that_a_transform_does_not_find_is_shown(dry: Dry) -> None:
    hidden = {"type": "redact", "fields": ["/user/mail"]}
    dry.flow({"type": "jsonl", "path": "out"}, transforms=[hidden], model=None)
    printed = dry("--record", '{"user": {"Mail": "m"}}')
    assert "record 1 would be written" in printed
    assert "field_not_found: place redact; field /user/mail; mend there is /user/Mail, in other letters" in printed


def test_a_scrapy_item_s_key_is_shown(dry: Dry) -> None:
    dry.flow(
        {"type": "jsonl", "path": "out"}, source={"type": "scrapy", "spider": "quotes", "key": "/n"}, transforms=[]
    )
    assert "key: 1\n" in dry("--record", '{"n": 1}')
