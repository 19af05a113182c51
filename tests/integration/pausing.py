"""What happens while a source waits for more: the test's own steps, one at each wait, and then the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from millrace_producer.sources.base import DeadLetter, Record, Source
from millrace_producer.sources.reading import tail, walk


class _Enough(BaseException):
    """The steps are over."""


class Pauses:
    """Stands in for `time.sleep` of a source that watches a place: nothing has to be waited for in real time."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        """How many records had come at each wait of the last `read`."""
        self._came: list[Any] = []
        self._steps: list[Callable[[], object]] = []

    def read(self, source: Source, *steps: Callable[[], object], position: Any = None) -> list[Any]:
        """All that comes, with the steps taken one at each wait, until it waits once more than that."""
        self._came, self._steps, self.counts = [], list(steps), []
        reading: Any = source.read(position)
        with closing(reading):
            try:
                for record in reading:
                    assert isinstance(record, Record | DeadLetter)
                    self._came.append(record)
            except _Enough:
                pass
        return self._came

    def sleep(self, seconds: float) -> None:
        """In place of `time.sleep`."""
        assert 0 < seconds < 60
        self.counts.append(len(self._came))
        if not self._steps:
            raise _Enough
        self._steps.pop(0)()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    """For the files source."""
    pauses = Pauses()
    for module in (tail, walk):
        monkeypatch.setattr(module, "sleep", pauses.sleep)
    return pauses
