"""`millrace dead`, as a person uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from millrace_pipeline.envelope import DeadLetter, Record, encode
from millrace_pipeline.moment import now
from tests.queues import Queue


class Shell:
    """A person's shell: runs `millrace dead …` against a flow whose list holds three dead letters."""

    def __init__(self, folder: Path, url: str, queue: Queue) -> None:
        self.queue = queue
        self.folder = folder
        self.environ = {**os.environ, "REDIS_URL": url, "COLUMNS": "120"}
        (folder / "flows.yaml").write_text(
            f"flows: {{s: {{source: {{type: sse, url: 'http://127.0.0.1:1/'}}, queue: {{key: '{queue.keys.ready}'}}, "
            f"batch: {{linger: 0}}, sink: {{type: jsonl, path: '{folder / 'out'}'}}}}}}"
        )
        lines = [
            encode(Record({"n": n}), id=f"id-{n}", source="s", time=now(), mark=queue.keys.ready) for n in range(3)
        ]
        queue.publish(lines)
        claim = queue.claim(3)
        assert claim is not None
        queue.ack(claim, delivered=0, dead=[DeadLetter(line, f"reason {n % 2}") for n, line in enumerate(lines)])

    def __call__(self, *arguments: str, say: str = "", code: int = 0, **environ: str) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "millrace", *arguments],
            cwd=self.folder,
            env={**self.environ, **environ},
            input=say,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    def letters(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self("dead", "export", "s").splitlines()]


@pytest.fixture
def shell(tmp_path: Path, redis_url: str, queue: Queue) -> Shell:
    return Shell(tmp_path, redis_url, queue)


def test_letters_are_listed_newest_first_with_whole_ids(shell: Shell) -> None:
    shown = shell("dead", "ls", "s")
    ids = [letter["id"] for letter in shell.letters()]
    assert [id for id in ids if id in shown] == ids
    assert shown.index(ids[0]) < shown.index(ids[2])
    found = json.loads(shell("dead", "ls", "s", "--reason", "reason 1", "--since", "1h", "--json"))
    assert [json.loads(letter["record"])["id"] for letter in found] == ["id-1"]


def test_a_replayed_record_keeps_its_id_and_is_delivered(shell: Shell) -> None:
    assert "2 would be put back" in shell("dead", "replay", "s", "--reason", "reason 0", "--all", "--dry-run")
    assert len(shell.letters()) == 3
    assert "2 put back" in shell("dead", "replay", "s", "--reason", "reason 0", "--all", "--yes")
    assert shell.queue.books().ready == 2
    shell("consume", "--until-empty")
    written = [line for file in (shell.folder / "out").iterdir() for line in file.read_text().splitlines()]
    assert sorted(written) == ['{"n":0}', '{"n":2}']
    assert shell.queue.books().difference == 0


def test_many_are_dropped_only_after_a_yes_and_count_as_discarded(shell: Shell) -> None:
    shell("dead", "drop", "s", "--all", say="n\n")
    assert len(shell.letters()) == 3
    shell("dead", "drop", "s", "--all", say="y\n")
    assert shell.letters() == []
    books = shell.queue.books()
    assert (books.discarded, books.difference) == (3, 0)


def test_an_edited_record_goes_back_and_an_unchanged_one_stays(shell: Shell) -> None:
    id = shell.letters()[0]["id"]
    assert "not changed" in shell("dead", "edit", "s", id, EDITOR="true")
    assert "put back" in shell("dead", "edit", "s", id, EDITOR='sed -i s/n.:2/n\\":20/')
    claim = shell.queue.claim(1)
    assert claim is not None
    assert b'"data":{"n":20}' in claim.lines[0]
    assert shell.queue.books().difference == 0


def test_showing_one_prints_its_record_byte_for_byte(shell: Shell) -> None:
    letter = shell.letters()[0]
    assert shell("dead", "show", "s", letter["id"]) == letter["record"] + "\n"


def test_a_wrong_id_or_no_choice_is_refused_with_the_mend(shell: Shell) -> None:
    assert "millrace dead ls s" in shell("dead", "show", "s", "7-7", code=2)
    assert "--all" in shell("dead", "drop", "s", code=2)
    assert "expected a duration" in shell("dead", "ls", "s", "--since", "tuesday", code=2)
