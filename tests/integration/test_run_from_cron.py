"""What docs/how-to/run-from-cron.md tells a scheduler to run and to expect, run as it stands there."""

from __future__ import annotations

import ast
import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from millrace.practice.stream import PracticeStream
from tests.services import PATIENCE, Place

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "run-from-cron.md").read_text()
PROGRAMS = dict(zip(("Airflow", "Luigi", "Prefect"), re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), strict=True))


def commands(code: str) -> list[list[str]]:
    """Every `millrace …` that a program calls, as words; what is a variable there is the flow `quotes`."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.List) and node.elts and getattr(node.elts[0], "value", None) == "millrace":
            found.append(
                [
                    str(getattr(word, "value", "quotes")) if isinstance(word, ast.Constant) else "quotes"
                    for word in node.elts
                ]
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("millrace "):
            found.append(node.value.split())
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_scheduler_runs_the_flow_until_it_is_empty(name: str) -> None:
    assert commands(PROGRAMS[name])[0] == ["millrace", "run", "quotes", "--until-empty"]


def test_the_commands_end_with_0_once_all_is_delivered_and_again(place: Place) -> None:
    with PracticeStream(total=30, end=True) as stream:
        place.flow("quotes", source={"type": "sse", "url": stream.url}, sink={"type": "jsonl", "path": "out/quotes"})
        deliver, verify = commands(PROGRAMS["Airflow"])
        for command in (deliver, verify, deliver):
            assert place.start(*command[1:]).wait() == 0
    assert len(place.records("quotes")) == 30


def test_the_crontab_line_delivers_and_is_skipped_while_another_runs(place: Place) -> None:
    (line,) = re.findall(r"^5 \* \* \* \*  (.*)$", PAGE, re.MULTILINE)
    for shown, here in (("/srv/flows", str(place.folder)), (".venv/bin/millrace", f"{sys.executable} -P -m millrace")):
        assert shown in line
        line = line.replace(shown, here)
    if shutil.which("flock") is None:  # macOS
        line = line.replace("flock -n .millrace.lock ", "")

    def cron() -> int:
        environ = {**os.environ, "REDIS_URL": place.redis_url}
        return subprocess.run(["sh", "-c", line], env=environ, timeout=PATIENCE).returncode

    with PracticeStream(total=30, end=True) as stream, (place.folder / ".millrace.lock").open("w") as lock:
        place.flow("quotes", source={"type": "sse", "url": stream.url}, sink={"type": "jsonl", "path": "out/quotes"})
        if "flock" in line:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert cron() == 1
            assert not place.files("quotes")
            fcntl.flock(lock, fcntl.LOCK_UN)
        assert cron() == 0
    assert len(place.records("quotes")) == 30
    assert "batch_delivered" in (place.folder / "run.log").read_text()
