"""`millrace verify` on a real flow, and on files that somebody laid hands on."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from millrace.cli import verify
from millrace_consumer.runner import Consumer
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import load
from tests.conftest import eventually
from tests.services import NOWHERE, Place

KEYED = {**NOWHERE, "key": "/n"}
SINKS: dict[str, dict[str, Any]] = {
    "jsonl": {"type": "jsonl"},
    "jsonl, gzip": {"type": "jsonl", "compression": "gzip"},
    "jsonl, zstd": {"type": "jsonl", "compression": "zstd"},
    "jsonl with envelopes": {"type": "jsonl", "envelope": True},
    "jsonl in partitions": {"type": "jsonl", "partition": ["n"]},
    "csv": {"type": "csv", "columns": ["n", "text"]},
    "csv without header": {"type": "csv", "columns": {"first": "/n"}, "header": False, "delimiter": ";"},
    "parquet": {"type": "parquet"},
    "parquet in partitions": {"type": "parquet", "partition": ["date", "n"]},
}


class Verified:
    """A flow whose 30 records have been delivered, and the command that looks at it."""

    def __init__(self, place: Place, **flow: Any) -> None:
        self.place = place
        options = {"source": KEYED, **flow}
        options["sink"] = {"path": "out/numbers", **options.get("sink", {"type": "jsonl"})}
        place.flow(**options)
        place.publish(range(30))
        self.deliver()

    def deliver(self) -> None:
        flow = load(self.place.folder / "flows.yaml")["numbers"]
        never = threading.Event()
        Consumer(flow, self.place.redis_url, stopping=never, give_up=never, until_empty=True).run()

    def __call__(self, *arguments: str, code: int) -> str:
        environ = {"REDIS_URL": self.place.redis_url, "COLUMNS": "200"}
        done = CliRunner().invoke(verify.app, list(arguments), env=environ)
        assert done.exit_code == code, (done.output, done.exception)
        return done.stdout

    @property
    def files(self) -> list[Path]:
        return self.place.files()


@pytest.fixture
def place(tmp_path: Path, redis_url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    with Place(tmp_path, redis_url, key) as place:
        yield place


@pytest.mark.parametrize("sink", SINKS.values(), ids=SINKS)
def test_every_kind_of_file_is_read_again_and_holds_what_was_delivered(place: Place, sink: dict[str, Any]) -> None:
    flow = Verified(place, sink=sink)
    found = json.loads(flow("--sink", "--json", code=0))["numbers"]["sink"]
    assert (found["records"], found["twice"], found["missing"], found["surplus"]) == (30, 0, 0, 0)
    assert found["identified"]
    assert "each once" in flow("--sink", code=0)


@pytest.mark.parametrize("sink", SINKS.values(), ids=SINKS)
def test_a_file_that_was_deleted_is_missed(place: Place, sink: dict[str, Any]) -> None:
    flow = Verified(place, sink=sink)
    flow.files[0].unlink()
    said = flow("--sink", code=1)
    assert f"{1 if 'partition' in sink else 10} missing" in said
    assert "balanced" in said  # the books can't know


@pytest.mark.parametrize("sink", SINKS.values(), ids=SINKS)
def test_a_file_that_is_there_under_a_second_name_shows_its_records_twice(place: Place, sink: dict[str, Any]) -> None:
    flow = Verified(place, sink=sink)
    first = flow.files[0]
    copy = first.with_name(f"20260101T000000Z-0123456789-000001{''.join(first.suffixes)}")
    shutil.copy(first, copy)
    said = flow("--sink", code=1)
    assert f"{1 if 'partition' in sink else 10} twice" in said
    assert copy.name in said
    assert first.name in said


def test_a_record_in_two_partitions_is_twice_though_a_batch_in_two_is_fine(place: Place) -> None:
    flow = Verified(place, sink=SINKS["jsonl in partitions"])
    assert len({path.name for path in flow.files}) < len(flow.files)  # a batch in many partitions
    elsewhere = flow.files[0].parent.parent / "n=other"
    elsewhere.mkdir()
    shutil.copy(flow.files[0], elsewhere)
    assert "1 twice" in flow("--sink", code=1)


def test_a_line_that_was_removed_is_missed(place: Place) -> None:
    flow = Verified(place)
    lines = flow.files[1].read_bytes().splitlines(keepends=True)
    flow.files[1].write_bytes(b"".join(lines[1:]))
    assert "29 records of 30 delivered: 1 missing" in flow("--sink", code=1)


@pytest.mark.parametrize("sink", ["jsonl", "jsonl, gzip", "jsonl, zstd", "parquet"])
def test_a_file_that_was_cut_short_is_named_as_damaged(place: Place, sink: str) -> None:
    flow = Verified(place, sink=SINKS[sink])
    flow.files[0].write_bytes(flow.files[0].read_bytes()[:-5])
    said = flow("--sink", code=1)
    assert "1 file damaged" in said
    assert f"damaged: {flow.files[0].name}" in said


def test_a_lost_and_a_doubled_record_do_not_make_up_for_each_other(place: Place) -> None:
    flow = Verified(place)
    lines = flow.files[0].read_bytes().splitlines(keepends=True)
    flow.files[0].write_bytes(b"".join([lines[1], *lines[1:]]))
    assert "30 records of 30 delivered: 1 twice (by its /n)" in flow("--sink", code=1)


def test_a_source_that_may_repeat_its_keys_is_no_difference_if_one_says_so(place: Place) -> None:
    flow = Verified(place)
    place.publish([7])
    flow.deliver()
    assert "1 twice" in flow("--sink", code=1)
    assert "1 keys again" in flow("--sink", "--allow-repeats", code=0)


def test_without_a_key_equal_records_are_told_and_only_the_count_decides(place: Place) -> None:
    flow = Verified(place, source=NOWHERE)
    place.publish([7])
    flow.deliver()
    assert "1 equal to another" in flow("--sink", code=0)
    shutil.copy(flow.files[0], flow.files[0].with_name("20260101T000000Z-0123456789-000001.jsonl"))
    assert "more than delivered" in flow("--sink", code=1)


def test_a_file_whose_name_is_no_batch_id_is_told_and_its_records_count(place: Place) -> None:
    flow = Verified(place)
    shutil.copy(flow.files[0], flow.files[0].with_name("copy of the first.jsonl"))
    said = flow("--sink", code=1)
    assert "not written by a consumer: copy of the first.jsonl" in said
    assert "10 twice" in said


def test_other_files_and_what_a_killed_writer_left_are_no_records(place: Place) -> None:
    flow = Verified(place)
    folder = flow.files[0].parent
    (folder / "README.md").write_text("mine")
    (folder / f".{flow.files[0].name}.tmp-0123abcd").write_bytes(flow.files[0].read_bytes())
    said = flow("--sink", code=0)
    assert "not written by a consumer: README.md" in said
    assert "temporary and hidden, of writers at work or dead: 1 file" in said
    assert "30 records of 30 delivered: each once" in said


def test_a_batch_that_is_written_and_not_yet_acked_is_neither_missing_nor_too_much(place: Place) -> None:
    flow = Verified(place)
    place.publish(range(30, 40))
    with place.queue() as queue:
        claim = queue.claim(10)
        assert claim is not None
        lines = b"".join(b'{"n":%d}\n' % number for number in range(30, 40))
        (flow.files[0].parent / f"{claim.id}.jsonl").write_bytes(lines)
        assert "40 records of 30 delivered: each once" in flow("--sink", code=0)
        queue.ack(claim, delivered=10)
    assert "40 records of 40 delivered: each once" in flow("--sink", code=0)


def test_a_sink_without_files_says_that_it_is_not_read(place: Place) -> None:
    place.flow(sink={"type": "stdout"}, source=KEYED)
    place.publish(range(3))
    done = CliRunner().invoke(verify.app, ["--sink"], env={"REDIS_URL": place.redis_url})
    assert done.exit_code == 0
    assert "sink stdout: it has no files" in done.output


def test_following_ends_with_1_as_soon_as_a_record_is_missing(place: Place, client: redis.Redis) -> None:
    place.flow(source=KEYED)
    place.publish(range(3))
    following = place.start("verify", "--follow", "--json")
    eventually(lambda: len(following.printed.splitlines()) > 1)
    client.rpop(place.key_of())
    assert following.wait() == 1
    rounds = [json.loads(line)["flows"]["numbers"]["difference"] for line in following.printed.splitlines()]
    assert (rounds[0], rounds[-1]) == (0, -1)


def test_following_ends_with_0_when_told_to_or_when_the_time_is_over(place: Place) -> None:
    place.flow(source=KEYED)
    place.deliver_the_rest()  # a consumer has been here, and found nothing
    following = place.start("verify", "--follow")
    brief = place.start("verify", "--follow", "--for", "1s")
    eventually(lambda: "balanced" in following.printed)
    following.signal(signal.SIGTERM)
    assert following.wait() == 0
    assert brief.wait() == 0
    assert "balanced" in brief.printed


def test_the_command_line_refuses_a_time_that_is_none(place: Place) -> None:
    place.flow(source=KEYED)
    for arguments in (["--follow", "--for", "soon"], ["--for", "3s"]):
        done = CliRunner().invoke(verify.app, arguments, env={"REDIS_URL": place.redis_url})
        assert isinstance(done.exception, ConfigError), done.output
