"""A clock: ticks, or what a function gives at each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, ClassVar, Literal

import msgspec
from pydantic import ConfigDict, Field, PrivateAttr, field_validator, model_validator

from millrace_pipeline.moment import timestamp
from millrace_producer.sources.base import DeadLetter, Position, Record, Source, SourceRefused
from millrace_producer.sources.calling import as_record, check_arguments, each, found, takes
from millrace_producer.sources.lookahead import mark_last
from millrace_producer.sources.timetable import Timed, Timetable, now, wait_until

TICK = "tick"
INSTANT = timedelta(microseconds=1)


class ScheduleSource(Timed, Source):
    """Ticks at an interval or by a cron expression, or calls a Python function at each tick.

    What the function returns is the tick's records: one, a list, what a generator yields, or None. If it has a
    parameter `tick`, it is given the moment. Without a function the tick itself is the record: `{"tick": "…"}`.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    about: ClassVar[str] = "polls: pages, cursors, cron"
    exclusive: ClassVar[bool] = True

    function: str | None = Field(default=None, description="The function to call at each tick, as module:function.")
    arguments: dict[str, Any] = Field(default_factory=dict, repr=False, description="What it gets, by name.")
    missed: Literal["skip", "last", "all"] = Field(
        default="skip",
        description="Ticks that came while nobody was there, or while a tick took longer: skip them, catch up with the "
        "last of them, or with all.",
    )
    at_start: bool = Field(default=False, description="The first start of all is a tick, too.")
    since: datetime | None = Field(default=None, description="No tick before this moment.")
    until: datetime | None = Field(default=None, description="No tick after this moment: then the source has ended.")

    _function: Any = PrivateAttr(default=None)
    _began: datetime | None = PrivateAttr(default=None)

    @field_validator("since", "until")
    @classmethod
    def _in_utc(cls, moment: datetime | None) -> datetime | None:
        if moment is None:
            return None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    @model_validator(mode="after")
    def _it_can_be_called(self) -> ScheduleSource:
        if not (self.every or self.cron):
            raise ValueError("when? expected every: 10s, or a cron expression such as cron: '*/5 * * * *'")
        if self.function:
            self._function = found(self.function)
            if not callable(self._function):
                raise ValueError(f"{self.function} can't be called: expected a function")
            check_arguments(self.function, self._function, self._offered(now()))
        elif self.arguments:
            raise ValueError("arguments are those of a function, and there is none")
        return self

    @property
    def ends(self) -> bool:
        """See `Source.ends`."""
        return self.until is not None

    def describe(self, position: Position) -> str:
        """See `Source.describe`."""
        tick, done = _place(position)
        assert tick is not None
        at = f"the tick of {timestamp(tick)}"
        return f"in {at}, after {done:,} of its records" if done else f"after {at}"

    def read(self, resume_from: Position | None) -> Iterator[Record | DeadLetter]:
        """See `Source.read`. A position is a tick whose records have all come, or a tick and how many of them have."""
        self._began = self._began or now()
        last, done = _place(resume_from)
        if last is not None and done:
            yield from self._records(last, done)
        for tick in self._ticks(last):
            wait_until(tick)
            yield from self._records(tick, 0)

    def _ticks(self, last: datetime | None) -> Iterator[datetime]:
        """The moments to come, each asked for when the one before is over."""
        timetable = self.timetable()
        assert timetable is not None and self._began is not None  # noqa: PT018
        if last is None and self.at_start:
            last = max(self._began, self.since or self._began)
            yield last
        # Before the first tick, those missed are counted from `since`, or since we are here.
        last = last or (self.since - INSTANT if self.since else self._began)
        while (tick := self._next(timetable, last)) is not None and (self.until is None or tick <= self.until):
            yield tick
            last = tick

    def _next(self, timetable: Timetable, last: datetime) -> datetime | None:
        if self.missed == "skip":
            last = max(last, now())
        elif self.missed == "last":
            latest = timetable.until(now())
            if latest is not None and latest > last:
                return latest
        return timetable.after(last)

    def _records(self, tick: datetime, done: int) -> Iterator[Record | DeadLetter]:
        """What belongs to this tick, but for as many records as are done."""
        at = timestamp(tick)
        with closing(each(self._given(tick))) as items:
            for number, (item, is_last) in enumerate(mark_last(islice(items, done, None)), done):
                record = as_record(item)
                position = at if is_last else {TICK: at, "done": number + 1}
                if isinstance(record, DeadLetter):
                    yield msgspec.structs.replace(record, position=position)
                else:
                    key = record.key or (f"{at}/{number}" if number else at)
                    yield msgspec.structs.replace(record, position=position, key=key, time=record.time or tick)

    def _given(self, tick: datetime) -> Iterable[Any]:
        if self._function is None:
            return [Record({TICK: timestamp(tick)}, type=TICK)]
        given = self._function(**self._offered(tick))
        if given is None:
            return []
        return given if isinstance(given, list | tuple | Iterator) else [given]

    def _offered(self, tick: datetime) -> dict[str, Any]:
        return {**self.arguments, **({TICK: tick} if takes(self._function, TICK) else {})}


def _place(position: Position | None) -> tuple[datetime | None, int]:
    """The tick of a position, and how many of its records have come; none where all have. Raises SourceRefused."""
    if position is None:
        return None, 0
    try:
        if isinstance(position, str):
            return datetime.fromisoformat(position), 0
        return datetime.fromisoformat(position[TICK]), int(position["done"])
    except (ValueError, TypeError, KeyError):
        raise SourceRefused("the checkpoint is no tick of a schedule") from None
