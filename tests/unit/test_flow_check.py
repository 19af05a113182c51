"""`millrace check` at a terminal: what it shows, which file and which Redis it looks at, and its help."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def millrace(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not re.match("MILLRACE_|REDIS_URL", name)}
    return subprocess.run(
        [sys.executable, "-P", "-m", "millrace", *arguments],
        cwd=cwd,
        env={**kept, "COLUMNS": "200", "NO_COLOR": "1", "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flows.yaml").write_text(
        "flows:\n"
        "  mail:\n"
        "    source: {type: sse, url: 'http://localhost/'}\n"
        "    queue: {key: '[red]MAIL[/x]'}\n"
        "    transforms: ['mine:f']\n"
        "    model: mine:M\n"
        "    sink: {type: csv, path: out}\n"
    )
    (tmp_path / "mine.py").write_text("import pydantic\nclass M(pydantic.BaseModel):\n  a: int\ndef f(r): return r\n")
    return tmp_path


def test_a_sound_file_is_shown_as_a_table_with_markup_as_it_is(folder: Path) -> None:
    ended = millrace("check", cwd=folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [line.split() for line in ended.stdout.splitlines()[:2]] == [
        ["flow", "source", "list", "transforms", "model", "sink"],
        ["mail", "sse", "[red]MAIL[/x]", "f", "M", "csv"],
    ]


def test_the_file_is_the_one_that_the_option_or_the_variable_names(folder: Path) -> None:
    (folder / "flows.yaml").rename(folder / "other.yaml")
    assert "mail" in millrace("check", "--flows", "other.yaml", cwd=folder).stdout
    assert "mail" in millrace("check", cwd=folder, MILLRACE_FLOWS="other.yaml").stdout


def test_connect_looks_at_the_redis_too(folder: Path, redis_url: str) -> None:
    assert "noeviction" in millrace("check", "--connect", cwd=folder, REDIS_URL=redis_url).stdout


def test_a_redis_that_does_not_answer_exits_with_1_and_shows_no_password(folder: Path) -> None:
    ended = millrace("check", "--connect", cwd=folder, REDIS_URL="redis://:hunter2@127.0.0.1:1/0")
    assert ended.returncode == 1
    assert "Redis does not answer" in ended.stdout
    assert "hunter2" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("command", ["check", "schema"])
def test_help_has_an_example_and_the_exit_codes(command: str) -> None:
    shown = millrace(command, "--help", cwd=ROOT).stdout
    assert f"Example: millrace {command}" in shown
    assert "Exit codes: 0" in shown
