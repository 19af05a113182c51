"""A way to wait that is no sleep."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def eventually(claim: Callable[[], object], seconds: float = 20.0) -> None:
    """Return once the claim holds; fail, showing the claim, if it doesn't within so many seconds."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not claim():
        assert time.monotonic() < deadline, f"not within {seconds} s: {claim}"
        pause.wait(0.01)
