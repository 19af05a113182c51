"""Dead requests of one crawl: what a person does with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Literal

import msgspec

from millrace_pipeline.queue.changes import By, Changing
from millrace_pipeline.queue.frontier.keys import CrawlKeys
from millrace_pipeline.queue.frontier.request import slot_of
from millrace_pipeline.queue.replies import pairs
from millrace_pipeline.queue.session import Session
from millrace_pipeline.redis.lots import in_lots

PAGE = 500


class DeadRequest(msgspec.Struct, frozen=True):
    """A request that was set aside: why, after how many attempts, when, and the request as it stands in Redis."""

    number: str
    reason: str
    kind: str
    attempts: int
    at: int
    slot: str
    text: bytes
    traceback: str = ""

    @property
    def time(self) -> datetime:
        """When it was set aside."""
        return datetime.fromtimestamp(self.at / 1000, UTC)

    @property
    def url(self) -> str:
        """What it asks for; `start()` for what a crawl begins with."""
        try:
            return str(msgspec.json.decode(self.text).get("url") or "start()")
        except msgspec.DecodeError:
            return "?"


class DeadRequests:
    """The dead requests of a crawl. What is done with them is noted as done `by` somebody, or by us."""

    def __init__(self, session: Session, crawl: str, by: By | None = None) -> None:
        self._session = session
        self._keys = CrawlKeys(session.keys, crawl)
        self._changings = {what: Changing(session, f"crawl dead {what}", by) for what in ("replay", "drop")}
        self._crawl = crawl

    def __len__(self) -> int:
        return int(self._session.ask(("HLEN", self._keys.dead))[0])

    def __iter__(self) -> Iterator[DeadRequest]:
        cursor: bytes | int = 0
        while True:
            ((cursor, flat),) = self._session.ask(("HSCAN", self._keys.dead, cursor, "COUNT", PAGE))
            found = pairs(flat)
            if found:
                texts = chain(*self._session.ask(*in_lots(("HMGET", self._keys.requests), list(found))))
                for (number, why), text in zip(found.items(), texts, strict=True):
                    yield _dead(number, why, text)
            if int(cursor) == 0:
                return

    def get(self, number: str) -> DeadRequest | None:
        """One of them, or None where there is none of that number."""
        name = number.rjust(15, "0")
        why, text = self._session.ask(("HGET", self._keys.dead, name), ("HGET", self._keys.requests, name))
        return None if why is None else _dead(name.encode(), why, text)

    def replay(self, numbers: Sequence[str]) -> int:
        """Put these back on the frontier, their attempts begun anew. Returns how many there were."""
        return self._do("replay", numbers)

    def drop(self, numbers: Sequence[str]) -> int:
        """Throw these away for good. Returns how many there were."""
        return self._do("drop", numbers)

    def _do(self, what: Literal["replay", "drop"], numbers: Sequence[str]) -> int:
        done = 0
        for at in range(0, len(numbers), PAGE):
            some = [number.rjust(15, "0") for number in numbers[at : at + PAGE]]
            (found,) = self._session.ask_script(
                "request_replay",
                [*self._keys.all, self._session.keys.changes],
                [*self._changings[what].arguments(crawl=self._crawl), what, *some],
            )
            done += found
        return done


def _dead(number: bytes, why: bytes, text: bytes | None) -> DeadRequest:
    told = msgspec.json.decode(why)
    return DeadRequest(
        number.decode().lstrip("0") or "0",
        told.get("reason", ""),
        told.get("kind", ""),
        int(told["attempts"]),
        int(told["at"]),
        slot_of(told["place"].encode()),
        text or b"{}",
        told.get("traceback", ""),
    )
