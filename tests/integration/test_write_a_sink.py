"""docs/how-to/write-a-sink.md, followed to the letter."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from millrace.cli.check import load_all
from millrace.practice.site import PracticeSite
from millrace_consumer.sinks.base import RecordsRejected
from tests.contracts.sink_records import batch_of, sink_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "write-a-sink.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


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
    for module in ("mine", "careful", "tell", "verified"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return tmp_path


def test_every_command_of_the_page_says_what_the_page_says_it_does(folder: Path) -> None:
    commands = [
        (command, expected)
        for kind, text in BLOCK.findall(PAGE.read_text())
        if kind == "console"
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE)
    ]
    assert len(commands) == 4
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "REDIS_"))}
    environ |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(str(ROOT / room) for room in ("", "producer", "consumer", "pipeline")),
        "COLUMNS": "80",
    }
    with PracticeSite() as site:
        for command, expected in commands:
            # The command as a module of the tree under test, which another may be installed over.
            command = re.sub(r"^millrace ", "python -P -m millrace ", command)
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=folder,
                env=environ | {"QUOTES_URL": site.url},
                capture_output=True,
                text=True,
                check=False,
            )
            said = f"{command}: {done.returncode}\n{done.stdout}{done.stderr}{(folder / 'log').exists()}"
            assert done.returncode == 0, said
            assert [line.rstrip() for line in done.stdout.splitlines()] == expected.splitlines(), said


def test_the_careful_sink_sets_aside_what_the_page_says(folder: Path) -> None:
    sink = sink_of("careful:Careful", {"path": str(folder / "quotes.db")})
    with pytest.raises(RecordsRejected) as rejection:
        sink.write(batch_of("b", [{"author": "Ada", "text": "t"}, {"author": None, "text": "t"}]))
    assert rejection.value.reasons == {1: "no author"}


def test_the_verified_sink_is_read_back_and_a_double_is_found(folder: Path) -> None:
    sink = sink_of("verified:Verified", {"path": str(folder / "quotes.db")})
    for number in (1, 2):
        sink.write(batch_of(f"b{number}", [{"author": "Ada", "text": f"{n * number}"} for n in (1, 2)]))
    found = sink.read_back().read()
    assert (found.files, found.records, found.twice, found.unit) == (1, 4, 1, "table")
    assert [(row.identity, row.files) for row in found.repeated] == [("('Ada', '2')", ["quotes", "quotes"])]


def test_the_function_is_found_by_its_flow(folder: Path) -> None:
    assert load_all(folder / "only-a-function.yaml")


def test_the_sink_has_ten_lines_that_do_something(folder: Path) -> None:
    code = (folder / "mine.py").read_text().partition("class ")[2]
    assert len([line for line in code.splitlines() if line.strip() and '"""' not in line]) <= 10
