"""Bottleneck: what holds a flow up, in a sentence, from what was seen of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from millrace.ages import span

BUSY_SHARE = 0.6
"""Who spends that much of the time on one thing is held up by it."""

AT_ONCE_SECONDS = 3.0
"""What waits is nothing to speak of where it is delivered in that time."""

QUIET = 0.05
"""So few records a second count as none."""

LEVEL = 0.01
"""A list that grows or falls by less than this part of what comes stays as it is."""

WORST_FIRST = (
    *("Redis", "stopped", "no consumer", "stuck"),
    *("sink", "transform", "consumer", "held", "source", "paused", "idle"),
)
"""How sentences begin: first those that want a person, then those that name who is slow."""


def badness(sentence: str) -> int:
    """Return where a sentence stands among the others: 0 is the worst."""
    return next((at for at, word in enumerate(WORST_FIRST) if sentence.startswith(word)), len(WORST_FIRST))


def wants_somebody(sentence: str) -> bool:
    """Return True where nothing goes on until a person does something."""
    return badness(sentence) < WORST_FIRST.index("sink")


@dataclass(frozen=True)
class Load:
    """What is known of a flow: records ready and in flight, records a second that come and go, and who works on it.

    Shares are those of the consumers' time, on average; None where they say nothing of themselves.
    """

    ready: int
    in_flight: int
    in_a_second: float
    out_a_second: float
    consumers: int
    write_share: float | None = None
    cpu_share: float | None = None
    trouble: str = ""
    """What a consumer says is in its way."""
    paused: str = ""
    """What a person has paused, and who."""

    @property
    def lag(self) -> int:
        """Records that are not delivered yet."""
        return self.ready + self.in_flight


def bottleneck(load: Load) -> str:
    """Return the sentence: what the flow is bound by, and what is to be expected."""
    if load.paused:
        return f"paused: {load.paused}" + (f"; {load.lag:,} wait" if load.lag else "")
    if load.trouble:
        return f"stopped: {load.trouble}" + (f"; {load.lag:,} wait" if load.lag else "")
    if not load.consumers:
        return _unconsumed(load)
    keeps_up = load.lag <= AT_ONCE_SECONDS * load.out_a_second or not load.lag
    if keeps_up and max(load.in_a_second, load.out_a_second) < QUIET:
        return f"idle: nothing comes and nothing waits; {_consumers(load)} ready"
    write, compute = load.write_share, load.cpu_share
    if write is None or compute is None:
        return _unsaid(load, keeps_up=keeps_up)
    if write >= BUSY_SHARE and write >= compute - LEVEL:
        return f"sink-bound: {_percent(write)} of {_theirs(load)} time is writing; {_outlook(load, keeps_up=keeps_up)}"
    if compute >= BUSY_SHARE and not keeps_up:
        cores = f"{_percent(compute)} of a core" + (" each" if load.consumers > 1 else "")
        return f"transform-bound: {_consumers(load)} compute with {cores}; {_outlook(load, keeps_up=keeps_up)}"
    if keeps_up:
        return (
            f"source-bound: {_rate(load.in_a_second)} come, and are written at once; writing takes {_percent(write)} "
            f"of {_theirs(load)} time"
        )
    if load.out_a_second < QUIET:
        run = f"{_consumers(load)} run{'' if load.consumers > 1 else 's'}"
        return f"stuck: {load.lag:,} wait and none is delivered, though {run}; the log says why"
    return (
        f"held up elsewhere: {_consumers(load)} write {_percent(write)} and compute {_percent(compute)} of the time, "
        f"and else wait for Redis or for batches to fill; {_outlook(load, keeps_up=keeps_up)}"
    )


def _unconsumed(load: Load) -> str:
    if not load.lag:
        return "idle: nothing waits; no consumer" + (
            f", though {_rate(load.in_a_second)} come" if load.in_a_second >= QUIET else ""
        )
    more = f", {_rate(load.in_a_second)} more come" if load.in_a_second >= QUIET else ""
    return f"no consumer: {load.lag:,} wait{more}"


def _unsaid(load: Load, *, keeps_up: bool) -> str:
    """The sentence where consumers say nothing of themselves: those of a library, or of an earlier version."""
    if keeps_up:
        return f"source-bound: {_rate(load.in_a_second)} come, and are delivered at once"
    if load.out_a_second < QUIET:
        return f"stuck: {load.lag:,} wait and none is delivered by {_consumers(load)}"
    return f"consumer-bound: {_rate(load.out_a_second)} go by {_consumers(load)}; {_outlook(load, keeps_up=keeps_up)}"


def _outlook(load: Load, *, keeps_up: bool) -> str:
    """Return what becomes of what waits: as it is, and with more consumers of the same speed."""
    coming, going, there = load.in_a_second, load.out_a_second, load.consumers
    if keeps_up:
        return f"it keeps up with {_rate(coming)}"
    if going < QUIET:
        return f"{load.lag:,} wait, and none was delivered just now"
    more = max(1, there // 2)
    with_more = going * (there + more) / there - coming
    named = f"{more} more consumer{'s' if more > 1 else ''}"
    if going - coming > LEVEL * going:
        return f"empty in {span(load.lag / (going - coming))}; {named}: {span(load.lag / with_more)}"
    if coming - going > LEVEL * going:
        enough = math.floor(there * coming / going) + 1
        return f"grows by {_rate(coming - going)}; {enough:,} consumers would keep up"
    return f"stays at {load.lag:,}; {named}: empty in {span(load.lag / with_more)}"


def _rate(a_second: float) -> str:
    return f"{a_second:,.0f}/s" if a_second >= 10 else f"{a_second:.1f}/s"


def _percent(share: float) -> str:
    return f"{min(share, 99.99) * 100:.0f} %"


def _consumers(load: Load) -> str:
    return f"{load.consumers:,} consumer" + ("s" if load.consumers > 1 else "")


def _theirs(load: Load) -> str:
    return f"{load.consumers:,} consumers'" if load.consumers > 1 else "the consumer's"
