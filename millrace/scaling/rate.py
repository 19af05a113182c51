"""Rate: how many records a second a consumer is done with while it works, learnt by looking on."""

from __future__ import annotations

HALF_LIFE_SECONDS = 60.0
"""Time at work that long ago counts half."""


class Rate:
    """Learns only while somebody works, so that it is still known after a night without any work."""

    def __init__(self) -> None:
        self._done = 0.0
        self._worked = 0.0
        self._last: tuple[float, int, int] | None = None
        self._bound: float | None = None

    def saw(self, now: float, done: int, *, busy: int, bound: float | None) -> None:
        """Take note of how many records were ever done, and how many consumers are at work.

        `bound` is what a consumer does at most, by a batch that it isn't done with yet; None where there is none.
        """
        self._bound = bound
        last, self._last = self._last, (now, done, busy)
        if last is None or done < last[1]:  # the list was emptied by hand, or is another Redis'
            return
        passed, worked = now - last[0], (now - last[0]) * (last[2] + busy) / 2
        if worked <= 0 and done == last[1]:
            return
        kept = 0.5 ** (passed / HALF_LIFE_SECONDS)
        self._done = self._done * kept + (done - last[1] if worked > 0 else 0)
        self._worked = self._worked * kept + worked

    @property
    def a_second(self) -> float | None:
        """The rate; None where nobody was seen to work."""
        if self._done >= 1 and self._worked > 0:
            return self._done / self._worked
        return self._bound
