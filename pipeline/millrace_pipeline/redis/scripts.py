"""Scripts: the Lua of this package, by name. Each file in a folder `lua` is one step that Redis carries out whole.

Where a script has the line `--include NAME`, the functions of `lua/parts/NAME.lua` stand for it.
"""

from __future__ import annotations

import re
from importlib import resources
from importlib.resources.abc import Traversable

PACKAGE = resources.files("millrace_pipeline")
FOLDERS = ("queue/lua", "redis/lua")


def _whole(file: Traversable, folder: Traversable) -> bytes:
    """The script with what it includes."""
    include = re.compile(rb"^--include (\w+)$", re.MULTILINE)
    return include.sub(lambda found: folder.joinpath(f"parts/{found[1].decode()}.lua").read_bytes(), file.read_bytes())


SCRIPTS: dict[str, bytes] = {
    file.name.removesuffix(".lua"): _whole(file, PACKAGE.joinpath(folder))
    for folder in FOLDERS
    for file in sorted(PACKAGE.joinpath(folder).iterdir(), key=lambda file: file.name)
    if file.name.endswith(".lua")
}
