"""Which event happened when, and the ids that say so."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any

from millrace.practice.recentchange import FIRST_OFFSET, TOPIC

_OTHER_TOPIC = "codfw.mediawiki.recentchange"
_PACE_WITHOUT_RATE = 1000.0


@dataclass(frozen=True)
class Timeline:
    """Event n happened n / `rate` seconds after `start_ms` (milliseconds since 1970), to the millisecond.

    With `rate` 0 all events are there at once, with times a millisecond apart.
    """

    start_ms: int
    rate: float

    def moment_of(self, number: int) -> int:
        """When event `number` happened, in milliseconds since 1970."""
        return self.start_ms + self._after_start(number)

    def happened(self, now_ms: float) -> float:
        """How many events have happened by now."""
        return max(0.0, math.floor((now_ms - self.start_ms) * self.rate / 1000) + 1) if self.rate else math.inf

    def first_since(self, moment_ms: float) -> int:
        """The number of the first event that did not happen before that moment."""
        return max(0, math.ceil((moment_ms - self.start_ms) * self._pace / 1000))

    def id_of(self, number: int) -> str:
        """The id of an event: where Wikimedia's Kafka topics stand after it.

        Wikimedia's name a time only, so that events of one moment are told apart by nothing; these name the offset too.
        """
        offset, moment = FIRST_OFFSET + number, self.moment_of(number)
        return (
            f'[{{"topic":"{TOPIC}","partition":0,"offset":{offset},"timestamp":{moment}}},'
            f'{{"topic":"{_OTHER_TOPIC}","partition":0,"offset":-1}}]'
        )

    def resumed(self, last_id: str) -> tuple[int, Timeline]:
        """The number of the event that follows an id, and the timeline that the id was made on.

        That timeline is another server's where it had another start: the client goes on as if nothing had happened.
        Raises ValueError for what is no id of ours.
        """
        try:
            positions: list[dict[str, Any]] = json.loads(last_id)
            position = next(position for position in positions if position["topic"] == TOPIC)
            moment = int(position["timestamp"]) if "timestamp" in position else None
            offset = int(position["offset"]) if "offset" in position else None
        except (ValueError, TypeError, KeyError, AttributeError, StopIteration) as error:
            raise ValueError("not an id of this stream") from error
        if offset is None:
            return self.first_since(moment if moment is not None else self.start_ms), self
        number = offset - FIRST_OFFSET
        if not -1 <= number < 2**52:
            raise ValueError("not an offset of this stream")
        if moment is None or not 0 <= moment < 2**44:
            return number + 1, self
        return number + 1, replace(self, start_ms=moment - self._after_start(number))

    @property
    def _pace(self) -> float:
        return self.rate or _PACE_WITHOUT_RATE

    def _after_start(self, number: int) -> int:
        return int(number * 1000 / self._pace)
