"""When a record happened, as its envelope says."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from millrace_pipeline.moment import read_moment
from millrace_pipeline.process.repeats import repeats

_SHOWN_LETTERS = 60


def moment_said(time: Any) -> datetime | None:
    """Return the time of an envelope, whoever pushed it; None where it says none, or what is none: said, counted."""
    moment = read_moment(time)
    if moment is None and time is not None:
        shown = repr(time)[:_SHOWN_LETTERS]
        mend = "an envelope says when in RFC 3339: it counts as one that doesn't say"
        repeats.warn("time_not_understood", kind="envelope", field="time of the envelope", found=shown, mend=mend)
    return moment
