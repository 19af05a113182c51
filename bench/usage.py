"""What processes use of the machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def resident_bytes(pid: int) -> int:
    """The memory that a process holds now."""
    return int(_ps(pid, "rss")) * 1024


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has used, user and system."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    seconds = 0.0
    for part in _ps(pid, "time").split(":"):  # macOS: minutes:seconds.hundredths
        seconds = seconds * 60 + float(part)
    return seconds


def _ps(pid: int, column: str) -> str:
    return subprocess.run(
        ["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=True
    ).stdout.strip()
