"""The stdout sink keeps the sink contract as far as it can, and its own claims."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from millrace_consumer.sinks.base import SinkUnavailable
from millrace_consumer.sinks.stdout import StdoutSink
from tests.contracts.sink_contract import ROOT, SinkContract
from tests.contracts.sink_records import batch_of, bulk


class TestStdoutSink(SinkContract):
    sink = "millrace_consumer.sinks.stdout:StdoutSink"
    idempotent = False
    kill_points = ("sink.before_write", "sink.after_write")

    def options(self, destination: Path) -> dict[str, Any]:
        return {}

    def read_back(self, destination: Path) -> list[Any]:
        printed = destination / "printed"
        text = printed.read_bytes() if printed.exists() else b""
        assert text.endswith(b"\n") or not text, "half a line"
        return [json.loads(line) for line in text.splitlines()]

    @contextmanager
    def reaching(self, destination: Path) -> Iterator[None]:
        with (destination / "printed").open("ab") as file, standard_output(file.fileno()):
            yield

    def stdout_of_child(self, destination: Path) -> Path | None:
        return destination / "printed"


@contextmanager
def standard_output(descriptor: int) -> Iterator[None]:
    """Within it standard output goes there."""
    sys.stdout.flush()
    before = os.dup(1)
    os.dup2(descriptor, 1)
    try:
        yield
    finally:
        os.dup2(before, 1)
        os.close(before)


def test_a_closed_pipe_makes_it_unavailable() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with standard_output(writing), pytest.raises(SinkUnavailable, match="Broken pipe"):
        StdoutSink().write(batch_of("b", bulk(3)))
    os.close(writing)


def test_a_reader_sees_each_batch_at_once() -> None:
    program = (
        "import sys; from millrace_consumer.sinks.stdout import StdoutSink;"
        "from tests.contracts.sink_records import batch_of, bulk;"
        "StdoutSink().write(batch_of('b', bulk(2, 10))); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert [json.loads(child.stdout.readline()) for _ in range(2)] == bulk(2, 10)
        assert child.poll() is None
        child.communicate()


def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_every_line() -> None:
    program = (
        "import os; from millrace_consumer.sinks.stdout import StdoutSink;"
        "from tests.contracts.sink_records import batch_of, bulk;"
        "os.set_blocking(1, False); StdoutSink().write(batch_of('b', bulk(500)))"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True).stdout
    assert [json.loads(line) for line in found.splitlines()] == bulk(500)


def test_a_line_that_was_torn_by_a_full_disk_is_ended_before_the_batch_is_printed_again(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    sink, printed = StdoutSink(), tmp_path / "printed"
    with printed.open("ab") as file, standard_output(file.fileno()):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1]))
        try:
            with pytest.raises(SinkUnavailable):
                sink.write(batch_of("b", bulk(3)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sink.write(batch_of("b", bulk(3)))
    lines = printed.read_bytes().split(b"\n")
    assert [json.loads(line) for line in (lines[0], *lines[2:-1])] == [bulk(3)[0], *bulk(3)]


def test_envelopes_are_printed_whole_when_asked(tmp_path: Path) -> None:
    with (tmp_path / "printed").open("ab") as file, standard_output(file.fileno()):
        StdoutSink(envelope=True).write(batch_of("b", [{"id": "1"}]))
    envelope = json.loads((tmp_path / "printed").read_bytes())
    assert (envelope["specversion"], envelope["id"], envelope["data"]) == ("1.0", "b-0", {"id": "1"})
