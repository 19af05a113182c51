"""Decision: how many consumers a flow should have, from how it stands and how it stood before; no clock, no Redis.

ceil(lag / (rate a consumer × age)), where the records that wait shall be done within `age`
more, where what waits is older than `age`; none more while nothing would come of it: a sink that is down, a pause
never fewer than there are batches that somebody works on
fewer only once all looks for a while asked for fewer, and none at all after `idle` seconds without work
"""

from __future__ import annotations

import math

import msgspec

from millrace_pipeline.errors import ConfigError

SETTLE_SECONDS = 10.0
"""So long others have to make themselves felt, before even more are added because what waits is too old."""

MOST = 10_000
"""No flow has more consumers than that."""


class Rules(msgspec.Struct, frozen=True):
    """What a person wants of a flow. Raises ConfigError from `checked` where it can't be had."""

    min: int = 0
    max: int = 8
    age: float = 30.0
    """Seconds after which a record that waits is too old, and within which all that wait are to be done."""
    idle: float = 300.0
    """Seconds without any work until there is no consumer, where `min` is 0."""
    calm: float = 60.0
    """Seconds for which fewer have to be enough before there are fewer."""

    def checked(self) -> Rules:
        """Return the same. Raises ConfigError."""
        if not 0 <= self.min <= self.max <= MOST or self.max < 1:
            raise ConfigError(f"min {self.min} and max {self.max}: expected 0 ≤ min ≤ max, and 1 ≤ max ≤ {MOST:,}")
        if not self.age > 0:
            raise ConfigError("age: expected a duration such as 30s")
        return self


class Seen(msgspec.Struct, frozen=True):
    """How a flow stands at one moment, and what is known of its consumers."""

    moment: float
    """Seconds, by a clock that only goes on."""
    ready: int = 0
    in_flight: int = 0
    due: int = 0
    """Records that are put off, and whose time is there, or nearly."""
    running: int = 0
    """Batches that somebody works on: such as only wait to be filled are not among them."""
    consumers: int = 0
    waits_seconds: float = 0.0
    """Age of the oldest record that nobody has taken yet, since it was published."""
    in_a_second: float = 0.0
    rate: float | None = None
    """Records a second that a consumer is done with while it works; None where none was seen to work yet."""
    linger: float = 0.0
    held_up: str = ""
    """Why more consumers would do nothing: a sink takes nothing, a person has paused them."""

    @property
    def lag(self) -> int:
        """Records that somebody has to do something about."""
        return self.ready + self.in_flight + self.due

    @property
    def drain_seconds(self) -> float | None:
        """How long those consumers take for all that; None where that can't be told."""
        if not self.lag:
            return 0.0
        return self.lag / (self.rate * self.consumers) if self.rate and self.consumers else None


class Look(msgspec.Struct, frozen=True):
    """What one look asked for, as it is remembered."""

    moment: float
    wanted: int
    running: int


class Memory(msgspec.Struct, frozen=True):
    """What of the looks before bears on the next decision."""

    looks: tuple[Look, ...] = ()
    desired: int | None = None
    changed: float = -math.inf
    worked: float | None = None
    """When there was work last, or the first look was."""


def decide(seen: Seen, rules: Rules, memory: Memory) -> tuple[int, Memory]:
    """Return how many consumers there should be, and what to remember until the next look."""
    now = seen.moment
    there = seen.consumers if memory.desired is None else memory.desired
    worked = now if seen.lag or memory.worked is None else memory.worked
    wanted = _wanted(seen, rules, there, 0.0 if memory.desired is None else now - memory.changed)
    window = max(rules.calm, 2 * seen.linger + 2)
    looks = _remembered((*memory.looks, Look(now, wanted, seen.running)), now - window)
    desired = there
    if wanted > there:
        desired = wanted
    elif now - looks[0].moment >= window:
        busy = min(max(there, seen.consumers), max(look.running for look in looks))
        desired = min(there, max(busy, *(look.wanted for look in looks)))
    if desired == 0 and there > 0 and now - worked < rules.idle:
        desired = 1
    desired = max(rules.min, min(rules.max, desired))
    if desired < there:
        looks = ()  # the next of them waits as long
    changed = now if desired != there or memory.desired is None else memory.changed
    return desired, Memory(looks, desired, changed, worked)


def _wanted(seen: Seen, rules: Rules, there: int, settled: float) -> int:
    """Return how many this look alone asks for."""
    needed = min(seen.lag, 1)
    if seen.rate:
        needed = math.ceil(min(seen.lag / (seen.rate * rules.age), rules.max))
        # Fewer than what comes in takes would be asked for again at once.
        needed = max(needed, min(there, math.ceil(seen.in_a_second / seen.rate)))
    too_old = seen.waits_seconds > rules.age and seen.ready + seen.due > 0
    if too_old and needed <= there and settled >= SETTLE_SECONDS:
        needed = there + max(1, there // 2)
    return min(needed, there) if seen.held_up else needed


def _remembered(looks: tuple[Look, ...], since: float) -> tuple[Look, ...]:
    """Return the looks from then on, and the last one before, by which the whole time is known."""
    first = next((index for index, look in enumerate(looks) if look.moment > since), len(looks))
    return looks[max(0, first - 1) :]
