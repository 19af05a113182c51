"""Places where a test may kill the process. For tests only; without the variable each is one comparison of two strings.

`MILLRACE_KILLPOINT=sink.before_rename` makes the process send itself SIGKILL the first time it comes by that point,
`sink.before_rename:3` the third time. SIGKILL leaves no handler, no `finally` and no flush to tidy up after it, so what
a test then finds is what a power cut of the process would leave.

The name is the part and the moment, as in `sink.after_rename`. What reads it is only this file.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

_name, _, _count = os.environ.get("MILLRACE_KILLPOINT", "").partition(":")
_left = int(_count or 1)


def killpoint(name: str, half_done: Callable[[], object] | None = None) -> None:
    """Ends the process here if a test asked for it. Returns otherwise.

    `half_done` does half of what comes next, before the end: for work that is one call, which no test can interrupt.
    """
    global _left
    if name != _name:
        return
    _left -= 1
    if _left == 0:
        if half_done is not None:
            half_done()
        os.kill(os.getpid(), signal.SIGKILL)
