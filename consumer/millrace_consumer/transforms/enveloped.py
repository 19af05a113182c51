"""The transform that puts what a record's envelope says into the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from millrace_consumer.transforms.base import an_object
from millrace_consumer.transforms.naming import NamingTransform
from millrace_consumer.transforms.stage import Failed, Row, Stage, failure_of, opened, written
from millrace_pipeline.envelope import Envelope

Attribute = Literal["id", "time", "type", "source"]


class EnvelopeFields(NamingTransform):
    """Adds what the envelope says of a record: its id, time, type and source."""

    fields: list[Attribute] | dict[Attribute, str] = Field(
        default_factory=lambda: list[Attribute](("id", "time", "type", "source")),
        min_length=1,
        description="Which of id, time, type and source, under these names; or a mapping, such as {id: event_id}.",
    )

    def __call__(self, record: Any) -> Any:
        raise TypeError(f"{type(record).__name__} without its envelope: see `added`")

    def added(self, record: Any, envelope: Envelope) -> dict[str, Any]:
        """Return the record with the fields."""
        data = an_object(record)
        named = self.fields if isinstance(self.fields, dict) else {name: name for name in self.fields}
        for attribute, name in named.items():
            self.put(data, name, getattr(envelope, attribute))
        return data


class Enveloped(Stage):
    """That transform, with the envelopes that the records came in."""

    def __init__(self, transform: EnvelopeFields, envelopes: Sequence[Envelope] = ()) -> None:
        self._transform = transform
        self._envelopes = envelopes

    def of(self, envelopes: Sequence[Envelope]) -> Enveloped:
        """Return the same for records that came in these envelopes."""
        return Enveloped(self._transform, envelopes)

    def run(self, rows: Sequence[Row], failed: dict[int, Failed]) -> list[Row]:
        """Return what the rows became."""
        came = []
        for row in rows:
            try:
                came.append(Row(row.origin, self._text(row)))
            except Failed as failure:
                failed.setdefault(row.origin, failure)
        return came

    def _text(self, row: Row) -> bytes:
        value, _ = opened(row.text)
        try:
            added = self._transform.added(value, self._envelopes[row.origin])
        except Exception as error:
            raise failure_of(error) from error
        (text,) = written([added])
        return text
