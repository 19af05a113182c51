"""What a note says: which batches of a consumer's session are written to Kafka."""

from __future__ import annotations

import re

_BATCH = re.compile(r"(.*)-(\d+)([a-z]*)")


class Written:
    """Which batches of a session are written: whole ones as ranges of their numbers, halves by name.

    Their numbers come nearly in order, so there are few ranges however many there are.
    """

    def __init__(self, text: str = "") -> None:
        self._ranges: list[tuple[int, int]] = []
        self._halves: set[str] = set()
        for part in filter(None, text.split(",")):
            first, _, last = part.partition("-")
            if first.isdigit():
                self._ranges.append((int(first), int(last or first)))
            else:
                self._halves.add(part)

    def __str__(self) -> str:
        ranges = [str(first) if first == last else f"{first}-{last}" for first, last in self._ranges]
        return ",".join([*ranges, *sorted(self._halves)])

    def __contains__(self, batch_id: str) -> bool:
        _, number, half = parted(batch_id)
        if half:
            return f"{number}{half}" in self._halves
        return any(first <= number <= last for first, last in self._ranges)

    def with_(self, batch_id: str) -> Written:
        """These and one more."""
        _, number, half = parted(batch_id)
        more = Written()
        more._ranges, more._halves = list(self._ranges), set(self._halves)
        if half:
            more._halves.add(f"{number}{half}")
        elif batch_id not in self:
            more._ranges = _joined([*self._ranges, (number, number)])
        return more


def parted(batch_id: str) -> tuple[str, int, str]:
    """Session, number and half of a batch's id."""
    found = _BATCH.fullmatch(batch_id)
    return (found[1], int(found[2]), found[3]) if found else (batch_id, 0, "")


def session_of(batch_id: str) -> str:
    """The session of the consumer that claimed the batch."""
    return parted(batch_id)[0]


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined
