"""Fan-out: several sinks of one flow, as one."""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog
from pydantic import BaseModel

from millrace_consumer.batch import Batch
from millrace_consumer.sinks import SINKS
from millrace_consumer.sinks.base import Command, RecordsRejected, Sink, SinkUnavailable
from millrace_pipeline.backoff import Backoff
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.killpoints import killpoint
from millrace_pipeline.process import metrics
from millrace_pipeline.queue.presence import Missing

log = structlog.get_logger(__name__)

LEFT_ALONE_SECONDS = 30.0
"""Longest time for which a sink that isn't required is not asked, after it failed."""

LONGEST_REASON = 300


def sink_of(flow: Flow) -> Sink:
    """The flow's sink, or its several as one. Raises ConfigError with the place of each that can't be made."""
    parts = [(part, part.build(SINKS, Sink)) for part in flow.sink.each]
    if len(parts) == 1:
        return parts[0][1]
    types = [part.type for part, _ in parts]
    names = [type if types.count(type) == 1 else f"{type} {number}" for number, type in enumerate(types, 1)]
    for name, (part, _) in zip(names, parts, strict=True):
        if not part.required:
            metrics.sink_missed.labels(flow.name, name)  # shown from now on, at 0
    return FanOut(
        required=[_Part(name, sink) for name, (part, sink) in zip(names, parts, strict=True) if part.required],
        optional=[_Optional(name, sink) for name, (part, sink) in zip(names, parts, strict=True) if not part.required],
    )


class _Part:
    """One of the sinks, and what it has of the batch under way."""

    def __init__(self, name: str, sink: Sink) -> None:
        self.name = name
        self.sink = sink
        self._has: Batch | None = None

    def write(self, batch: Batch) -> None:
        """Writes, unless this very sink has these records under this id already.

        That is so when another sink failed after it, or rejected a record: what is offered then under the same id may
        be less than what this one has.
        """
        if not self._has_all(batch):
            self.sink.write(batch)
            self._has = batch

    def _has_all(self, batch: Batch) -> bool:
        if self._has is None or self._has.id != batch.id:
            return False
        # By identity: of the same batch delivered again, after a release, the envelopes are others.
        held = set(map(id, self._has.envelopes))
        return all(id(envelope) in held for envelope in batch.envelopes)


class _Optional(_Part):
    """One whose failures hold nothing back: what it doesn't take, it misses."""

    def __init__(self, name: str, sink: Sink) -> None:
        super().__init__(name, sink)
        self._backoff = Backoff(first=0.5, cap=LEFT_ALONE_SECONDS)
        self._again_at = 0.0
        self.missing: Missing | None = None

    def write(self, batch: Batch) -> None:
        """Writes what the sink takes, now, and counts the rest. A sink that failed is left alone for a while."""
        while len(batch):
            if time.monotonic() < self._again_at:
                return self._misses(batch, len(batch))
            try:
                super().write(batch)
            except RecordsRejected as rejected:
                kept = [index for index in range(len(batch)) if index not in rejected.reasons]
                if len(kept) == len(batch):
                    return self._fails(batch, rejected)
                self._misses(batch, len(batch) - len(kept), str(next(iter(rejected.reasons.values()))))
                batch = batch.pick(kept)
            except Exception as error:
                return self._fails(batch, error)
            else:
                return self._works(batch)
        return None

    def _fails(self, batch: Batch, error: Exception) -> None:
        asked = error.retry_after if isinstance(error, SinkUnavailable) else None
        self._again_at = time.monotonic() + self._backoff.next(at_least=asked or 0.0)
        reason = str(error) if isinstance(error, SinkUnavailable | OSError) else f"{type(error).__name__}: {error}"
        if self.missing is None:
            log.warning("optional_sink_unavailable", flow=batch.flow, sink=self.name, reason=reason)
            self.missing = Missing(self.name, "", round(time.time(), 1), 0)
        self.missing.reason = reason[:LONGEST_REASON]
        self._misses(batch, len(batch))

    def _misses(self, batch: Batch, records: int, reason: str = "") -> None:
        metrics.sink_missed.labels(batch.flow, self.name).inc(records)
        if self.missing is not None:
            self.missing.records += records
        because = {"reason": reason} if reason else {}
        log.warning("records_missed", flow=batch.flow, sink=self.name, batch=batch.id, records=records, **because)

    def _works(self, batch: Batch) -> None:
        if self.missing is not None:
            log.info("optional_sink_available", flow=batch.flow, sink=self.name)
            self.missing = None
            self._backoff.reset()


class FanOut(Sink):
    """Several sinks: each gets every batch, in the order of the file, and the batch is done once all required have it.

    Each keeps its own guarantee, by the batch's id. Those that aren't required come last.
    """

    _required: list[_Part]
    _optional: list[_Optional]

    def __init__(self, *, required: Sequence[_Part], optional: Sequence[_Optional]) -> None:
        super().__init__()
        self._required = list(required)
        self._optional = list(optional)

    @property
    def missing(self) -> list[Missing]:
        """Those that aren't required and take nothing, as of the last batch that they were offered."""
        return [one for one in (part.missing for part in self._optional) if one is not None]

    @property
    def prefetch(self) -> Sequence[str]:
        """What any of them asks for."""
        return list(dict.fromkeys(form for part in (*self._required, *self._optional) for form in part.sink.prefetch))

    def write(self, batch: Batch) -> None:
        """Writes to each sink that doesn't have the batch yet. Raises what the first required one raises, by its name.

        A record that one rejects becomes a dead letter also where another has it by then.
        """
        written = 0
        for part in self._required:
            try:
                part.write(batch)
            except RecordsRejected as rejected:
                reasons = {index: f"{part.name}: {reason}" for index, reason in rejected.reasons.items()}
                raise RecordsRejected(reasons) from rejected
            except SinkUnavailable as error:
                raise SinkUnavailable(f"{part.name}: {error}", retry_after=error.retry_after) from error
            except OSError as error:
                raise SinkUnavailable(f"{part.name}: {error}") from error
            written = max(written, batch.written)
            killpoint("fanout.between")
        for part in self._optional:
            part.write(batch)
        batch.written = written

    @property
    def writes_in_ack(self) -> bool:
        """Whether any of them does."""
        return any(part.sink.writes_in_ack for part in self._required)

    def ack_commands(self, batch: Batch) -> Sequence[Command]:
        """What they write in the ack's step, together."""
        return [command for part in self._required for command in part.sink.ack_commands(batch)]

    def has_batch(self, batch_id: str) -> bool:
        """Whether any of them has anything of this batch."""
        return any(part.sink.has_batch(batch_id) for part in (*self._required, *self._optional))

    def check(self, model: type[BaseModel] | None) -> None:
        """Checks each, and that what happens with the ack is required: it happens with it or not at all."""
        for part in (*self._required, *self._optional):
            part.sink.check(model)
        for part in self._optional:
            if part.sink.writes_in_ack:
                raise ConfigError(f"{part.name} is written in the ack's own step, so it can't be `required: false`")

    def close(self) -> None:
        """Closes each, whatever the others do."""
        failures = []
        for part in (*self._required, *self._optional):
            try:
                part.sink.close()
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]
