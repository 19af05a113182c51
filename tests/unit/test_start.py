"""What a start imports: only what its command, its source and its sink need."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module

import pytest

from millrace import cli
from millrace_producer.sources import SOURCES

HEAVY = {
    "scrapy",
    "twisted",
    "itemadapter",
    "lxml",
    "pyarrow",
    "numpy",
    "pandas",
    "polars",
    "boto3",
    "obstore",
    "starlette",
    "uvicorn",
    "jinja2",
    "opentelemetry",
}


def loaded_by(code: str) -> set[str]:
    """The heavy packages that an interpreter of its own has loaded after this."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys\n{code}\nprint(repr({HEAVY!r} & sys.modules.keys()))"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(ast.literal_eval(done.stdout.splitlines()[-1].replace("set()", "()")))


def test_no_source_but_scrapy_loads_scrapy_and_none_loads_arrow_before_it_reads() -> None:
    others = [path.partition(":")[0] for name, path in SOURCES.items() if name != "scrapy"]
    assert loaded_by("\n".join(f"import {module}" for module in ("millrace.cli", *others))) == set()


def test_producer_and_consumer_load_nothing_that_no_flow_asked_for() -> None:
    assert loaded_by("import millrace_producer.runner, millrace_consumer.runner") == {"twisted"}  # by structlog


def test_the_command_loads_no_twisted_and_only_the_files_that_it_is_asked_for() -> None:
    code = (
        "from millrace import cli\ncli.compose(['check', '--connect'])\nassert 'millrace.cli.demo' not in sys.modules"
    )
    assert loaded_by(code) == set()


def test_structlog_can_still_log_by_twisted() -> None:
    assert "twisted" in loaded_by("from millrace import cli\nimport structlog.twisted\nstructlog.twisted.LoggerFactory")


@pytest.mark.parametrize("file", [*cli.COMMANDS, *cli.GROUPS])
def test_every_command_is_in_the_table_of_the_files(file: str) -> None:
    commands = import_module(f"millrace.cli.{file}").app.registered_commands
    names = [command.name or command.callback.__name__ for command in commands]
    assert list(cli.COMMANDS.get(file, names)) == names
