"""`millrace schema` takes no extra: it prints the same in the default install as in the whole one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from millrace.cli.check import flows_schema

ROOT = Path(__file__).resolve().parents[2]
MODULES = {"confluent-kafka": "confluent_kafka", "psycopg": "psycopg"}

WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])
sys.meta_path.insert(0, Absent())
from millrace.cli import main
sys.argv = ["millrace", *sys.argv[1:]]
main()
"""


def libraries() -> set[str]:
    """The modules that all extras bring."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {re.match(r"[\w-]+", wanted)[0] for name, all in extras.items() if name != "all" for wanted in all}  # type: ignore[index]
    return {MODULES.get(name, name.replace("-", "_")) for name in named}


def without_extras(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in an install without any extra."""
    program = f"HIDDEN = {libraries()!r}\n{WITHOUT}"
    return subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_the_schema_is_the_same_without_any_extra() -> None:
    assert {"duckdb", "psycopg", "boto3", "deltalake", "obstore"} <= libraries()
    done = without_extras("schema")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == flows_schema()


def test_each_part_whose_library_is_missing_says_how_to_get_it(tmp_path: Path) -> None:
    parts = {
        "kafka": ("source: {type: kafka, brokers: h:1, topics: [a]}", "sink: {type: stdout}"),
        "sqs": ("source: {type: sqs, url: 'https://sqs.eu-west-1.amazonaws.com/1/a'}", "sink: {type: stdout}"),
        "websocket": ("source: {type: websocket, url: 'ws://h/'}", "sink: {type: stdout}"),
        "sink-kafka": ("source: {type: stdin}", "sink: {type: kafka, brokers: h:1, topic: a}"),
        "sink-sqs": ("source: {type: stdin}", "sink: {type: sqs, url: 'https://sqs.eu-west-1.amazonaws.com/1/a'}"),
        "duckdb": ("source: {type: stdin}", "sink: {type: duckdb, path: a.db, table: t}"),
        "postgres": ("source: {type: stdin}", "sink: {type: postgres, dsn: 'postgresql://h/d', table: t}"),
        "delta": ("source: {type: stdin}", "sink: {type: delta, path: lake}"),
        "objects": ("source: {type: stdin}", "sink: {type: jsonl, path: 's3://bucket/a'}"),
        "cron": ("source: {type: schedule, cron: '* * * * *'}", "sink: {type: stdout}"),
    }
    text = "flows:\n" + "".join(f"  {name}:\n    {source}\n    {sink}\n" for name, (source, sink) in parts.items())
    (tmp_path / "flows.yaml").write_text(text)
    done = without_extras("check", "--flows", str(tmp_path / "flows.yaml"))
    assert done.returncode == 2, done.stdout
    for name in parts:
        lines = [line for line in done.stderr.splitlines() if f"flows.{name}." in line]
        assert len(lines) == 1, (name, done.stderr)
        assert " needs " in lines[0], lines[0]
        assert "pip install 'millrace[" in lines[0], lines[0]
        assert ".py:" not in lines[0], lines[0]
        assert "Error" not in lines[0], lines[0]
