"""Delivery: one claimed batch on its way to the sink, and what became of each of its records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from millrace_consumer.batch import Batch
from millrace_consumer.transforms import Outcome, apply
from millrace_pipeline import envelope
from millrace_pipeline.envelope import DeadLetter, Envelope
from millrace_pipeline.errors import EnvelopeError
from millrace_pipeline.mark import is_foreign
from millrace_pipeline.queue import Claim, Done


class Delivery:
    """Opens the envelopes, applies the transforms and the model, and keeps count.

    `batch` is what the sink gets, under the claim's id. Each record of the claim ends as delivered, filtered or dead;
    one that a transform made several of is dead if the sink rejects any of them. `foreign` counts the records that
    don't bear the `mark` of their list: somebody else pushed them. Where the model `evolves`, what doesn't fit it is
    delivered as it is, to every sink that can write it.
    """

    def __init__(
        self,
        claim: Claim,
        *,
        flow: str,
        mark: str,
        transforms: Sequence[Callable[..., Any]] = (),
        model: type[BaseModel] | None = None,
        evolves: bool = False,
    ) -> None:
        self.claim = claim
        self._reasons: dict[int, str] = {}  # by place in the claim
        self._mark = mark
        self.foreign = 0
        published = envelope.decode_published(claim.lines, mark)
        envelopes, places = self._open_one_by_one() if published is None else (published, range(len(published)))
        outcome = apply(envelopes, transforms, model, evolves=evolves)
        for index, reason in outcome.rejected.items():
            self._reasons[places[index]] = reason
        self.filtered = len(outcome.filtered)
        self._origin = outcome.origin if published is not None else [places[index] for index in outcome.origin]
        self.batch = Batch(
            claim.id,
            outcome.envelopes,
            flow=flow,
            model=model,
            rows=outcome.rows,
            originals=claim.lines if outcome.envelopes is published else self._originals(envelopes, outcome),
        )

    def reject(self, reasons: Mapping[int, str]) -> None:
        """Takes records out of `batch`, by index in it: the sink will not have them."""
        for index, reason in reasons.items():
            self._reasons[self._origin[index]] = reason
        kept = [index for index, place in enumerate(self._origin) if place not in self._reasons]
        self.batch = self.batch.pick(kept)
        self._origin = [self._origin[index] for index in kept]

    @property
    def dead(self) -> list[DeadLetter]:
        """The records that can't be delivered, byte for byte as they stood on the list."""
        return [DeadLetter(self.claim.lines[place], reason) for place, reason in sorted(self._reasons.items())]

    @property
    def delivered(self) -> int:
        """Records of the claim that the sink holds once `batch` is written."""
        return len(self.claim.lines) - self.filtered - len(self._reasons)

    @property
    def origin(self) -> Sequence[int]:
        """For each record of `batch` its place in the claim."""
        return self._origin

    def part(self, start: int, stop: int) -> Done:
        """What became of the records of the claim from one place up to another."""
        dead = [
            DeadLetter(self.claim.lines[place], self._reasons[place])
            for place in sorted(self._reasons)
            if start <= place < stop
        ]
        delivered = len({place for place in self._origin if start <= place < stop})
        foreign = self._foreign_among(self.claim.lines[start:stop]) if self.foreign else 0
        filtered = stop - start - delivered - len(dead)
        return Done(self.claim, stop - start, delivered, filtered, foreign, dead)

    def _originals(self, opened: Sequence[Envelope], outcome: Outcome) -> list[bytes | None]:
        """Of each envelope of the outcome the line that it stands for; None where it was made or changed."""
        return [
            self.claim.lines[place] if envelope is opened[index] and not envelope.bare else None
            for place, index, envelope in zip(self._origin, outcome.origin, outcome.envelopes, strict=True)
        ]

    def _open_one_by_one(self) -> tuple[list[Envelope], Sequence[int]]:
        envelopes: list[Envelope] = []
        places: list[int] = []
        for place, line in enumerate(self.claim.lines):
            try:
                # A record that somebody pushed by hand has no id: its place in the batch is as good as one.
                opened = envelope.decode(line, foreign_id=lambda place=place: f"{self.claim.id}:{place}")  # type: ignore[misc]
            except EnvelopeError as error:
                self._reasons[place] = str(error)
            else:
                envelopes.append(opened)
                places.append(place)
        self.foreign = self._foreign_among(self.claim.lines)
        return envelopes, places

    def _foreign_among(self, lines: Sequence[bytes]) -> int:
        return sum(is_foreign(line, self._mark) for line in lines)
