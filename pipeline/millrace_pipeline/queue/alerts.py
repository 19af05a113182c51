"""Alerts in Redis: who watches a flow, the state of each alert, and the notices that are still to be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from millrace_pipeline.queue.history import KEPT, MOVED, STOOD
from millrace_pipeline.queue.replies import milliseconds, pairs
from millrace_pipeline.queue.session import SESSION_SECONDS, Session
from millrace_pipeline.redis.connection import raise_nested

RULE, NOTICE = "rule:", "notice:"

_DONE = ("delivered", "filtered", "discarded")
_NUMBERS = (*MOVED, *STOOD)


class State(msgspec.Struct, frozen=True):
    """Of an alert that is not well: it holds since then (ms of Redis time), and is told of once `raised`."""

    raised: bool
    since: int
    id: str
    value: float


class Stand(msgspec.Struct, frozen=True):
    """How a flow stands at one instant, in numbers alone: no record is read."""

    now: float
    """In seconds since 1970, by Redis' clock."""
    came: int
    """Records that ever came, whoever pushed them."""
    published: int
    """Of these the ones that producers published."""
    waiting: int
    dead: int
    full: bool
    """True where Redis is at its maxmemory."""


class Board:
    """What is written of a flow's alerts. Nothing here waits out an outage: each call raises QueueUnavailable."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._keys = session.keys

    def watch(self, lease_seconds: float, changes: Mapping[str, bytes]) -> tuple[float, dict[str, bytes]]:
        """Watch, or go on watching; write down what has changed: by field its value, an empty one removes it.

        Returns 0 and all fields where we watch; else the seconds until another's lease runs out, nothing being changed.
        """
        arguments: list[Any] = [self._session.id, int(lease_seconds * 1000), self._session.name, SESSION_SECONDS]
        arguments += (word for field, value in changes.items() for word in (field, value))
        ((left, found),) = self._session.ask_script_once("alerts", [self._keys.alerts], arguments)
        return left / 1000, {name.decode(): value for name, value in pairs(found).items()}

    def read(self) -> tuple[dict[str, bytes], bool]:
        """Return all fields, for people who look on, and whether somebody watches."""
        found, clock = self._session.ask_once(("HGETALL", self._keys.alerts), ("TIME",))
        fields = {name.decode(): value for name, value in pairs(found).items()}
        return fields, int(fields.get("until", b"0")) > milliseconds(clock)

    def stand(self) -> Stand:
        """Return how the flow stands."""
        keys = self._keys
        *_, replies = self._session.ask_once(
            ("MULTI",),
            ("HMGET", keys.counters, *_DONE, "in_flight", "published"),
            ("LLEN", keys.ready),
            ("LLEN", keys.woken),
            ("XLEN", keys.dead),
            ("LLEN", keys.variants),
            ("TIME",),
            ("INFO", "memory"),
            ("EXEC",),
        )
        raise_nested(replies)
        counted, ready, woken, dead, variants, clock, memory = replies
        *done, in_flight, published = (int(count or 0) for count in counted)
        waiting = ready + woken + in_flight
        came = sum(done) + dead + variants + waiting
        return Stand(milliseconds(clock) / 1000, came, published, waiting, dead, _is_full(memory))

    def notes(self) -> list[tuple[float, float, int, int]]:
        """Return what the flow's history tells, oldest first.

        Each is from when to when a step was, how many records had come before it, and were published.
        """
        key = self._keys.history
        names, clock = self._session.ask_once(("HKEYS", key), ("TIME",))
        moments = [name for name in names if name.isdigit()]
        if not moments:
            return []
        (texts,) = self._session.ask_once(("HMGET", key, *moments))
        now, found = milliseconds(clock) / 1000, []
        for moment, text in zip(moments, texts, strict=True):
            numbers = dict(zip(_NUMBERS, map(int, (text or b"").split()), strict=False))
            if len(numbers) == len(_NUMBERS):
                step = next((step for age, step in KEPT if now - int(moment) < age), KEPT[-1][1])
                came = sum(numbers[name] for name in (*_DONE, *STOOD))
                found.append((float(moment), float(moment) + step, came, numbers["published"]))
        return sorted(found)

    def add_shares(self, counts: Mapping[str, tuple[int, int]]) -> None:
        """Add to this minute how many records were looked at, and had no value, by field; forget those an hour old."""
        key = self._keys.shares
        (clock,) = self._session.ask_once(("TIME",))
        minute = milliseconds(clock) // 60_000
        commands: list[tuple[Any, ...]] = []
        for field, (looked, null) in counts.items():
            commands += [
                ("HINCRBY", key, _share(minute, "looked", field), looked),
                ("HINCRBY", key, _share(minute, "null", field), null),
            ]
        (names, *_) = self._session.ask_once(("HKEYS", key), *commands, ("EXPIRE", key, 2 * 3600))
        if old := [name for name in names if int(name.split(b" ")[0]) < minute - 61]:
            self._session.ask_once(("HDEL", key, *old))

    def shares(self, field: str, since: float) -> tuple[int, int]:
        """Return how many records were looked at since then, and how many of these had no value in the field."""
        (names,) = self._session.ask_once(("HKEYS", self._keys.shares))
        minutes = [int(name.split(b" ")[0]) for name in names if name.decode().endswith(f" looked {field}")]
        recent = [minute for minute in minutes if (minute + 1) * 60 > since]
        if not recent:
            return 0, 0
        wanted = [_share(minute, what, field) for what in ("looked", "null") for minute in recent]
        (counts,) = self._session.ask_once(("HMGET", self._keys.shares, *wanted))
        numbers = [int(count or 0) for count in counts]
        return sum(numbers[: len(recent)]), sum(numbers[len(recent) :])


def states_in(fields: Mapping[str, bytes]) -> dict[str, State]:
    """Return the state of each alert that is not well, by its rule."""
    return {
        name.removeprefix(RULE): msgspec.json.decode(value, type=State)
        for name, value in fields.items()
        if name.startswith(RULE)
    }


def _share(minute: int, what: Literal["looked", "null"], field: str) -> str:
    return f"{minute} {what} {field}"


def _is_full(memory: Any) -> bool:
    said: Sequence[bytes] = (memory if isinstance(memory, bytes) else str(memory).encode()).split(b"\r\n")
    told = {name: value for name, _, value in (line.partition(b":") for line in said)}
    most = int(told.get(b"maxmemory", b"0"))
    return 0 < most <= int(told.get(b"used_memory", b"0"))
