"""Millrace as anyone installs it: a wheel with no source beside it, used from folders of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from millrace.practice.site import PracticeSite
from tests.services import on_the_list

ROOT = Path(__file__).resolve().parents[2]
QUOTES = 100
"""So many are on the practice site."""

SCRAPY = """\
#!{python}
import sys
from scrapy.cmdline import execute
sys.exit(execute())
"""

LOUD = "raise SystemExit('somebody ran ' + __name__)\n"

TUTORIAL = {
    "pipeline/__init__.py": "",
    "pipeline/redis_client.py": """\
import os, redis

def connect():
    return redis.Redis.from_url(os.environ["REDIS_URL"])
""",
    "consumer/__init__.py": "",
    "consumer/quotes_consumer.py": """\
import json, sys
from pipeline.redis_client import connect

client = connect()
while (found := client.rpop(sys.argv[1])) is not None:
    print(json.loads(found)["data"]["by"])
""",
    "producer/producer/spiders/quotes.py": """\
import scrapy
from pipeline.redis_client import connect


class QuotesSpider(scrapy.Spider):
    name = "quotes"
    custom_settings = {"DOWNLOAD_DELAY": 0, "LOG_LEVEL": "INFO"}

    async def start(self):
        connect().ping()
        yield scrapy.Request(self.start_url)

    def parse(self, response):
        for quote in response.css("div.quote"):
            yield {"by": quote.css("small.author::text").get(), "says": quote.css("span.text::text").get()}
        for after in response.css("li.next a"):
            yield response.follow(after)
""",
}

CRAWLED = """
flows:
  quotes:
    source: {type: scrapy, project: producer, spider: quotes, args: {start_url: "${QUOTES_URL}"}}
    sink: {type: jsonl, path: data/quotes}
"""

NAMED_AS_OURS = {
    "flows.yaml": """
flows:
  numbers:
    source: {type: "producer:Numbers", count: 3}
    transforms: [pipeline:clean]
    sink: {type: jsonl, path: data/numbers}
""",
    "producer.py": """\
from millrace import Record, Source


class Numbers(Source):
    count: int

    def read(self, resume_from):
        for number in range(resume_from or 0, self.count):
            yield Record({"number": number}, position=number + 1)
""",
    "pipeline.py": "def clean(record):\n    return record | {'clean': True}\n",
    "consumer.py": LOUD,
}


class Installed:
    """An environment with the wheel in it. Its commands see neither our source nor this test's settings."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.site_packages = next((folder / "lib").glob("python*/site-packages"))

    def run(self, *command: str, cwd: Path, code: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        ours = ("MILLRACE_", "REDIS_", "PYTHON", "SCRAPY_", "VIRTUAL_ENV")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        environment |= {"PATH": f"{self.bin}:{os.environ['PATH']}", "COLUMNS": "120"}
        done = subprocess.run(
            command, cwd=cwd, env=environment | environ, capture_output=True, text=True, timeout=110, check=False
        )
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel of this tree in an environment of its own, and the libraries of this one, but not its path files."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    quietly = ["-q", "--no-deps", "--no-index"]
    for command in (
        [*pip, "wheel", *quietly, "--no-build-isolation", "-w", str(folder / "wheel"), str(ROOT)],
        [sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")],
    ):
        subprocess.run(command, check=True, cwd=folder)
    [wheel] = (folder / "wheel").glob("*.whl")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", *quietly, str(wheel)], check=True, cwd=folder)
    found = Installed(folder / "venv")
    libraries = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (found.site_packages / "libraries.pth").write_text("\n".join(libraries))
    scrapy = found.bin / "scrapy"
    scrapy.write_text(SCRAPY.format(python=python))
    scrapy.chmod(0o755)
    return found


@pytest.fixture(scope="module")
def site() -> Iterator[PracticeSite]:
    with PracticeSite() as site:
        yield site


@pytest.fixture
def tutorial(installed: Installed, tmp_path: Path) -> Path:
    """The tutorial's folder: `producer`, made by Scrapy, beside `pipeline/` and `consumer/`."""
    installed.run("scrapy", "startproject", "producer", cwd=tmp_path)
    write(tmp_path, TUTORIAL)
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in folder.rglob("*.jsonl") for line in path.read_bytes().splitlines()]


def test_what_is_imported_is_what_the_wheel_installed(installed: Installed, tmp_path: Path) -> None:
    code = "import importlib.util as u, sys; print(*(u.find_spec(name).origin for name in sys.argv[1:]), sep='\\n')"
    names = ("millrace", "millrace_pipeline", "millrace_producer", "millrace_consumer")
    found = installed.run("python", "-c", code, *names, cwd=tmp_path).stdout.split()
    assert found == [str(installed.site_packages / name / "__init__.py") for name in names]


def test_the_demo_runs_in_an_empty_folder_and_reads_both_of_its_flows(installed: Installed, tmp_path: Path) -> None:
    shown = installed.run("millrace", "demo", "--seconds", "5", cwd=tmp_path).stdout
    assert f"{QUOTES} records of {QUOTES} delivered: each once" in shown, shown
    assert "nothing lost, nothing twice" in shown
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_the_shipped_flows_are_checked_and_tried_in_an_empty_folder(installed: Installed, tmp_path: Path) -> None:
    missing = installed.run("millrace", "check", cwd=tmp_path, code=2).stderr
    assert missing.startswith("there is no flows.yaml")
    assert missing.count("\n") == 1, missing
    for name in ("flows.yaml", "flows.py"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    assert "2 flows OK" in installed.run("millrace", "check", cwd=tmp_path).stdout
    tried = installed.run("millrace", "test", "quotes", "--record", '{"text": "So it goes."}', cwd=tmp_path).stdout
    assert "record 1 would be written" in tried


def test_the_command_and_the_module_are_the_same(installed: Installed, tmp_path: Path) -> None:
    by_name = installed.run("millrace", "--help", cwd=tmp_path).stdout
    as_module = installed.run("python", "-P", "-m", "millrace", "--help", cwd=tmp_path).stdout
    assert "Usage: millrace" in by_name
    assert by_name.split() == as_module.replace("python -m millrace", "millrace").split()


def test_a_scrapy_project_lists_its_own_spiders_only(installed: Installed, tutorial: Path) -> None:
    listed = installed.run("scrapy", "list", cwd=tutorial / "producer", PYTHONPATH=str(tutorial))
    assert listed.stdout.split() == ["quotes"]


def test_two_lines_of_settings_put_a_projects_items_on_the_list(
    installed: Installed, tutorial: Path, site: PracticeSite, client: redis.Redis, redis_url: str, key: str
) -> None:
    with (tutorial / "producer" / "producer" / "settings.py").open("a") as settings:
        settings.write(f'ITEM_PIPELINES = {{"millrace.scrapy.RedisPipeline": 900}}\nMILLRACE_KEY = "{key}"\n')
    theirs = {"REDIS_URL": redis_url, "PYTHONPATH": str(tutorial)}
    crawl = ("scrapy", "crawl", "quotes", "-a", f"start_url={site.url}")
    installed.run(*crawl, cwd=tutorial / "producer", **theirs)
    assert len({record["says"] for record in on_the_list(client, key)}) == QUOTES
    read = installed.run("python", "-m", "consumer.quotes_consumer", key, cwd=tutorial, **theirs).stdout
    assert len(read.splitlines()) == QUOTES


def test_a_flow_crawls_a_users_project_that_is_called_producer(
    installed: Installed, tutorial: Path, site: PracticeSite, redis_url: str
) -> None:
    write(tutorial, {"flows.yaml": CRAWLED.replace("source:", f"queue: {{key: {tutorial.name}}}\n    source:")})
    theirs = {"REDIS_URL": redis_url, "QUOTES_URL": site.url}
    assert "1 flow OK" in installed.run("millrace", "check", cwd=tutorial, **theirs).stdout
    installed.run("millrace", "run", "--until-empty", cwd=tutorial, **theirs)
    written = records(tutorial / "data")
    assert len(written) == len({record["says"] for record in written}) == QUOTES


def test_modules_beside_the_flows_may_be_named_as_our_rooms_once_were(installed: Installed, tmp_path: Path) -> None:
    write(tmp_path, NAMED_AS_OURS)
    checked = installed.run("millrace", "check", cwd=tmp_path)
    assert "1 flow OK" in checked.stdout
    tried = installed.run("millrace", "test", "numbers", "--record", '{"number": 7}', cwd=tmp_path)
    ran = installed.run("millrace", "run", "--until-empty", cwd=tmp_path)
    assert [record["number"] for record in records(tmp_path / "data")] == [0, 1, 2]
    assert all(record["clean"] for record in records(tmp_path / "data"))
    for done in (checked, tried, ran):
        assert "somebody ran" not in done.stdout + done.stderr


def test_a_users_sink_is_held_to_the_contract_that_the_wheel_ships(installed: Installed, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "write-a-sink.md").read_text()
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page, re.DOTALL)
    write(tmp_path, dict(blocks))
    said = installed.run("python", "-m", "pytest", "-q", "test_mine.py", cwd=tmp_path).stdout
    assert "8 passed" in said
    sink = tmp_path / "mine.py"
    sink.write_text(sink.read_text().replace(".rowcount:", ".rowcount or True:"))
    said = installed.run("python", "-m", "pytest", "-q", "test_mine.py", cwd=tmp_path, code=1).stdout
    assert "test_the_same_batch_twice_is_there_once" in said
    assert "test_a_write_that_was_killed_anywhere_and_is_delivered_again_is_whole" in said
