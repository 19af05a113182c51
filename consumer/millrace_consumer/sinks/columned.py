"""What all sinks with columns have in common: no value of a record vanishes in silence for want of a column."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from millrace_consumer.batch import Batch
from millrace_consumer.given import unknown_fields
from millrace_consumer.looking import some_of
from millrace_consumer.matching import Match, Matching, listed, no_column, shown
from millrace_consumer.sinks.base import RecordsRejected, Sink
from millrace_pipeline.process.repeats import repeats

_PLACES_IN_LISTS = re.compile(r"\.\d+(?=\.|$)")


class ColumnedSink(Sink):
    """Writes fields into columns. What has no column at all becomes a dead letter; what has some is the option's."""

    extra_fields: Annotated[
        Literal["ignore", "reject"],
        Field(
            description="A record with a field that has no column: ignore that field, which is said once and counted; "
            "reject the record, which becomes a dead letter."
        ),
    ] = "ignore"

    def hold_to_model(self, batch: Batch) -> None:
        """Look whether each record has something that the flow's model knows; nothing without a model.

        Raises RecordsRejected naming those that don't, and those with fields that the option rejects.
        """
        reasons = batch.strangers
        if batch.model is not None and self.extra_fields == "reject":
            for index, envelope in enumerate(batch.envelopes):
                if index not in reasons and (left := unknown_fields(envelope.text, batch.model)):
                    reasons[index] = (
                        f"fields without a column, {listed(left)}: the model has none, extra_fields: reject"
                    )
        if reasons:
            raise RecordsRejected(dict(sorted(reasons.items())))

    def say_dropped(self, batch: Batch) -> None:
        """Name each field that the flow's model has dropped, once, and count. Some records of the batch are asked."""
        model = batch.model
        if model is None or self.extra_fields == "reject":
            return
        for envelope in some_of(batch.envelopes):
            if left := unknown_fields(envelope.text, model):
                repeats.warn_of(
                    "fields_not_written",
                    {_PLACES_IN_LISTS.sub(".…", name): shown(name) for name in left},
                    kind=model.__name__,
                    says="fields",
                    flow=batch.flow,
                    mend=f"model {model.__name__} doesn't have them: add them to it, or say there that it ignores "
                    'others: model_config = ConfigDict(extra="ignore")',
                )

    def matched(self, records: Sequence[Mapping[str, Any]], matching: Matching) -> list[Match]:
        """Return for each record which of its fields goes to which column.

        Raises RecordsRejected naming those of which nothing has a column or nobody can tell, and those with fields that
        the option rejects.
        """
        found = [matching.of(record) for record in records]
        if reasons := {
            index: reason for index, match in enumerate(found) if (reason := self.unmatched(match, matching.columns))
        }:
            raise RecordsRejected(reasons)
        return found  # type: ignore[return-value]  # the others were raised

    def unmatched(self, match: Match | str, columns: Sequence[str]) -> str | None:
        """Return why a record that was matched like this can't be written to these columns; None where it can."""
        if isinstance(match, str):
            return match
        if match.left and not match.fields:
            return no_column(match.left, columns)
        if match.left and self.extra_fields == "reject":
            return f"fields without a column, {listed(match.left)}: extra_fields: reject"
        return None

    def say_left(self, batch: Batch, matches: Sequence[Match], place: str) -> None:
        """Name each field of a batch that has no column in a place, once, and count the records."""
        left = Counter(match.left for match in matches if match.left)
        for fields, times in left.items():
            repeats.warn_of(
                "fields_not_written",
                {name: shown(name) for name in fields},
                kind=place,
                says="fields",
                times=times,
                flow=batch.flow,
                mend=f"{place} has no columns for them: add some, or say extra_fields: reject",
            )
