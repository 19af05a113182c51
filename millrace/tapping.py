"""Tapping: looks at a flow's records as they pass, and keeps those for which an expression holds.

async for tapped in watching(Watch(session, "out", where="bot")):
    ...
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from millrace.feeds import Place, Tapped, feed_of
from millrace_pipeline import envelope
from millrace_pipeline.errors import ConfigError, EnvelopeError, QueueUnavailable
from millrace_pipeline.queue import Session
from millrace_pipeline.queue.tap import Text

if TYPE_CHECKING:
    from millrace_consumer.transforms.rows import Filter

LOOK_SECONDS = 0.2
AWAY_SECONDS = 1.0
"""Between two looks while Redis doesn't answer."""


class Watch:
    """What is seen at one place of a flow, a look at a time. For one thread at a time.

    Of what is delivered the records that a transform left out, or that became dead letters, are seen only with `every`.
    `where` is JMESPath over a record's data, as the transform `filter` takes it. Of `passed` records, as far as is
    known, `seen` were looked at and `shown` were returned; `unfit` says why the expression could not be asked of some.

    Raises ConfigError for an expression that is none.
    """

    def __init__(self, session: Session, place: Place, *, where: str = "", every: bool = False) -> None:
        self._feed = feed_of(session, place)
        self._every = every or place != "out"
        self._where = _expression(where)
        self.seen = self.shown = 0
        self.unfit: dict[str, int] = {}

    @property
    def passed(self) -> int:
        """Records that passed while they were watched; of those that wait, how many there are."""
        return self._feed.passed

    @property
    def over(self) -> bool:
        """True once there will be no more."""
        return self._feed.over

    def look(self) -> list[Tapped]:
        """Return what came since the last look.

        Raises QueueUnavailable while Redis doesn't answer (look again later), QueueMisuse where it refuses the user.
        """
        came = self._feed.look()
        self.seen += len(came)
        found = [one for one in came if (self._every or one.became == "delivered") and self._holds(one)]
        self.shown += len(found)
        return found

    def close(self) -> None:
        """Watch no more."""
        self._feed.close()

    def _holds(self, one: Tapped) -> bool:
        if self._where is None:
            return True
        texts = [one.record, *(one.after or ())] if self._every else one.delivered
        return any(self._holds_for(self._where, text) for text in texts)

    def _holds_for(self, where: Filter, text: Text) -> bool:
        try:
            return where(data_of(text)) is not None
        except Exception as error:  # JMESPath's own, and those of its functions
            reason = str(error)
        self.unfit[reason] = self.unfit.get(reason, 0) + 1
        return False


async def watching(watch: Watch) -> AsyncIterator[Tapped]:
    """Yield each record that is seen, and wait out outages. Closes the watch at the end. Raises QueueMisuse."""
    try:
        while True:
            try:
                found = await asyncio.to_thread(watch.look)
            except QueueUnavailable:
                await asyncio.sleep(AWAY_SECONDS)
                continue
            for one in found:
                yield one
            if watch.over:
                return
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        await asyncio.to_thread(watch.close)


def data_of(text: Text) -> Any:
    """Return a record's data as Python values. Raises EnvelopeError where it is none, or was cut."""
    if text.is_cut:
        raise EnvelopeError("a record is too long to be looked at whole")
    return envelope.decode(text.content, foreign_id=str).value


def _expression(where: str) -> Filter | None:
    if not where:
        return None
    from millrace_consumer.transforms.rows import Filter

    try:
        return Filter(where=where)
    except ValidationError as error:
        said = str(error.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"--where {where}: {said}") from None
