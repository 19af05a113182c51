"""Tests of what a source and a sink must do, for people who write their own. Needs pytest.

Subclass `SinkContract` or `SourceContract`, say how yours is made, and pytest runs every claim on it:

    from millrace.testing import SinkContract

    class TestQuotes(SinkContract):
        sink = "mine:Quotes"

        def options(self, destination): ...
        def records(self, count, size=0): ...
        def read_back(self, destination): ...

Millrace's own sources and sinks are held to the same claims, and to more.
"""

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in ("acknowledging", "faults", "sink", "source")))

from millrace.testing.acknowledging import AcknowledgingSourceContract  # noqa: E402 - pytest is told first
from millrace.testing.batches import batch_of, sink_of  # noqa: E402
from millrace.testing.faults import FaultyOrigin, FaultySourceContract  # noqa: E402
from millrace.testing.sink import SinkContract  # noqa: E402
from millrace.testing.source import Origin, SourceContract, read, value_of  # noqa: E402
from millrace.testing.waiting import eventually  # noqa: E402

__all__ = [
    "AcknowledgingSourceContract",
    "FaultyOrigin",
    "FaultySourceContract",
    "Origin",
    "SinkContract",
    "SourceContract",
    "batch_of",
    "eventually",
    "read",
    "sink_of",
    "value_of",
]
