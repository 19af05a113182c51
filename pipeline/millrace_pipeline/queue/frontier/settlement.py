"""Settlements: what a page gave, and what becomes of its request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.queue.frontier.claimed import Claimed
from millrace_pipeline.queue.frontier.request import Waiting

Outcome: TypeAlias = Literal["done", "part", "later", "dead", "back"]


class Settlement(msgspec.Struct):
    """What a page gave, and its outcome.

    `done`; `part`: the page goes on, under the same lease; `later`: tried again after `later_ms`; `dead`: set aside for
    a person, `why` says the reason, its kind and perhaps a traceback; `back`: given back, the attempt not counted.
    """

    claimed: Claimed
    outcome: Outcome
    items: Sequence[bytes] = ()
    dead: Sequence[DeadLetter] = ()
    requests: Sequence[Waiting] = ()
    outputs: int = 0
    """How many outputs of the page are put, with these and over all its parts."""
    dropped: int = 0
    """Items that an item pipeline dropped."""
    later_ms: int = 0
    why: dict[str, str] = {}
    kind: str = ""
    """The kind of error that is to be counted."""
    hold_ms: int = 0
    """For so long nobody is to ask the host: its Retry-After."""
    delay_ms: int | None = None
    """The host's delay from now on, where AutoThrottle finds one."""

    def words(self) -> list[Any]:
        """Return it as the script takes it, behind the number and the session's time to live."""
        what: Any = ""
        if self.outcome == "later":
            what = self.later_ms
        elif self.outcome == "dead":
            what = msgspec.json.encode(self.why)
        return [
            *(self.claimed.token, self.claimed.place, self.outcome, what, self.outputs, self.kind, self.dropped),
            *(self.hold_ms, "" if self.delay_ms is None else self.delay_ms),
            *(len(self.items), len(self.dead), len(self.requests)),
            *self.items,
            *(word for letter in self.dead for word in (letter.reason, letter.original)),
            *(word for request in self.requests for word in request.words()),
        ]
