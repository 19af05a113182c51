"""Scripts: the Lua of this package, by name. Each file in a folder `lua` is one step that Redis carries out whole."""

from __future__ import annotations

from importlib import resources

PACKAGE = resources.files("millrace_pipeline")
FOLDERS = ("queue/lua", "redis/lua")

SCRIPTS: dict[str, bytes] = {
    file.name.removesuffix(".lua"): file.read_bytes()
    for folder in FOLDERS
    for file in sorted(PACKAGE.joinpath(folder).iterdir(), key=lambda file: file.name)
    if file.name.endswith(".lua")
}
