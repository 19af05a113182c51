r"""Lone surrogates: halves of a character, such as `"\ud83d"`, that JSON can say and UTF-8 can't.

They come from text that was cut in the middle of an emoji. JSON keeps them as the escape that they are; a text in
Unicode has U+FFFD, the replacement character, in their place.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

_HINT = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(rb"(\\u[dD][89abAB]..\\u[dD][c-fC-F]..)|(\\u[dD][89a-fA-F]..)|\\.", re.DOTALL)


def well_formed(text: bytes) -> bytes:
    r"""Return a JSON text with `\ufffd` for each lone surrogate, so of the same length; itself where it has none."""
    if not _HINT.search(text):
        return text
    mended = _ESCAPE.sub(lambda found: rb"\ufffd" if found[2] else found[0], text)
    return text if mended == text else mended


def in_utf8(text: str) -> str:
    r"""Return text that UTF-8 can say: a lone surrogate as the six letters of its escape, so that no two become one."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def decode_surrogates(text: bytes | msgspec.Raw) -> Any:
    """Return the Python values of a JSON text, with its lone surrogates."""
    return json.loads(bytes(text))


def encode_surrogates(value: Any) -> bytes:
    """Return Python values without NaN as compact JSON in UTF-8, lone surrogates as escapes."""
    text = json.dumps(_without_nan(value), ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not -float("inf") < value < float("inf") else value
