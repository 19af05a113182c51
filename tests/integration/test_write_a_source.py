"""docs/how-to/write-a-source.md, followed to the letter."""

from __future__ import annotations

import importlib
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from millrace_pipeline.errors import SourceRefused, SourceUnavailable
from millrace_producer.sources.base import DeadLetter

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "write-a-source.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MODULES = ("mine", "careful", "shop", "count")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with every file that the page shows, under the name in its first line."""
    for kind, text in BLOCK.findall(PAGE.read_text()):
        if kind in ("python", "yaml"):
            name = text.partition("\n")[0].removeprefix("# ")
            assert re.fullmatch(r"[\w-]+\.(py|yaml)", name), f"a block without its file's name: {text[:60]}"
            (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for module in MODULES:
        monkeypatch.delitem(sys.modules, module, raising=False)
    return tmp_path


def test_every_command_of_the_page_says_what_the_page_says_it_does(folder: Path) -> None:
    commands = [
        (command, expected)
        for kind, text in BLOCK.findall(PAGE.read_text())
        if kind == "console"
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE)
    ]
    assert len(commands) == 10
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "REDIS_"))}
    environ |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(str(ROOT / room) for room in ("", "producer", "consumer", "pipeline")),
        "COLUMNS": "80",
    }
    for command, expected in commands:
        # The command as a module of the tree under test, which another may be installed over.
        command = re.sub(r"^millrace ", "python -P -m millrace ", command)
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=environ, capture_output=True, text=True, check=False
        )
        log = folder / "log"
        said = f"{command}: {done.returncode}\n{done.stdout}{done.stderr}{log.read_text() if log.exists() else ''}"
        assert done.returncode == 0, said
        assert [line.strip() for line in done.stdout.splitlines()] == expected.splitlines(), said


def test_the_careful_source_says_what_the_page_says(folder: Path) -> None:
    shop, careful = importlib.import_module("shop"), importlib.import_module("careful")
    source = careful.Careful(path="shop.db")
    with pytest.raises(SourceUnavailable) as unavailable:
        list(source.read(None))
    assert unavailable.value.retry_after == 5
    shop.sell("shop.db", 3)
    with sqlite3.connect("shop.db") as db:
        db.execute("UPDATE orders SET pieces = 0 WHERE id = 2")
    came: list[Any] = list(source.read(None))
    assert [type(record) is DeadLetter for record in came] == [False, True, False]
    assert [record.position for record in came] == [1, 2, 3]
    assert len(list(source.read(came[1].position))) == 1
    with pytest.raises(SourceRefused):
        list(source.read("a cursor"))


def test_the_source_has_ten_lines_that_do_something(folder: Path) -> None:
    code = (folder / "mine.py").read_text().partition("class ")[2]
    assert len([line for line in code.splitlines() if line.strip() and '"""' not in line]) <= 10
