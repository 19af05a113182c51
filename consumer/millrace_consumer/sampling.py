"""Sampling: what a tap gets of a delivery: records as they stood on the list, and what became of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from millrace_consumer.batch import Batch
from millrace_consumer.delivery import Delivery
from millrace_pipeline.errors import EnvelopeError, RecordError
from millrace_pipeline.jsontext import one_line
from millrace_pipeline.queue.tap import Sampled, Tap, cut


def sample(tap: Tap, delivery: Delivery, start: int = 0, stop: int | None = None) -> None:
    """Hand on to who listens what became of the records of a claim from one place up to another: they are done."""
    stop = len(delivery.claim.lines) if stop is None else stop
    if places := tap.take(stop - start):
        tap.keep(_sampled(delivery, [start + place for place in places]))


def _sampled(delivery: Delivery, places: Sequence[int]) -> Iterator[Sampled]:
    lines, batch = delivery.claim.lines, delivery.claim.id
    after: dict[int, list[bytes | None]] = {}
    wanted = set(places)
    for index, place in enumerate(delivery.origin):
        if place in wanted:
            after.setdefault(place, []).append(_line(delivery.batch, index))
    for place in places:
        record, texts = cut(lines[place]), after.get(place)
        if (reason := delivery.reasons.get(place)) is not None:
            yield Sampled(record, "dead", reason=reason, batch=batch)
        elif texts is None:
            yield Sampled(record, "filtered", batch=batch)
        elif texts == [lines[place]]:
            yield Sampled(record, "delivered", batch=batch)
        elif None not in texts:
            yield Sampled(record, "delivered", [cut(text) for text in texts if text is not None], batch=batch)


def _line(batch: Batch, index: int) -> bytes | None:
    """Return a record's envelope as the sink had it; None where it has no such form, which the sink didn't ask for."""
    original = batch.originals[index]
    try:
        return batch.envelopes[index].line if original is None else one_line(original)
    except (EnvelopeError, RecordError):
        return None
