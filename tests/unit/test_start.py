"""What a start imports: only what its command, its source and its sink need."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module

import pytest

from millrace.cli.commands import COMMANDS, GROUPS
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
    code = "from millrace import cli\ncli.compose(['produce'])\n"
    assert loaded_by(code + "\n".join(f"import {module}" for module in others)) == set()


def test_producer_and_consumer_load_nothing_that_no_flow_asked_for() -> None:
    loaded = loaded_by("import millrace_producer.runner, millrace_consumer.runner")
    assert loaded == {"twisted", "opentelemetry"}  # by structlog and redis: see millrace.cli.lean


def test_the_command_loads_no_twisted_and_only_the_files_that_it_is_asked_for() -> None:
    code = (
        "from millrace import cli\ncli.compose(['check', '--connect'])\nassert 'millrace.cli.demo' not in sys.modules"
    )
    assert loaded_by(code) == set()


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"], ["frobnicate"]])
def test_help_loads_no_more_than_it_shows(words: list[str]) -> None:
    code = f"""
sys.argv[1:] = {words!r}
from millrace import cli
try:
    cli.main()
except SystemExit:
    pass
assert not {{"structlog", "redis", "millrace_pipeline.flows.flow"}} & sys.modules.keys()
"""
    assert loaded_by(code) == set()


def test_all_of_structlog_and_redis_can_still_be_had() -> None:
    code = "from millrace import cli\ncli.compose(['status'])\nimport redis\nassert redis.asyncio.Redis.__doc__\n"
    more = "import structlog.twisted\nstructlog.twisted.LoggerFactory\nimport rich.console\n"
    assert "twisted" in loaded_by(code + more)


def test_what_no_command_uses_of_redis_is_not_loaded() -> None:
    code = "from millrace import cli\ncli.compose(['consume'])\nimport millrace_consumer.runner\n"
    assert loaded_by(code + "assert 'redis.asyncio.client' not in sys.modules") == set()


@pytest.mark.parametrize("file", COMMANDS)
def test_every_command_is_in_the_table_with_what_it_does(file: str) -> None:
    commands = import_module(f"millrace.cli.{file}").app.registered_commands
    told = {command.name or command.callback.__name__: in_a_line(command.callback.__doc__) for command in commands}
    assert told == COMMANDS[file]


@pytest.mark.parametrize("name", GROUPS)
def test_every_group_is_in_the_table_with_what_it_is(name: str) -> None:
    assert in_a_line(import_module(f"millrace.cli.{name}").app.info.help) == GROUPS[name]


def in_a_line(docs: str | None) -> str:
    """The first paragraph."""
    return " ".join((docs or "").split("\n\n")[0].split())


def test_check_of_the_shipped_flows_loads_no_client_of_redis_and_no_spider() -> None:
    code = (
        "import contextlib, io\nfrom millrace import cli\nwith contextlib.redirect_stdout(io.StringIO()):\n"
        "    cli.compose(['check'])(['check'], standalone_mode=False)\n"
        "assert not {'redis', 'prometheus_client', 'rich.traceback'} & sys.modules.keys()"
    )
    assert loaded_by(code) == {"pyarrow", "numpy"}  # of the sink that writes Parquet, whose columns are looked at


def test_a_bundled_model_is_had_without_scrapy() -> None:
    assert loaded_by("from millrace.spiders import Book, Quote") == set()
