"""Scrapy's items as records: a dict, dataclass, attrs class, `scrapy.Item` or pydantic model, nested as you like."""

from __future__ import annotations

import math
from typing import Any

from itemadapter import ItemAdapter
from pydantic import BaseModel

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import RecordError
from millrace_pipeline.jsontext import encode_json
from millrace_pipeline.process.repeats import repeats
from millrace_producer.itemfields import ItemFields

_PLAIN = {str, int, bool, type(None)}


def record_of(item: Any, fields: ItemFields) -> Record | DeadLetter:
    """An item as a record whose data is JSON text, or as a dead letter where JSON can't say it.

    The record's type is the item's class, unless that is dict. A field's `serializer` is called, as by
    Scrapy's exports.
    """
    try:
        text = encode_json(_orderly(_fields_of(item)))
        key, moment = fields.names(text)
    except MemoryError:
        raise  # this machine's trouble, not the item's
    except Exception as error:  # a serializer of the user's own may raise anything
        return DeadLetter(repr(item).encode(errors="backslashreplace"), f"{type(item).__qualname__} item: {error}")
    kind = type(item)
    return Record(text, key=key, type=None if kind is dict else kind.__name__, time=moment, checked=True)


def _fields_of(item: Any) -> Any:
    if type(item) is dict:
        return item
    if isinstance(item, BaseModel):
        values = item.model_dump(mode="json", by_alias=True)
        if not any("serializer" in (ItemAdapter(item).get_field_meta(name)) for name in type(item).model_fields):
            return values
    adapter = ItemAdapter(item)
    return {name: _serialized(adapter, name, value) for name, value in adapter.items()}


def _serialized(adapter: ItemAdapter, name: str, value: Any) -> Any:
    serializer = adapter.get_field_meta(name).get("serializer")
    return value if serializer is None else serializer(value)


def _orderly(value: Any) -> Any:
    """The same with items as dicts and sets as sorted lists.

    A set's own order differs from process to process, and so would the key. Raises RecordError for bytes, which are
    text only to whoever knows their encoding, and where two names of a dict are one in JSON.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            why = "NaN and the infinities are null in JSON, which has no such numbers"
            repeats.warn("number_became_null", kind=why, reason=why)
        return value
    if isinstance(value, dict):
        if len({str(_name(name)) for name in value}) < len(value):
            raise RecordError("two names of a dict are the same in JSON, such as 1 and '1'")
        return {_name(name): _orderly(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_orderly(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted((_orderly(inner) for inner in value), key=encode_json)
    if isinstance(value, bytes | bytearray | memoryview):
        raise RecordError("bytes are not JSON: decode them to text first")
    if isinstance(value, ItemAdapter) or ItemAdapter.is_item(value):
        return _orderly(_fields_of(value.item if isinstance(value, ItemAdapter) else value))
    return value


def _name(name: Any) -> Any:
    return str.__str__(name) if isinstance(name, str) else name
