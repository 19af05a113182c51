"""Memory: how much of it this machine, or this container, has."""

from __future__ import annotations

import os
from pathlib import Path

LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux says how much a container may take, by version 2 and 1 of its control groups."""


def memory_bytes() -> int:
    """Return the bytes that there are, or fewer where a container is held to that."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([there, *filter(None, map(_limit, LIMITS))])


def _limit(file: Path) -> int:
    try:
        said = file.read_text().strip()
    except OSError:
        return 0
    return int(said) if said.isdigit() else 0  # `max` is none
