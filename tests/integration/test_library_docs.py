"""What docs/how-to/use-as-a-library.md shows runs as it stands there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import millrace
from tests.services import NOWHERE, Place

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "use-as-a-library.md"
READS, READS_FRAMES, WRITES, WRITES_FRAMES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def flows(place: Place) -> Place:
    place.flow("quotes", source=NOWHERE)
    place.flow("wikipedia", source=NOWHERE)
    return place


def run(place: Place, code: str) -> str:
    (place.folder / "program.py").write_text(code)
    environ = {"REDIS_URL": place.redis_url, "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=place.folder, env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_program_that_reads_counts_and_remembers(flows: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", flows.redis_url)
    with millrace.writer("wikipedia", flows=flows.folder / "flows.yaml") as writer:
        for number in range(100):
            writer.write({"wiki": f"wiki-{number % 3}"})
    run(flows, READS.replace('reader("wikipedia")', 'reader("wikipedia", until_empty=True)'))
    with flows.queue("wikipedia") as queue:
        assert queue.state("wikipedia") == {"wiki-0": 34, "wiki-1": 33, "wiki-2": 33}
        assert queue.lag() == 0


def test_the_program_that_reads_data_frames_prints_their_shapes(flows: Place) -> None:
    flows.publish(range(20), "wikipedia")
    assert run(flows, READS_FRAMES) == "(10, 3)\n(10, 3)\n"


def test_a_program_prints_what_it_prints_and_a_record_that_is_set_aside_is_told_on_standard_error(flows: Place) -> None:
    (flows.folder / "theirs.py").write_text("def fail(record):\n    raise ValueError('no good')\n")
    flows.flow("wikipedia", transforms=["theirs:fail"])
    flows.publish([1], "wikipedia")
    (flows.folder / "program.py").write_text(READS_FRAMES + "print('done')\n")
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=flows.folder,
        env={"REDIS_URL": flows.redis_url, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "done\n"
    assert "record_dead_lettered" in done.stderr
    assert "no good" in done.stderr


@pytest.mark.parametrize("code", [WRITES, WRITES_FRAMES], ids=["records", "a data frame"])
def test_the_programs_that_write_put_the_quote_on_the_list(flows: Place, code: str) -> None:
    run(flows, code)
    with flows.queue("quotes") as queue:
        claim = queue.claim(10)
    assert claim is not None
    (line,) = map(json.loads, claim.lines)
    assert line["id"] == "vonnegut-1"
    assert line["data"]["author"] == "Kurt Vonnegut"
