"""Columns: what `millrace top` can show of a flow and of a consumer, a line each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from millrace.ages import age
from millrace.figures import NOTHING, number, rate, share, size
from millrace.observing import ConsumerSeen, FlowSeen
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.queue.presence import Missing


@dataclass(frozen=True)
class Column:
    """A column: its name on the command line, its head, its width, and how a flow and a consumer fill it.

    `by` is what rows are sorted by; the largest comes first, unless it is text.
    """

    name: str
    head: str
    width: int
    flow: Callable[[FlowSeen], str]
    by: Callable[[FlowSeen], Any]
    consumer: Callable[[ConsumerSeen], str] = lambda _: ""
    right: bool = True


def since(moment: float) -> str:
    """Return when something began, by this machine's clock; with the day where that is another."""
    if not moment:
        return ""
    then = datetime.fromtimestamp(moment, UTC).astimezone()
    same = then.date() == datetime.fromtimestamp(time.time(), UTC).astimezone().date()
    return f"since {then:%H:%M:%S}: " if same else f"since {then:%Y-%m-%d %H:%M}: "


def _count(name: str) -> tuple[Callable[[FlowSeen], str], Callable[[FlowSeen], float]]:
    def value(seen: FlowSeen) -> float:
        return float(getattr(seen.books, name)) if seen.books else -1.0

    return (lambda seen: number(value(seen)) if seen.books else NOTHING), value


def _share(name: str) -> tuple[Callable[[FlowSeen], str], Callable[[FlowSeen], float], Callable[[ConsumerSeen], str]]:
    def mean(seen: FlowSeen) -> float | None:
        known = [getattr(one, name) for one in seen.consumers if getattr(one, name) is not None]
        return sum(known) / len(known) if known else None

    return lambda seen: share(mean(seen)), lambda seen: mean(seen) or 0.0, lambda one: share(getattr(one, name))


def _most(name: str) -> Callable[[FlowSeen], int]:
    return lambda seen: max((getattr(one, name) or 0 for one in seen.consumers), default=0)


def _restarts(seen: FlowSeen) -> int:
    return sum(one.restarts or 0 for one in seen.consumers) + sum(one.restarts for one in seen.producers)


def _short(seconds: float) -> str:
    return age(seconds).replace(" ", "").replace("min", "m")


def _aged(seen: FlowSeen) -> str:
    if not seen.books or not seen.books.lag:
        return NOTHING
    return {"": "", "<=": "≤", ">=": "≥"}[seen.age_known] + _short(seen.age_seconds)


def _few(count: int) -> str:
    return number(count) if count else NOTHING


def _trouble(trouble: str, began: float) -> str:
    return " ".join(f"{since(began)}{trouble}".split()) if trouble else ""


def _silent(one: ConsumerSeen) -> str:
    if one.silent_seconds:
        return f"silent for {age(one.silent_seconds)}"
    return _trouble(one.trouble, one.trouble_since) or _misses(one.missing)


def _misses(missing: Sequence[Missing]) -> str:
    return "; ".join(_trouble(missed(one), one.since) for one in missing)


def missed(one: Missing) -> str:
    """Return what a sink that isn't required misses, and why."""
    return f"sink {one.sink} takes nothing, and misses {one.records:,}: {one.reason}"


def _there(seen: FlowSeen) -> int:
    return sum(one.works for one in seen.consumers)


COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        Column("flow", "flow", 14, lambda s: s.name, lambda s: s.name, lambda c: f"  {c.name}", right=False),
        Column("consumers", "cons", 4, lambda s: str(_there(s)) if s.consumers else NOTHING, _there),
        Column("ready", "ready", 7, *_count("ready")),
        Column("flight", "flight", 7, *_count("in_flight"), lambda c: number(c.in_flight) if c.in_flight else NOTHING),
        Column("delayed", "delay", 6, *_count("delayed")),
        Column("dead", "dead", 6, *_count("dead")),
        Column(
            "age",
            "age",
            7,
            _aged,
            lambda s: s.age_seconds,
            lambda c: _short(c.held_seconds) if c.in_flight else NOTHING,
        ),
        Column("in", "in/s", 6, lambda s: rate(s.in_a_second), lambda s: s.in_a_second),
        Column(
            "out", "out/s", 6, lambda s: rate(s.out_a_second), lambda s: s.out_a_second, lambda c: rate(c.out_a_second)
        ),
        Column("write", "write", 5, *_share("write_share")),
        Column("cpu", "cpu", 5, *_share("cpu_share")),
        Column(
            "tries",
            "try",
            3,
            lambda s: _few(_most("attempts")(s)),
            _most("attempts"),
            lambda c: _few(c.attempts),
        ),
        Column(
            "restarts",
            "rst",
            3,
            lambda s: _few(_restarts(s)),
            _restarts,
            lambda c: NOTHING if c.restarts is None else _few(c.restarts),
        ),
        Column("read", "rd/s", 8, lambda s: size(s.bytes_in_a_second), lambda s: s.bytes_in_a_second),
        Column("written", "wr/s", 8, lambda s: size(s.bytes_out_a_second), lambda s: s.bytes_out_a_second),
        Column("published", "publ", 7, *_count("published")),
        Column("delivered", "deliv", 7, *_count("delivered")),
        Column("filtered", "filt", 7, *_count("filtered")),
        Column("variants", "var", 6, *_count("variants")),
        Column(
            "error",
            "last error",
            30,
            lambda s: _trouble(s.trouble, s.trouble_since) or _misses(s.missing),
            lambda s: s.trouble or _misses(s.missing),
            _silent,
            right=False,
        ),
    )
}

NARROW = ("flow", "ready", "flight", "dead", "age", "in", "out", "write", "tries", "restarts")
WIDE = (*NARROW[:1], "consumers", *NARROW[1:8], "cpu", *NARROW[8:], "error")
GAP = 1


def columns_for(names: Sequence[str] | None, width: int) -> list[Column]:
    """The columns of these names, or those that suit a terminal of this width. Raises ConfigError."""
    if names is None:
        names = WIDE if width >= 120 else NARROW
    for name in names:
        column_of(name, "--columns")
    return [COLUMNS[name] for name in dict.fromkeys(("flow", *names))]


def column_of(name: str, option: str) -> Column:
    """The column of this name. Raises ConfigError that lists them."""
    if name not in COLUMNS:
        raise ConfigError(f"{option}: no column {name!r}; there are: {', '.join(COLUMNS)}")
    return COLUMNS[name]
