"""How a process of a benchmark says when: a file with the moment in it, which appears whole."""

from __future__ import annotations

import time
from pathlib import Path


def mark(folder: Path, name: str) -> None:
    """Notes this moment as `name`: `ready` to take records, `began`, `ended`."""
    moment = time.monotonic()
    written = folder / f"{name}.tmp"
    written.write_text(repr(moment))
    written.rename(folder / name)
