"""Keys: what names a record, found in it or made of it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

from millrace_pipeline.envelope import Record
from millrace_pipeline.errors import RecordError
from millrace_pipeline.jsontext import decode_json, encode_json
from millrace_pipeline.pointer import meant_by, resolve_alike
from millrace_pipeline.process.repeats import repeats
from millrace_pipeline.surrogates import in_utf8

CONTENT = "content"
"""The `key` that makes a record's key from all that the item holds."""

CONTENT_KEY_DIGITS = 32


def key_of(key: str | None, text: bytes) -> str | None:
    """Return what names the record in this JSON text; `content` names it by all that it holds."""
    if key is None:
        return None
    if key == CONTENT:
        value = decode_json(text)
        try:
            sorted_text = msgspec.json.encode(value, order="sorted")
        except UnicodeEncodeError:  # halves of characters
            sorted_text = json.dumps(value, sort_keys=True).encode()
        return hashlib.sha256(sorted_text).hexdigest()[:CONTENT_KEY_DIGITS]
    found = resolve_alike(key, value := decode_json(text))
    if found is None or found == "":
        say_keyless(key, value)
        return None
    if isinstance(found, str):
        return in_utf8(found)
    return encode_json(found).decode()


def say_keyless(key: str, data: Any) -> None:
    """Say once, and count, that a key finds nothing; where it is a nested one that was meant, how that is written."""
    nested = meant_by(key, data)
    mend = f"a nested field is named as {nested}" if nested else "it can't be known again: is the pointer right?"
    repeats.warn("record_without_key", kind="", of=key, key=key, mend=mend)


def content_key(record: Record) -> None:
    """Gives a record the key that all records of the same content have."""
    try:
        data: Any = record.data if isinstance(record.data, bytes) else encode_json(record.data)
    except RecordError:
        return  # it becomes a dead letter when it is published
    record.key = hashlib.sha256(data).hexdigest()[:CONTENT_KEY_DIGITS]
