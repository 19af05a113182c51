"""Times: when a record happened, as a field of it says."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from millrace_pipeline.moment import TimeUnit, read_moment
from millrace_pipeline.process.repeats import repeats


def time_of(pointer: str, found: Any, unit: TimeUnit) -> datetime | None:
    """Return what the pointer found as a time. Where it found none that is said, once, and counted."""
    moment = read_moment(found, unit)
    if moment is None:
        repeats.warn(
            "time_not_understood",
            kind="",
            of=pointer,
            time=pointer,
            found=shown(found),
            mend="it gets the time when it is published: is the pointer right, or time_unit missing?",
        )
    return moment


def shown(found: Any) -> str:
    """Return what a pointer found as it is said in a warning."""
    return "nothing" if found is None else repr(found)[:60]
