"""What every source of messages must do that lets a record's key and time be said to stand in its data."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

from millrace.testing import Origin, value_of
from millrace_pipeline.envelope import Record


class NamedRecords:
    """Beside `SourceContract`: the origin's records have a number `n`, or nothing to name them by."""

    key_option: ClassVar[str] = "key"

    def test_a_record_is_named_by_what_it_holds_else_by_its_message(self, origin: Origin) -> None:
        own = {"time": "/n", "time_unit": "s", self.key_option: "/n"}
        source = origin.source().model_copy(update=own)
        records = [record for record in source.read(None) if isinstance(record, Record)]
        source.close()
        assert len(records) == len(origin.expected)
        for record in records:
            value = value_of(record)
            if isinstance(value, dict):
                assert (record.key, record.time) == (str(value["n"]), datetime.fromtimestamp(value["n"], UTC))
            else:
                assert record.key
        assert len({record.key for record in records}) == len(records)
