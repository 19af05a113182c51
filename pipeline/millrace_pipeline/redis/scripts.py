"""Scripts: the Lua of this package, by name. Each file in a folder `lua` is one step that Redis carries out whole.

Where a script has the line `--include NAME`, the functions of `parts/NAME.lua` in one of these folders stand for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable

PACKAGE = resources.files("millrace_pipeline")
FOLDERS = ("queue/lua", "queue/frontier/lua", "redis/lua")

_INCLUDE = re.compile(rb"^--include (\w+)$", re.MULTILINE)


def _texts(within: str = "") -> Iterator[tuple[str, bytes]]:
    """Each script in the folders, or in a folder within each of them, by name."""
    for folder in FOLDERS:
        files: list[Traversable] = [*PACKAGE.joinpath(f"{folder}/{within}").iterdir()]
        for file in sorted(files, key=lambda file: file.name):
            if file.name.endswith(".lua"):
                yield file.name.removesuffix(".lua"), file.read_bytes()


_PARTS = dict(_texts("parts"))

SCRIPTS: dict[str, bytes] = {
    name: _INCLUDE.sub(lambda found: _PARTS[found[1].decode()], text) for name, text in _texts()
}
