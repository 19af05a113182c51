"""Timetable: when a source that doesn't talk by itself is to be asked."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field, model_validator

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.extras import need
from millrace_pipeline.flows.units import Duration

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOOK_AGAIN_SECONDS = 10.0
"""The clock may be set, the machine may sleep: no wait is longer than this without a look at the clock."""


class Timed(BaseModel):
    """The options of a source that has a timetable."""

    every: Annotated[Duration, Field(ge=0.001, le=366 * 86_400)] | None = Field(
        default=None, description="How often, counted from midnight UTC, 1 January 1970: 1h is on the hour."
    )
    cron: str | None = Field(
        default=None, description="When: minute, hour, day, month, weekday; six fields begin with seconds."
    )
    timezone: str = Field(default="UTC", description="The time zone of cron, such as Europe/Prague.")

    @model_validator(mode="after")
    def _one_timetable(self) -> Timed:
        if self.every and self.cron:
            raise ValueError("every and cron say the same thing: expected one of them")
        try:
            zone = ZoneInfo(self.timezone)
        except (KeyError, OSError, ValueError) as error:
            raise ValueError(f"no time zone {self.timezone!r} here: expected one such as Europe/Prague") from error
        try:
            _ = Cron(self.cron, zone) if self.cron else None
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    def timetable(self) -> Timetable | None:
        """When to ask, if the options say."""
        if self.cron:
            return Cron(self.cron, ZoneInfo(self.timezone))
        return Every(self.every) if self.every else None


class Timetable:
    """Moments that come again and again. All are aware, and in UTC."""

    def after(self, moment: datetime) -> datetime | None:
        """The first one later than this; None where there is no such day, as 30 February."""
        raise NotImplementedError

    def until(self, moment: datetime) -> datetime | None:
        """The last one that isn't later than this."""
        raise NotImplementedError


class Every(Timetable):
    """So many seconds apart."""

    def __init__(self, seconds: float) -> None:
        self._step = timedelta(seconds=seconds)

    def after(self, moment: datetime) -> datetime:
        return self.until(moment) + self._step

    def until(self, moment: datetime) -> datetime:
        return EPOCH + (moment - EPOCH) // self._step * self._step


class Cron(Timetable):
    """As a cron expression says. Raises ValueError for one that is none."""

    def __init__(self, expression: str, zone: tzinfo) -> None:
        self._cronsim: Any = need("cronsim", "schedule", "the option cron")
        self._expression = expression
        self._zone = zone
        try:
            self._cronsim.CronSim(expression, datetime.now(zone))
        except self._cronsim.CronSimError as error:
            reason = str(error).lower()
            raise ValueError(f"{reason}: expected a cron expression such as */5 * * * * (every 5 minutes)") from error

    def after(self, moment: datetime) -> datetime | None:
        return self._next(moment)

    def until(self, moment: datetime) -> datetime | None:
        # Going back, a moment with a fraction of a second is cut to the second, which then counts.
        return self._next(moment + timedelta(microseconds=1), reverse=True)

    def _next(self, moment: datetime, *, reverse: bool = False) -> datetime | None:
        found = next(self._cronsim.CronSim(self._expression, moment.astimezone(self._zone), reverse=reverse), None)
        return found.astimezone(UTC) if found else None


def now() -> datetime:
    """This moment."""
    return datetime.now(UTC)


def wait_until(moment: datetime) -> None:
    """Returns when the clock shows this moment."""
    while (left := (moment - now()).total_seconds()) > 0:
        time.sleep(min(left, LOOK_AGAIN_SECONDS))
