"""Scrapy's items as records: a dict, dataclass, attrs class, `scrapy.Item` or pydantic model, nested as you like."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from itemadapter import ItemAdapter
from pydantic import BaseModel

from millrace_pipeline.envelope import DeadLetter, Record, encode_json, resolve
from millrace_pipeline.errors import RecordError

CONTENT = "content"
"""The `key` that makes a record's key from all that the item holds."""

CONTENT_KEY_DIGITS = 32

_PLAIN = {str, int, float, bool, type(None)}


def record_of(item: Any, key: str | None) -> Record | DeadLetter:
    """An item as a record whose data is JSON text, or as a dead letter where JSON can't say it.

    `key` names the record: a JSON pointer into the item (`/id`), a top-level field, `content` for a hash of the whole
    item, None for no key. The record's type is the item's class, unless that is dict.
    """
    try:
        text = encode_json(_orderly(_dict_of(item)))
    except (RecordError, TypeError, ValueError, RecursionError) as error:
        return DeadLetter(repr(item).encode(errors="backslashreplace"), f"{type(item).__qualname__} item: {error}")
    kind = type(item)
    return Record(text, key=_key(key, text), type=None if kind is dict else kind.__name__, checked=True)


def _key(key: str | None, text: bytes) -> str | None:
    if key is None:
        return None
    value = msgspec.json.decode(text)
    if key == CONTENT:
        return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:CONTENT_KEY_DIGITS]
    found = resolve(key, value)
    if found is None or isinstance(found, str):
        return found or None
    return encode_json(found).decode()


def _dict_of(item: Any) -> Any:
    if type(item) is dict:
        return item
    return item.model_dump(mode="json", by_alias=True) if isinstance(item, BaseModel) else ItemAdapter(item).asdict()


def _orderly(value: Any) -> Any:
    """The same with items as dicts and sets as sorted lists.

    A set's own order differs from process to process, and so would the key. Raises RecordError for bytes, which are
    text only to whoever knows their encoding.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        return {name: _orderly(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_orderly(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted((_orderly(inner) for inner in value), key=encode_json)
    if isinstance(value, bytes | bytearray | memoryview):
        raise RecordError("bytes are not JSON: decode them to text first")
    if isinstance(value, ItemAdapter) or ItemAdapter.is_item(value):
        return _orderly(ItemAdapter(value).asdict())
    return value
