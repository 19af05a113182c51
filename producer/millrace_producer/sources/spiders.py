"""Spiders: which ones a Scrapy project has, found by looking at its files, or else by loading it in a child process.

python -m millrace_producer.sources.spiders < question
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.validation import did_you_mean
from millrace_producer.sources.crawlprocess import OWN_SETTINGS

LOAD_SECONDS = 20.0
"""How long a project may take to be loaded; one that takes longer is left for the crawl to judge."""

MOST_FILES = 2000
_ELSEWHERE = frozenset({"node_modules", "site-packages", "__pycache__", "venv", "tests"})


class Question(msgspec.Struct):
    """What the child is asked: the project's settings, and where else modules are."""

    settings: dict[str, Any]
    path: list[str]


class Answer(msgspec.Struct):
    """The spiders' names; or why the project can't be loaded."""

    spiders: list[str]
    error: str = ""


def check_spider(name: str, project: Path | None, settings: Mapping[str, Any], path: list[str]) -> None:
    """Return where the project has a spider of this name. Raises ConfigError where it hasn't, or can't be loaded."""
    folder = project.expanduser().resolve() if project else None
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"project: there is no folder {folder}")
    if folder is not None and not (folder / "scrapy.cfg").is_file():
        near = next((f"; {found.parent} has one" for found in sorted(folder.glob("*/scrapy.cfg"))), "")
        raise ConfigError(f"project: {folder} holds no scrapy.cfg: name the folder of one{near}")
    if _is_written_in(folder or _own(), name):
        return
    found = _ask(folder, Question(dict(settings), path))
    if found is None or name in found.spiders:
        return
    if found.error:
        raise ConfigError(f"the project of spider {name} can't be loaded: {found.error}")
    near = did_you_mean(name, found.spiders)
    there = f"there is {', '.join(found.spiders)}" if found.spiders else "there is none at all"
    raise ConfigError(f"spider: there is no spider {name!r} in {folder or 'the bundled project'}: {near or there}")


def _own() -> Path:
    """Return the folder of Millrace's own spiders."""
    spec = find_spec("millrace_producer.spiders")
    assert spec is not None and spec.submodule_search_locations  # noqa: PT018
    return Path(spec.submodule_search_locations[0])


def _is_written_in(folder: Path, name: str) -> bool:
    """Return True where a file says `name = "quotes"`, as spiders do. Elsewhere one may be made all the same."""
    wanted = re.compile(rf"""^\s+name(?:\s*:\s*[\w.\[\]]+)?\s*=\s*["']{re.escape(name)}["']""", re.MULTILINE)
    return any(wanted.search(_text(file)) for file in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    count = 0
    for where, folders, names in os.walk(folder):
        folders[:] = [one for one in folders if not one.startswith(".") and one not in _ELSEWHERE]
        for name in names:
            if name.endswith(".py"):
                count += 1
                if count > MOST_FILES:
                    return
                yield Path(where, name)


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _ask(folder: Path | None, question: Question) -> Answer | None:
    """Return what a process says that loads the project; None where it doesn't come to an end."""
    environment = {name: value for name, value in os.environ.items() if name != "SCRAPY_SETTINGS_MODULE"}
    if folder is None:
        environment["SCRAPY_SETTINGS_MODULE"] = OWN_SETTINGS
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "millrace_producer.sources.spiders"],
            input=msgspec.json.encode(question) + b"\n",
            capture_output=True,
            cwd=folder,
            env=environment,
            timeout=LOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    try:
        return msgspec.json.decode(done.stdout.rpartition(b"\x1e")[2], type=Answer)
    except msgspec.DecodeError:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return Answer([], last or f"exit status {done.returncode}")


def main() -> None:
    """Answer the question on standard input."""
    from scrapy.spiderloader import get_spider_loader
    from scrapy.utils.project import get_project_settings

    from millrace_producer.sources.crawl import find_modules

    question = msgspec.json.decode(sys.stdin.buffer.readline(), type=Question)
    try:
        find_modules(question.path)
        settings = get_project_settings()
        settings.setdict(question.settings, priority="cmdline")
        answer = Answer(sorted(get_spider_loader(settings).list()))
    except Exception as error:
        answer = Answer([], f"{type(error).__name__}: {error}")
    # Behind whatever the project prints when it is imported.
    sys.stdout.buffer.write(b"\x1e" + msgspec.json.encode(answer))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
