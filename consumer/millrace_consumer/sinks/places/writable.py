"""Writable: whether a sink will be able to write to a path, as far as a look can tell."""

from __future__ import annotations

import os
from pathlib import Path

from millrace_pipeline.errors import ConfigError


def check_folder(path: Path) -> None:
    """Raise ConfigError where this folder is something else, or this user can't make it or write into it."""
    there = path
    while not _is_there(there) and there != there.parent:
        there = there.parent
    if there == path and not path.is_dir():
        raise ConfigError(f"path: {path} is not a directory; name one that is, or that doesn't exist yet")
    if not there.is_dir():
        raise ConfigError(f"path: {path} can't be made: {there} is not a directory")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"path: {_cant(path, there)}: give the consumer's user the right to write to {there}")


def check_file(path: Path) -> None:
    """Raise ConfigError where this file is a folder, or this user can't write it or make it."""
    if path.is_dir():
        raise ConfigError(f"path: {path} is a directory; name a file in it")
    if path.exists() and not os.access(path, os.W_OK):
        raise ConfigError(f"path: {path} can't be written: give the consumer's user the right to")
    check_folder(path.absolute().parent)


def _is_there(path: Path) -> bool:
    """Return True where there is something of that name. Raises OSError where that can't be known."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _cant(path: Path, there: Path) -> str:
    return f"{path} can't be written to" if there == path else f"{path} can't be made in {there}"
