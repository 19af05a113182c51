"""The import path of a flows file: its folder's modules are found, and none takes the place of one of ours."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from millrace_pipeline.flows.importpath import OURS

FLOWS = """
flows:
  mine:
    source: {type: files, path: in.jsonl}
    transforms: [flows:same]
    sink: {type: jsonl, path: out}
"""
LAYOUTS = [
    ("pipeline.py", "producer.py", "consumer.py"),
    ("pipeline/__init__.py", "producer/__init__.py", "consumer/__init__.py"),
    ("redis.py", "scrapy.py", "pyarrow.py", "pydantic.py", "websockets.py", "duckdb.py"),
    ("queue.py", "json.py", "types.py", "statistics.py", "sqlite3.py", "asyncio/__init__.py"),
]


@pytest.mark.parametrize("names", LAYOUTS)
def test_modules_beside_flows_yaml_may_have_any_name(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('somebody imported ' + __name__)\n")
    (tmp_path / "flows.yaml").write_text(FLOWS)
    (tmp_path / "flows.py").write_text("from helper import same\n")
    (tmp_path / "helper.py").write_text("def same(data):\n    return data\n")
    (tmp_path / "in.jsonl").write_text('{"a": 1}\n')
    for words in (["check"], ["test", "mine"], ["run", "--until-empty"]):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "millrace", *words], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "somebody imported" not in done.stdout + done.stderr


def test_every_library_that_millrace_imports_is_named() -> None:
    root = Path(__file__).parents[2]
    ours = {"millrace", "millrace_pipeline", "millrace_producer", "millrace_consumer", *sys.stdlib_module_names}
    imported: set[str] = set()
    for folder in ("millrace", "pipeline", "producer", "consumer"):
        for path in (root / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    imported |= {name.name.partition(".")[0] for name in node.names}
                elif isinstance(node, ast.ImportFrom):
                    imported.add(str(node.module).partition(".")[0])
    assert imported - ours - set(OURS) == set()
