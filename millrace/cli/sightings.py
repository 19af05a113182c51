"""Sightings: the places that one record is seen in, and what is to be said of each."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from millrace.ages import age
from millrace_pipeline.queue import SetAside
from millrace_pipeline.queue.walk import Aside, InFlight, Ready, Spot

Verdict = Literal["found", "filtered", "gone", "never seen"]


class Sighting(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="state"):
    """One place."""

    exact: bool = True
    """False where the bytes can't be decoded, and only hold the key somewhere."""
    becomes: str = ""
    """What the flow's transforms and model make of the record, where they don't hand it on to the sink."""

    @property
    def state(self) -> str:
        """Return what it is called, in JSON too."""
        return str(self.__struct_config__.tag)

    def told(self) -> str:
        """The place in words."""
        raise NotImplementedError


class OnList(Sighting, frozen=True, tag="ready"):
    """On the list."""

    position: int
    of: int

    def told(self) -> str:
        """See `Sighting.told`."""
        return f"ready at position {self.position:,} of {self.of:,}" + (", next to be taken" * (self.position == 1))


class Held(Sighting, frozen=True, tag="in_flight"):
    """In a batch that a consumer holds."""

    batch: str
    number: int
    of: int
    consumer: str
    attempt: int
    held_seconds: float
    seconds_left: float
    note: str = ""

    def told(self) -> str:
        """See `Sighting.told`."""
        attempt = f"attempt {self.attempt}" if self.attempt else "claimed ahead, not begun"
        words = (
            f"in flight in batch {self.batch}, record {self.number:,} of {self.of:,}, at consumer {self.consumer} "
            f"for {age(self.held_seconds)}, {attempt}"
        )
        if self.seconds_left < 0:
            words += "; given back, or its lease is over: the next consumer takes it"
        return words + (f"; {self.note}" if self.note else "")


class Delayed(Sighting, frozen=True, tag="delayed"):
    """In a batch that nobody may take over before its time, since a transform asked for that."""

    batch: str
    number: int
    of: int
    attempt: int
    seconds_left: float
    reason: str

    def told(self) -> str:
        """See `Sighting.told`."""
        time = f"for {age(self.seconds_left)} more" if self.seconds_left > 0 else "until the next consumer looks"
        return (
            f"delayed {time} in batch {self.batch}, record {self.number:,} of {self.of:,}, "
            f"after attempt {self.attempt}: {self.reason}"
        )


class Dead(Sighting, frozen=True, tag="dead"):
    """A dead letter."""

    id: str
    reason: str
    attempts: int
    batch: str
    time: datetime

    def told(self) -> str:
        """See `Sighting.told`."""
        tried = f", attempts: {self.attempts}" if self.attempts else ""
        return f"dead: {self.reason} (letter {self.id}, set aside {self.time:%Y-%m-%d %H:%M:%S} UTC{tried})"


class Misfit(Sighting, frozen=True, tag="variant"):
    """Set aside by the flow's contract."""

    number: int
    reason: str

    def told(self) -> str:
        """See `Sighting.told`."""
        return f"variant (set aside): {self.reason}"


class Written(Sighting, frozen=True, tag="written"):
    """In the output of a sink; `row` counts from 1, and is 0 where rows have no order."""

    sink: str
    unit: str
    place: str
    row: int = 0
    name: str = ""
    """What it is called there, where that is another name than was asked for."""

    def told(self) -> str:
        """See `Sighting.told`."""
        row = f", row {self.row:,}" if self.row else ""
        return f"in {self.unit} {self.place}{row}" + (f", as {self.name}" if self.name else "")


class Life(msgspec.Struct):
    """All that is known of the record of one key."""

    key: str
    verdict: Verdict = "never seen"
    sightings: list[Sighting] = []
    more: int = 0
    """Sightings beyond those that are kept."""
    published: datetime | None = None
    """When a record of that key was published last, where Redis remembers."""
    because: str = ""
    """Why it is not seen, or may be unseen all the same."""


def sighting_in_redis(spot: Spot, reason: str, becomes: str, *, exact: bool) -> Sighting:
    """The sighting of what lies there; `reason` is why a variant was set aside."""
    if isinstance(spot, Ready):
        return OnList(spot.position, spot.of, exact=exact, becomes=becomes)
    if isinstance(spot, InFlight):
        lease = spot.lease
        if lease.delayed:
            left = round(lease.seconds_left, 3)
            place = (lease.batch, spot.number, lease.records)
            return Delayed(*place, lease.attempts, left, lease.note, exact=exact, becomes=becomes)
        return Held(
            lease.batch,
            spot.number,
            lease.records,
            lease.consumer,
            lease.attempts,
            round(lease.age_seconds, 3),
            round(lease.seconds_left, 3),
            lease.note,
            exact=exact,
            becomes=becomes,
        )
    if isinstance(spot, Aside):
        return Misfit(spot.number, reason, exact=exact)
    assert isinstance(spot, SetAside)
    return Dead(spot.id, spot.reason, spot.attempts, spot.batch, spot.time, exact=exact, becomes=becomes)
