"""Modules: the Python files beside a flows file that its services import, which go with it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from millrace_pipeline.flows.flow import Flow


def modules_of(flows: Iterable[Flow], folder: Path) -> list[Path]:
    """Return the modules in this folder that the flows name, and those that they import in turn, by name.

    What is a folder (a package, a Scrapy project) is none of them: it belongs in the image.
    """
    found: dict[str, Path] = {}
    waiting = list(_named(flows))
    while waiting:
        name = waiting.pop()
        file = folder / f"{name}.py"
        if name not in found and file.is_file():
            found[name] = file
            waiting += _imported(file)
    return [found[name] for name in sorted(found)]


def packages_of(flows: Iterable[Flow], folder: Path) -> list[Path]:
    """Return the packages in this folder that the flows name: the image has to hold them."""
    return sorted({folder / name for name in _named(flows) if (folder / name).is_dir()})


def _named(flows: Iterable[Flow]) -> Iterator[str]:
    for flow in flows:
        options = [str(value) for part in (flow.source, *flow.sink.each) for value in part.options.values()]
        types = [part.type for part in (flow.source, *flow.sink.each)]
        for path in (*types, *options, *flow.transform_paths, flow.model or ""):
            module, colon, _ = path.partition(":")
            if colon and all(part.isidentifier() for part in module.split(".")):
                yield module.partition(".")[0]


def _imported(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return  # whoever imports it will say so
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
