"""Lives: where the records of some keys are, looked for in Redis and in what the sinks wrote, page by page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property

from millrace.cli.sightings import Life, Sighting, Written, sighting_in_redis
from millrace.cli.sinkcheck import SinkCheck, key_of
from millrace_consumer.delivery import prepare
from millrace_consumer.plan import Plan
from millrace_consumer.readback import WHOLE, Found, named
from millrace_pipeline.envelope import decode
from millrace_pipeline.errors import ConfigError, EnvelopeError, MillraceError, SinkUnavailable
from millrace_pipeline.flows.component import Component
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.pointer import resolve_alike
from millrace_pipeline.queue import Books, Claim, Session, SetAside, Variant, books_of
from millrace_pipeline.queue.walk import Aside, InFlight, Spot, published_at, standing, walk
from millrace_pipeline.surrogates import in_utf8
from millrace_producer.keys import CONTENT as BY_CONTENT
from millrace_producer.keys import key_of as content_key

KEPT = 20
"""So many sightings of one key are kept."""

PASSES = 3
"""So often Redis is looked through for what was not seen while records moved."""


class Lives:
    """The records of these keys in one flow. `look` finds them; `not_looked_at` says what it could not look at."""

    def __init__(self, flow: Flow, queue: Session, keys: Sequence[str], *, sinks: bool = True) -> None:
        self.lives = {key: Life(key, sightings=[]) for key in keys}
        self.not_looked_at: list[str] = []
        self.unreached = False
        """Whether a sink that can be read again did not answer."""
        self._flow = flow
        self._queue = queue
        self._sinks = sinks
        self._wanted = {in_utf8(key).encode(): life for key, life in self.lives.items()}
        key = key_of(flow)
        self._pointer = key if isinstance(key, str) else None
        words = b"|".join(re.escape(name) for name in sorted(self._wanted, key=len, reverse=True) if name)
        self._mentioned = re.compile(rb"(?<![\w.-])(?:%b)(?![\w.-])" % (words or b"(?!)"))
        self._complete = sinks
        """Whether all that was delivered was looked at, record by record."""
        self._in_sinks: list[int] = []
        """Records of each sink that was read."""

    def look(self) -> list[Life]:
        """Look everywhere. Raises QueueError where Redis doesn't answer."""
        self._look_in_redis()
        before = standing(self._queue)
        if self._sinks:
            for part in self._flow.sink.each:
                self._look_in_sink(part)
        else:
            self.not_looked_at.append("the sinks: told not to")
        books = books_of(self._queue)
        self._judge(books, still=before == standing(self._queue))
        return list(self.lives.values())

    def _look_in_redis(self) -> None:
        for number in range(PASSES):
            before = standing(self._queue)
            seen = {key for key, life in self.lives.items() if life.sightings}
            for line, spot in walk(self._queue):
                for life, exact in self._of(line, spot):
                    if life.key not in seen:
                        self._keep(life, self._seen(line, spot, exact=exact))
            still = before == standing(self._queue)
            if still or all(life.sightings for life in self.lives.values()) or number == PASSES - 1:
                break
        ids = [in_utf8(key) for key in self.lives]
        for id, moment in published_at(self._queue, ids).items():
            self._wanted[id.encode()].published = datetime.fromtimestamp(moment, UTC)

    def _of(self, line: bytes, spot: Spot) -> Iterator[tuple[Life, bool]]:
        """Yield the lives that this record belongs to, and whether that is sure."""
        try:
            found = decode(line, foreign_id=lambda: _id_in_batch(spot))
            names = [found.id.encode()]
            if self._pointer is not None and found.mark != self._queue.keys.ready:
                # One of ours has the key for its id; what others pushed may hold it.
                names.append(named(resolve_alike(self._pointer, found.value)) or b"")
        except EnvelopeError:
            for name in dict.fromkeys(self._mentioned.findall(line)):
                yield self._wanted[name], False
            return
        for name in dict.fromkeys(names):
            if (life := self._wanted.get(name)) is not None:
                yield life, True

    def _seen(self, line: bytes, spot: Spot, *, exact: bool) -> Sighting:
        if isinstance(spot, Aside):
            return sighting_in_redis(spot, Variant(line).reason, "", exact=exact)
        return sighting_in_redis(spot, "", self._becomes(line, spot), exact=exact)

    def _becomes(self, line: bytes, spot: Spot) -> str:
        """Return what transforms and model make of it by itself; nothing where that was to be expected there."""
        if self._plan is None:
            return ""
        batch = spot.lease.batch if isinstance(spot, InFlight) else "where"
        delivery = prepare(Claim(batch, "where", 1, 1, [line]), self._plan)
        is_dead = isinstance(spot, SetAside)
        if delivery.dead:
            return "" if is_dead else f"dead: {delivery.dead[0].reason}"
        if delivery.later:
            is_delayed = isinstance(spot, InFlight) and spot.lease.delayed
            return "" if is_delayed else f"delayed: {delivery.later[0]}"
        return "filtered" if delivery.filtered else "delivered" if is_dead else ""

    @cached_property
    def _plan(self) -> Plan | None:
        """Return what the flow does to a batch; None where that can't be had here."""
        try:
            return Plan.of(self._flow)
        except ConfigError as error:
            self.not_looked_at.append(f"what becomes of it: {error}")
            return None

    def _keep(self, life: Life, sighting: Sighting) -> None:
        if len(life.sightings) < KEPT:
            life.sightings.append(sighting)
        else:
            life.more += 1

    def _look_in_sink(self, part: Component) -> None:
        try:
            check = SinkCheck(self._flow, part)
        except MillraceError as error:
            return self._unread(f"sink {part.type}: {error}")
        if check.why_not:
            return self._unread(check.why_not)
        by_content = check.named_by_content and check.by_output == WHOLE
        if check.by_output == WHOLE and not (by_content and self._as_published):
            return self._unread(f"sink {part.type}: what it writes holds no name of a record: no key, no envelope")
        found, named_records, last, row = Found(""), 0, "", 0
        try:
            for place, identity in check.placed(found):
                row = row + 1 if place == last else 1
                last = place
                name = _content_name(identity) if by_content else identity
                named_records += name is not None and name[:1] not in (b"{", b"[")
                self._match(part, place, row, name)
        except (SinkUnavailable, OSError) as error:
            self.unreached = True
            return self._unread(f"sink {part.type}: it doesn't answer: {error}")
        for damage in found.damaged:
            self._unread(f"sink {part.type}: the rest of {damage}")
        if named_records < found.records:
            nameless = found.records - named_records
            self._unread(f"sink {part.type}: {nameless:,} of its {found.records:,} records have no name in it")
        self._in_sinks.append(found.records)
        return None

    @property
    def _as_published(self) -> bool:
        """Return True where a sink's records are those that were published, to the byte."""
        return not self._flow.transforms and self._flow.model is None

    def _match(self, part: Component, place: str, row: int, name: bytes | None) -> None:
        life = self._wanted.get(name) if name is not None else None
        other = ""
        if life is None and name is not None and self._flow.transforms:
            base, colon, number = name.rpartition(b":")  # one of several that a transform made of a record
            if colon and number.isdigit() and (life := self._wanted.get(base)) is not None:
                other = name.decode(errors="replace")
        if life is None:
            return
        unit = "table" if part.options.get("table") or part.type == "delta" else "file"
        path = part.options.get("path")
        shown = f"{str(path).rstrip('/')}/{place}" if unit == "file" and path else place
        self._keep(life, Written(part.type, unit, shown, 0 if unit == "table" else row, other))

    def _unread(self, what: str) -> None:
        self._complete = False
        if what not in self.not_looked_at:
            self.not_looked_at.append(what)

    def _judge(self, books: Books, *, still: bool) -> None:
        left_out = f"the transforms of the flow left out {books.filtered:,} records so far"
        gone = f"{left_out}, and {books.discarded:,} were thrown away by hand"
        sure = (
            self._complete
            and still
            and books.filtered > 0
            and books.discarded == 0
            and all(records == books.delivered for records in self._in_sinks)
        )
        for life in self.lives.values():
            if life.sightings:
                life.verdict = "found"
            elif life.published is not None and sure:
                life.verdict = "filtered"
                life.because = "all else that was published is where it should be, so a transform left it out"
            elif life.published is not None:
                life.verdict = "gone"
                life.because = f"{gone}; or the sink holds it where it could not be looked at, or no longer"
            elif books.filtered or books.discarded:
                window = "" if self._flow.dedupe is None else " once `dedupe`'s window is over"
                life.because = f"{gone}: of these no key is remembered{window}"


def _id_in_batch(spot: Spot) -> str:
    """The id that a record without one gets when it is delivered: by its place in the batch."""
    return f"{spot.lease.batch}:{spot.number - 1}" if isinstance(spot, InFlight) else "?"


def _content_name(identity: bytes) -> bytes | None:
    """Return what the scrapy source names a record by, where its key is all that it holds."""
    try:
        found = content_key(BY_CONTENT, identity)
    except EnvelopeError:
        return None
    return found.encode() if found else None
