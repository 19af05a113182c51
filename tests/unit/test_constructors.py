"""A constructor takes note of what it is given, and does no work: who makes an object decides when that begins."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("millrace", "producer/millrace_producer", "consumer/millrace_consumer", "pipeline/millrace_pipeline")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]

WORK = {
    *("start", "connect", "dial", "exchange", "ask", "ask_script", "publish", "claim", "mark", "server_of", "apply"),
    *("Popen", "run", "up", "urlopen", "getaddrinfo", "serve_forever", "init_transactions"),
}

OTHERS = {"crawler.signals.connect"}
"""To be told of something is no connection."""


def calls_of_constructors(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Each class with a constructor, and what that calls, but not what it only keeps to be called later."""
    for class_ in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for method in class_.body:
            if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                later = {inner for node in ast.walk(method) if isinstance(node, ast.Lambda) for inner in ast.walk(node)}
                for node in ast.walk(method):
                    if isinstance(node, ast.Call) and node not in later:
                        yield class_.name, ast.unparse(node.func)


def test_no_constructor_connects_starts_or_asks() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name}.__init__ calls {call}"
        for path in FILES
        for name, call in calls_of_constructors(ast.parse(path.read_text(encoding="utf-8")))
        if call.rpartition(".")[2] in WORK and call not in OTHERS
    ]
    assert found == []
    assert len(FILES) > 250
