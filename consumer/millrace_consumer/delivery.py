"""Delivery: one claimed batch on its way to the sink, and what became of each of its records."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from millrace_consumer.batch import Batch
from millrace_consumer.plan import Plan
from millrace_consumer.transforms import apply
from millrace_pipeline import envelope
from millrace_pipeline.envelope import DeadLetter, Envelope
from millrace_pipeline.errors import EnvelopeError, RecordsRejected, RetryLater
from millrace_pipeline.mark import foreign_among
from millrace_pipeline.process.span import UNTRACED, Span
from millrace_pipeline.queue import Claim, Done

T = TypeVar("T")


@dataclass
class Delivery:
    """A claim that is prepared for the sink, and the account of its records.

    `batch` is what the sink gets, under the claim's id; `origin` has for each record of it the place in the claim.
    Each record of the claim ends as delivered, filtered or dead, or is tried again: by place in the claim, `later` says
    when, of those that have an attempt left; one that a transform made several of is dead if the
    sink rejects any of them. `foreign` counts the records that don't bear the `mark` of their list: somebody else
    pushed them. `reasons` says by place in the claim why records can't be delivered. `span` is its trace.
    """

    claim: Claim
    mark: str
    batch: Batch
    origin: Sequence[int]
    filtered: int
    foreign: int
    reasons: dict[int, str]
    later: dict[int, RetryLater] = field(default_factory=dict)
    span: Span = UNTRACED

    def offer(self, take: Callable[[Batch], T]) -> T | None:
        """Return what `take` makes of the batch without the records that it rejects; None where none is left.

        Raises RecordsRejected itself where that names no records of the batch.
        """
        while self.batch:
            try:
                return take(self.batch)
            except RecordsRejected as rejected:
                if not self.has(rejected.reasons):
                    raise
                self.reject(rejected.reasons)
        return None

    def has(self, indices: Collection[int]) -> bool:
        """Return True where these name records of the batch, and no others: to take out none would go on for ever."""
        return bool(indices) and all(0 <= index < len(self.batch) for index in indices)

    def reject(self, reasons: Mapping[int, str]) -> None:
        """Take records out of `batch`, by index in it: the sink will not have them."""
        for index, reason in reasons.items():
            self.reasons[self.origin[index]] = reason
        kept = [index for index, place in enumerate(self.origin) if place not in self.reasons]
        self.batch = self.batch.pick(kept)
        self.origin = [self.origin[index] for index in kept]

    @property
    def dead(self) -> list[DeadLetter]:
        """The records that can't be delivered, byte for byte as they stood on the list."""
        return [DeadLetter(self.claim.lines[place], reason) for place, reason in sorted(self.reasons.items())]

    @property
    def delivered(self) -> int:
        """Records of the claim that the sink holds once `batch` is written."""
        return len(self.claim.lines) - self.filtered - len(self.reasons) - len(self.later)

    def let_go(self) -> None:
        """Forget the records that are to be tried `later`: the claim has only the lines of the others by now."""
        lines = self.claim.lines
        kept = [place for place in range(len(lines) + len(self.later)) if place not in self.later]
        now_at = {place: number for number, place in enumerate(kept)}
        self.reasons = {now_at[place]: reason for place, reason in self.reasons.items()}
        self._name_by_place(now_at)
        self.origin = [now_at[place] for place in self.origin]
        self.foreign = foreign_among(lines, self.mark) if self.foreign else 0
        self.later = {}

    def _name_by_place(self, now_at: Mapping[int, int]) -> None:
        """Name the records that have no id of their own by the place that they have now, as when the batch comes again.

        Nothing has asked for a form of the batch yet.
        """
        envelopes = self.batch.envelopes if self.foreign else ()
        for index, (place, opened) in enumerate(zip(self.origin, envelopes, strict=False)):
            before = _id_by_place(self.claim, place)
            if opened.id == before or opened.id.startswith(f"{before}:"):  # one of several that it became
                name = _id_by_place(self.claim, now_at[place]) + opened.id.removeprefix(before)
                self.batch.envelopes[index] = msgspec.structs.replace(opened, id=name)

    def part(self, start: int, stop: int) -> Done:
        """What became of the records of the claim from one place up to another."""
        lines = self.claim.lines
        dead = [DeadLetter(lines[place], self.reasons[place]) for place in range(start, stop) if place in self.reasons]
        delivered = len({place for place in self.origin if start <= place < stop})
        foreign = foreign_among(lines[start:stop], self.mark) if self.foreign else 0
        filtered, size = stop - start - delivered - len(dead), sum(map(len, lines[start:stop]))
        return Done(self.claim, stop - start, delivered, filtered, foreign, dead, size)


def prepare(claim: Claim, plan: Plan) -> Delivery:
    """Return what a flow makes of a claim: its envelopes opened, transformed and held to the model.

    No record's failure raises: it is among the delivery's `reasons`.
    """
    lines, began = claim.lines, time.time_ns()
    reasons: dict[int, str] = {}
    places: Sequence[int] = range(len(lines))
    published = envelopes = envelope.decode_published(lines, plan.mark)
    if envelopes is None:
        found = _open_one_by_one(claim, reasons)
        envelopes, places = list(found.values()), list(found)
    span = plan.traces.deliver(claim, envelopes, began)
    with span.current():
        outcome = apply(envelopes, plan.transforms, plan.model, evolves=plan.evolves)
    reasons |= {places[index]: reason for index, reason in outcome.rejected.items()}
    later = {places[index]: error for index, error in outcome.later.items()}
    if claim.attempts >= plan.attempts:
        deaths = f", {claim.deaths} of which came to no end" if claim.deaths else ""
        left = f"no attempt is left of {plan.attempts}{deaths}"
        reasons |= {place: f"RetryLater: {error}: {left}" for place, error in later.items()}
        later = {}
    origin = outcome.origin if published is not None else [places[index] for index in outcome.origin]
    originals: Sequence[bytes | None] = lines
    if outcome.envelopes is not published:
        originals = [  # of each envelope the line that it stands for; None where it was made or changed
            lines[place] if opened is envelopes[index] and not opened.bare else None
            for place, index, opened in zip(origin, outcome.origin, outcome.envelopes, strict=True)
        ]
    return Delivery(
        claim,
        plan.mark,
        Batch(claim.id, outcome.envelopes, flow=plan.flow, model=plan.model, rows=outcome.rows, originals=originals),
        origin,
        filtered=len(outcome.filtered),
        foreign=0 if published is not None else foreign_among(lines, plan.mark),
        reasons=reasons,
        later=later,
        span=span,
    )


def _id_by_place(claim: Claim, place: int) -> str:
    """Return the id of a record that has none, since somebody pushed it by hand: its place in the batch is as good."""
    return f"{claim.id}:{place}"


def _open_one_by_one(claim: Claim, reasons: dict[int, str]) -> dict[int, Envelope]:
    """Return the envelopes by place in the claim; `reasons` gets why the others are none."""
    found: dict[int, Envelope] = {}
    for place, line in enumerate(claim.lines):
        try:
            found[place] = envelope.decode(line, foreign_id=lambda place=place: _id_by_place(claim, place))  # type: ignore[misc]
        except EnvelopeError as error:
            reasons[place] = str(error)
    return found
