"""Clocks that are wrong, for processes of Python."""

from __future__ import annotations

from pathlib import Path

TIME = """
import time
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + {seconds}
time.time_ns = lambda: _time_ns() + {seconds} * 10**9
"""

DATETIME = """
import datetime
class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls):
        return cls.fromtimestamp(time.time(), datetime.timezone.utc).replace(tzinfo=None)

datetime.datetime = Shifted
"""


def clock_of(directory: Path, seconds: int, *, datetimes: bool = True) -> Path:
    """A directory that makes the clock of a Python process wrong by so many seconds, when it is on its path.

    Without `datetimes` that of `time` alone: Arrow crashes where the type of a datetime is another one.
    """
    folder = directory / f"clock{seconds:+}"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(TIME.format(seconds=seconds) + (DATETIME if datetimes else ""))
    return folder
