"""Lean: structlog without Twisted, which it imports wherever that is installed, and no command logs by.

It costs every start a tenth of its time. Who wants `structlog.twisted` can import it all the same.
"""

from __future__ import annotations

import sys

if not {"twisted", "structlog"} & sys.modules.keys():
    sys.modules["twisted"] = None  # type: ignore[assignment]  # what can't be imported
    import structlog  # noqa: F401

    del sys.modules["twisted"]
