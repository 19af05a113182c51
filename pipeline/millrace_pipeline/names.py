"""Names that stand twice in an object of JSON: whoever takes it apart has the last of their values alone.

RFC 8259 leaves open what such an object says. Nearly all that read JSON take the last value, and so does Millrace;
bytes that are passed on as they came have both.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from millrace_pipeline.surrogates import well_formed

_ELSE_COUNTED = re.compile(rb'"[ \t\n\r]+:|\\u00(?:22|3[aA])')

_decode = msgspec.json.Decoder().decode


def names_twice(text: bytes) -> list[str]:
    """Return the names that stand twice in an object of a JSON text, at whatever depth, each of them once."""
    try:
        # A colon behind a quote stands behind each name. Within a text it stays as it is when that is written again,
        # unless one of the two is written as an escape.
        if not _ELSE_COUNTED.search(text) and msgspec.json.encode(_decode(text)).count(b'":') == text.count(b'":'):
            return []
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    return _looked_for(text)


def _looked_for(text: bytes) -> list[str]:
    found: dict[str, None] = {}

    def noted(pairs: list[tuple[str, Any]]) -> None:
        if len({name for name, _ in pairs}) < len(pairs):
            seen = set[str]()
            for name, _ in pairs:
                if name in seen:
                    found[name] = None
                seen.add(name)

    try:
        json.loads(well_formed(text), object_pairs_hook=noted, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return []
    return list(found)
