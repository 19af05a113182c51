"""`millrace run --inline`: the same records in the sink as with the services, with no Redis, and errors at once."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.cli import run
from millrace.inline import Inline, run_inline
from millrace.practice.stream import PracticeStream
from millrace_pipeline import errors
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow, load
from millrace_pipeline.process.settings import Settings
from tests.services import Place, Service

NOBODY = "redis://127.0.0.1:1/0"

THEIRS = '''\
import itertools
from pathlib import Path

from pydantic import BaseModel

from millrace_consumer.sinks.base import RecordsRejected, Sink
from millrace_pipeline import errors
from millrace_consumer.sinks.jsonl import JsonlSink
from millrace_producer.sources.base import DeadLetter, Record, Source


class Numbers(Source):
    """Counts, with a bad record at three, a number that is filtered at four, a misfit at five and a double at six."""

    total: int | None = None
    fails_at: int | None = None

    def read(self, resume_from):
        assert resume_from is None
        try:
            for n in itertools.count() if self.total is None else range(self.total):
                if n == self.fails_at:
                    raise ValueError("the source has a bug")
                if n == 3:
                    yield DeadLetter(b"{three", "not JSON", position=n)
                else:
                    yield Record({"n": "five" if n == 5 else n}, key=str(n - (n == 6)), position=n)
        finally:
            Path("closed").touch()

    def published(self, records):
        with Path("published").open("a") as file:
            file.writelines(f"{record.position}\\n" for record in records)


class Whole(BaseModel):
    n: int


class NoEights(JsonlSink):
    """Rejects an eight."""

    def write(self, batch):
        if eights := {i: "an eight" for i, record in enumerate(batch.records) if record["n"] == 8}:
            raise RecordsRejected(eights)
        super().write(batch)


class Broken(Sink):
    """Has a bug."""

    def write(self, batch):
        raise KeyError("no such column")


class Refuses(Source):
    """Raises an error of Millrace's own."""

    error: str

    def read(self, resume_from):
        yield Record({"n": 1}, key="1", position=1)
        raise getattr(errors, self.error)("they said no")


class Unwritable(Sink):
    """Raises an error of Millrace's own."""

    error: str

    def write(self, batch):
        raise getattr(errors, self.error)("they said no")


class WithTheAck(Sink):
    """Writes to the queue's Redis."""

    def write(self, batch):
        pass

    def ack_commands(self, batch):
        return [("RPUSH", "elsewhere", *batch.lines)]


def no_fours(record):
    return None if record["n"] == 4 else record
'''

PARTS = {"transforms": ["theirs:no_fours"], "model": "theirs:Whole", "dedupe": {"window": "1h"}}


@pytest.fixture
def folder(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place with the user's module, which flows of this process find, too."""
    place.module(THEIRS)
    monkeypatch.chdir(place.folder)
    monkeypatch.setattr("sys.path", [str(place.folder), *__import__("sys").path])
    monkeypatch.delitem(__import__("sys").modules, "theirs", raising=False)
    yield place
    __import__("sys").modules.pop("theirs", None)


def flow(place: Place, **options: object) -> Flow:
    sink = {"type": "theirs:NoEights", "path": "out/numbers"}
    place.flow(**{"source": {"type": "theirs:Numbers", "total": 30}, "sink": sink, **PARTS, **options})
    return load(place.folder / "flows.yaml")["numbers"]


def test_the_sink_holds_what_the_services_would_have_written(folder: Place) -> None:
    flow(folder)
    assert folder.produce().wait() == 0
    assert folder.consume("--until-empty").wait() == 0
    services, books = folder.numbers(), folder.books()
    for path in folder.files():
        path.unlink()
    run = folder.start("run", "--inline", "numbers", REDIS_URL=NOBODY)
    assert run.wait() == 0, run.said
    assert folder.numbers() == services == [n for n in range(30) if n not in (3, 4, 5, 6, 8)]
    (told,) = run.events("inline_done")
    assert (told["read"], told["delivered"], told["filtered"], told["duplicates"], told["dead"]) == (30, 25, 1, 1, 3)
    assert (books.delivered, books.filtered, books.dead) == (25, 1, 3)
    assert len(folder.files()) == 3  # in batches, as the flow says
    assert {told["reason"] for told in run.events("record_dead_lettered")} >= {"not JSON", "an eight"}


def test_it_ends_after_so_many_records_of_an_endless_stream(place: Place) -> None:
    with PracticeStream(rate=500) as stream:
        place.flow(source={"type": "sse", "url": stream.url})
        run = place.start("run", "--inline", "--records", "25", REDIS_URL=NOBODY)
        assert run.wait() == 0, run.said
    assert len(place.records()) == 25


def test_an_error_of_the_source_ends_it_with_its_traceback_and_what_was_read_before_is_written(folder: Place) -> None:
    flow(folder, source={"type": "theirs:Numbers", "fails_at": 13})
    run = folder.start("run", "--inline", REDIS_URL=NOBODY)
    assert run.wait() == 1
    failed_in_theirs(run, "ValueError: the source has a bug")
    assert folder.numbers() == [0, 1, 2, 7, 9, 10, 11, 12]


def test_an_error_of_the_sink_ends_it_with_its_traceback(folder: Place) -> None:
    flow(folder, sink={"type": "theirs:Broken"})
    run = folder.start("run", "--inline", REDIS_URL=NOBODY)
    assert run.wait() == 1
    failed_in_theirs(run, "KeyError: 'no such column'")


def failed_in_theirs(run: Service, reason: str) -> None:
    """Its log is lines of JSON, one of which says why it failed, with the traceback inside."""
    events = [json.loads(line) for line in run.said.splitlines()]
    (failed,) = [event for event in events if event["event"] == "inline_failed"]
    assert (failed["level"], failed["reason"], failed["flow"]) == ("error", reason, "numbers")
    assert any("theirs.py" in frame["filename"] for part in failed["exception"] for frame in part["frames"])


def test_an_error_is_a_traceback_for_people(folder: Place) -> None:
    flow(folder, sink={"type": "theirs:Broken"})
    run = folder.start("run", "--inline", REDIS_URL=NOBODY, MILLRACE_LOG="pretty")
    assert run.wait() == 1
    assert re.search(r"^Traceback.*theirs\.py.*^KeyError: 'no such column'$", run.said, re.DOTALL | re.MULTILINE)


def all_kinds_of(error: type[errors.MillraceError]) -> list[type[errors.MillraceError]]:
    return [kind for known in error.__subclasses__() for kind in (known, *all_kinds_of(known))]


GO_ON = {"RecordsRejected", "RetryLater"}
"""What names records, and ends nothing."""

EXPECTED = sorted({kind.__name__ for kind in all_kinds_of(errors.MillraceError) if kind.__module__ == errors.__name__})


@pytest.mark.parametrize("part", ["source", "sink"])
@pytest.mark.parametrize("error", [error for error in EXPECTED if error not in GO_ON])
def test_what_is_expected_ends_it_with_its_message_alone(
    folder: Place, part: str, error: str, capfd: pytest.CaptureFixture[str]
) -> None:
    known = flow(
        folder, **{part: {"type": "theirs:Refuses" if part == "source" else "theirs:Unwritable", "error": error}}
    )
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        code = run._run_inline(Settings(log="pretty"), [known], None, fail_on_dead=False)
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
    said = capfd.readouterr().err
    assert code == (2 if error == "ConfigError" else 1), said
    assert "millrace: they said no\n" in said
    assert "Traceback" not in said


def test_ctrl_c_ends_an_endless_source_with_0_and_what_was_read_is_written(place: Place) -> None:
    with PracticeStream(total=35) as stream:  # 35 events, then silence
        place.flow(source={"type": "sse", "url": stream.url}, batch={"records": 10, "linger": "1h"})
        run = place.start("run", "--inline", REDIS_URL=NOBODY)
        run.until(lambda: len(place.files()) == 3)
        run.signal(signal.SIGINT)
        assert run.wait() == 0, run.said
        assert run.events("inline_done")[0]["read"] == run.events("inline_done")[0]["delivered"]


def test_a_batch_is_written_once_its_linger_is_over_though_the_source_is_quiet(place: Place) -> None:
    with PracticeStream(total=5) as stream:  # 5 events, then silence
        place.flow(source={"type": "sse", "url": stream.url}, batch={"records": 10, "linger": "200ms"})
        run = place.start("run", "--inline", REDIS_URL=NOBODY)
        run.until(lambda: len(place.records()) == 5)
        assert run.running
        run.signal(signal.SIGINT)
        assert run.wait() == 0, run.said


def test_in_a_test_it_returns_the_counts_and_closes_the_source(folder: Place) -> None:
    done = run_inline(flow(folder, source={"type": "theirs:Numbers"}), records=20)
    assert (done.read, done.delivered, done.filtered, done.duplicates) == (20, 15, 1, 1)
    assert [letter.original for letter in done.dead if letter.reason == "not JSON"] == [b"{three"]
    assert Path("closed").exists()
    assert Path("published").read_text().split() == [str(n) for n in range(20)]


def test_a_sink_that_writes_with_the_ack_is_refused_with_its_place(folder: Place) -> None:
    with pytest.raises(ConfigError, match=r"flows\.yaml:\d+:\d+: flows\.numbers\.sink: .*inline"):
        Inline(flow(folder, sink={"type": "theirs:WithTheAck"}))


@pytest.mark.parametrize(
    ("arguments", "mend"),
    [
        (["--inline"], "--inline runs one flow: name one of numbers, letters"),
        (["--records", "5"], "add --inline"),
        (["--inline", "nobody"], "no flow 'nobody'"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_is_one_line_with_the_mend_and_2(place: Place, arguments: list[str], mend: str) -> None:
    place.flow()
    place.flow("letters")
    run = place.start("run", *arguments)
    assert run.wait() == 2
    (line,) = run.said.splitlines()
    assert mend in line


@pytest.mark.parametrize(
    ("allowed", "arguments", "code"),
    [({}, (), 0), ({}, ("--fail-on-dead",), 3), ({"fail_above": "1%"}, (), 3), ({"fail_above": "50%"}, (), 0)],
)
def test_more_dead_letters_than_are_allowed_end_it_with_3(
    folder: Place, allowed: dict[str, str], arguments: tuple[str, ...], code: int
) -> None:
    flow(folder, **({"dead": allowed} if allowed else {}))
    run = folder.start("run", "--inline", "numbers", *arguments, REDIS_URL=NOBODY)
    assert run.wait() == code, run.said
    assert bool(run.events("too_many_dead")) is (code == 3)
