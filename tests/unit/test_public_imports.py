"""What users read: pages and examples name `millrace`, never the rooms behind it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
READ = [
    ROOT / "README.md",
    ROOT / "flows.py",
    ROOT / "flows.yaml",
    *(page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "decisions"),
    *(file for kind in ("*.py", "*.yaml", "*.md") for file in (ROOT / "examples").rglob(kind)),
]
# A file of ours has a slash before its name, as in producer/millrace_producer/runner.py; a metric goes on with "_".
ROOMS = re.compile(r"(?<!/)\bmillrace_(?:pipeline|producer|consumer)\b(?!/)")
OLD = re.compile(
    r"(?<![\w/-])(?:(?:pipeline/(?:cli|practice|queue|redis|flows|process)|producer/(?:sources|spiders)"
    r"|consumer/(?:sinks|transforms))/"
    r"|import (?:pipeline|producer|consumer)\b|from (?:pipeline|producer|consumer)[. ]"
    r"|(?:pipeline|producer|consumer)\.(?:cli|reader|writer|access|practice|scrapy)\b)"
)


@pytest.mark.parametrize("path", READ, ids=lambda path: str(path.relative_to(ROOT)))
def test_users_are_told_of_the_public_names_only(path: Path) -> None:
    lines = enumerate(path.read_text().splitlines(), 1)
    assert [f"{number}: {line}" for number, line in lines if ROOMS.search(line) or OLD.search(line)] == []
