"""Field value: a record, and what it holds in the field that its source goes by."""

from __future__ import annotations

from typing import Any

from millrace_pipeline.errors import EnvelopeError
from millrace_pipeline.jsontext import decode_json
from millrace_pipeline.pointer import resolve
from millrace_producer.sources.base import DeadLetter, Record
from millrace_producer.sources.fields import Fields
from millrace_producer.sources.incremental import Incremental, identity_of, misfit_of
from millrace_producer.sources.restbody import Raw


def read_field(raw: Raw, incremental: Incremental, fields: Fields) -> tuple[Record | DeadLetter, Any, str]:
    """Return the record, its value of the incremental field, and what it is known by; a dead letter where it has none.

    Raises SourceRefused for a value that has no order.
    """
    pointer = incremental.field
    if isinstance(raw, DeadLetter):
        return raw, None, identity_of(raw.original, None)
    try:
        data = decode_json(raw)
    except EnvelopeError as error:
        return DeadLetter(raw, str(error)), None, identity_of(raw, None)
    value = resolve(pointer, data)
    if value is None:
        return DeadLetter(raw, f"has nothing at {pointer}, which its source goes by"), None, identity_of(raw, None)
    if misfit := misfit_of(value):
        return DeadLetter(raw, f"{pointer}, which its source goes by: {misfit}"), None, identity_of(raw, None)
    incremental.check(value)
    record = fields.of(raw, data)
    return record, value, identity_of(raw, record.key)
