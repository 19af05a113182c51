"""`millrace chaos` itself: it kills, it counts, and it can tell when something is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from millrace.practice.stream import PracticeStream

ENDS_WITHIN = 240.0
"""What chaos itself allows for: 60 s until something is published, 8 s of kills, 120 s to drain, and some to stop.
So it is chaos that says which flow hangs."""

pytestmark = pytest.mark.timeout(ENDS_WITHIN + 20)

FORGETFUL = '''\
"""A sink that forgets what makes it deliver once: each time a batch comes, its file has another name."""

from uuid import uuid4

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.jsonl import JsonlSink


class Forgetful(JsonlSink):
    def write(self, batch: Batch) -> None:
        super().write(batch)
        super().write(Batch(f"{uuid4()}", batch.envelopes))
'''


def chaos(*arguments: str, code: int, folder: Path) -> str:
    """What `millrace chaos` says; it must end with that exit code."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "REDIS_"))}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "millrace", "chaos", *arguments],
        cwd=folder,
        env={**environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def row(said: str, flow: str) -> list[int]:
    """The numbers of a flow in the summary table: sent, published, delivered, filtered, dead, in files, lost, twice."""
    line = next(line for line in said.splitlines() if line.startswith(f"{flow} ") and line.count("  ") > 6)
    return [int(word.replace(",", "")) for word in line.split()[1:] if word != "–"]


def test_chaos_kills_and_every_record_is_in_the_files_exactly_once(tmp_path: Path) -> None:
    into = tmp_path / "run"
    said = chaos("--seconds", "8", "--seed", "3", "--into", str(into), code=0, folder=tmp_path)
    assert said.splitlines()[0].startswith("Millrace chaos  seed 3  8 s")
    kills = re.search(r"(\d+) kills:", said)
    assert kills
    assert int(kills[1]) > 2
    assert said.count("kill -9") + said.count("power cut") == int(kills[1])
    assert row(said, "quotes") == [100, 100, 100, 0, 0, 100, 0, 0]
    sent, published, delivered, filtered, dead, in_files, lost, twice = row(said, "wikipedia")
    assert (published, sent + filtered) == (1600, 1600)
    assert (delivered, dead, in_files, lost, twice) == (sent, 0, sent, 0, 0)
    assert "nothing lost, nothing twice" in said
    on_disk = sum(len(path.read_bytes().splitlines()) for path in (into / "files" / "wikipedia").rglob("[!.]*.jsonl"))
    assert on_disk == sent


def test_chaos_cuts_the_power_of_redis_and_nothing_is_lost_or_twice(tmp_path: Path) -> None:
    said = chaos("--seconds", "8", "--seed", "91", code=0, folder=tmp_path)  # which draws it first, and once more
    assert "power cut redis" in said  # what it takes is the machine's affair: integration/test_powercut.py
    assert row(said, "quotes")[-2:] == row(said, "wikipedia")[-2:] == [0, 0]


def chaos_on_numbers(folder: Path, code: int, **queue: str) -> str:
    """What chaos says of a stream of the test's own, by seed 91."""
    with PracticeStream(total=3000, rate=400, end=True) as stream:
        flow = {
            "source": {"type": "sse", "url": stream.url, "key": "/meta/id"},
            "queue": queue,
            "batch": {"linger": "50ms"},
            "lease": "1s",
            "max_attempts": 1000,
            "sink": {"type": "jsonl", "path": "out"},
        }
        (folder / "flows.yaml").write_text(json.dumps({"flows": {"mine": flow}}))
        return chaos(
            *("--flows", "flows.yaml", "--flow", "mine", "--seconds", "5", "--seed", "91"), code=code, folder=folder
        )


def test_a_power_cut_of_a_flow_with_fsync_acknowledge_loses_nothing(tmp_path: Path) -> None:
    said = chaos_on_numbers(tmp_path, 0, fsync="acknowledge")
    assert "power cut" in said
    lost, twice = row(said, "mine")[-2:]
    assert lost == 0
    assert (f"mine: {twice:,} twice after a power cut" in said) == (twice > 0)  # if any: tests/unit/test_chaosreport.py


def test_the_power_is_not_cut_for_a_flow_that_promises_nothing_then(tmp_path: Path) -> None:
    assert "power cut" not in chaos_on_numbers(tmp_path, 0, fsync="off")


def test_chaos_on_a_flow_of_ones_own_finds_that_its_sink_writes_records_twice(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(FORGETFUL)
    with PracticeStream(total=500, rate=0, end=True) as stream:
        flow = {
            "source": {"type": "sse", "url": stream.url, "key": "/meta/id"},
            "batch": {"linger": "100ms"},
            "lease": "2s",
            "sink": {"type": "theirs:Forgetful", "path": "out"},
        }
        (tmp_path / "flows.yaml").write_text(json.dumps({"flows": {"mine": flow}}))
        said = chaos("--flows", "flows.yaml", "--flow", "mine", "--seconds", "2", code=1, folder=tmp_path)
    published, *_, twice = row(said, "mine")
    assert published == twice > 0
    assert "this should not have happened" in said
    again = chaos("--flows", "flows.yaml", "--flow", "mine", "--seconds", "2", code=2, folder=tmp_path)
    assert again.startswith("Millrace chaos  seed ")  # and then that the sink's folder is not empty


def test_chaos_in_which_nothing_was_published_is_no_proof_and_fails(tmp_path: Path) -> None:
    flow = {
        "source": {"type": "sse", "url": "http://127.0.0.1:9/"},
        "sink": {"type": "jsonl", "path": "out"},
    }
    (tmp_path / "flows.yaml").write_text(json.dumps({"flows": {"mine": flow}}))
    options = ("--flow", "mine", "--seconds", "2", "--patience", "1")
    said = chaos("--flows", "flows.yaml", *options, code=1, folder=tmp_path)
    assert "mine published nothing" in said


@pytest.mark.parametrize(
    "wrong", [["--flow", "nobody"], ["--compose", "--flow", "quotes"], ["--seconds", "1"], ["--consumers", "0"]]
)
def test_what_chaos_cannot_do_is_said_before_anything_is_killed(wrong: list[str], tmp_path: Path) -> None:
    assert "kill -9" not in chaos(*wrong, code=2, folder=tmp_path)


@pytest.mark.docker
@pytest.mark.timeout(600)
def test_chaos_in_docker_loses_nothing_and_leaves_nothing_behind(engine: None, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "millrace", "chaos", "--compose", "--seconds", "20", "--seed", "5"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert row(done.stdout, "quotes")[-2:] == row(done.stdout, "wikipedia")[-2:] == [0, 0]
    left = subprocess.run(["docker", "ps", "-aq", "--filter", "name=millrace-chaos-"], capture_output=True, text=True)
    assert left.stdout == ""
