"""Partitions: directories named `field=value`, as Hive lays them out, that no value can lead astray.

Values come from outside. Each becomes one directory name: what isn't safe is percent-encoded in UTF-8, as Hive's
`FileUtils.escapePathName` does and as Arrow, DuckDB, Polars and Spark read it back. Two different values never share a
name (but for values of different types that are the same text, such as 1 and "1"), and null, missing and empty share
Hive's name for nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from enum import Enum
from hashlib import sha256
from typing import Any

from millrace_pipeline.jsontext import encode_json

NOTHING = "__HIVE_DEFAULT_PARTITION__"
"""Hive's name for the partition of null."""

NAME_LIMIT = 64
"""Bytes of the field's name. With `=` and the longest value it makes a file name of at most 255 bytes, NAME_MAX."""

VALUE_LIMIT = 157
"""Bytes of an encoded value; a longer one is cut here and gets 33 more: a dash and 32 digits of its hash."""

_PLAIN = re.compile(r"[A-Za-z0-9_.\-]*[A-Za-z0-9_\-]")
_LOWER = re.compile(r"[a-z0-9_.\-]")
_UNSAFE = frozenset("\"#%'*/:=?\\{}[]^<>|")
# Control, format (bidi overrides, zero width), surrogate, private, unassigned; line, paragraph and odd spaces.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})


def field_name(pointer: str) -> str:
    """The directory's name for a field: the name itself, or the last step of a JSON pointer."""
    return pointer.rsplit("/", 1)[-1].replace("~1", "/").replace("~0", "~")


def partition_text(value: Any) -> str | None:
    """A value as the text that stands for it; None where there is nothing."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, dict | list | tuple | set | frozenset):
        return encode_json(value).decode()
    return str(value)


def component(field: str, text: str | None, *, lower_only: bool = False) -> str:
    """`field=value`, safe as the name of a directory. With `lower_only` upper case letters are percent-encoded too."""
    name = "".join(_encoded(field))
    if text is None:
        return f"{name}={NOTHING}"
    parts = _encoded(text, lower_only=lower_only)
    whole = "".join(parts)
    return f"{name}={whole if len(whole.encode()) <= VALUE_LIMIT else _shortened(text, parts)}"


def directory_names(fields: Sequence[str], keys: Iterable[Sequence[str | None]]) -> list[str]:
    """The relative directory of each key: different for different keys, even where the file system ignores case."""
    keys = list(keys)
    lower_only: set[int] = set()
    while True:
        names = [
            "/".join(
                component(field, text, lower_only=i in lower_only) for field, text in zip(fields, key, strict=True)
            )
            for i, key in enumerate(keys)
        ]
        seen = Counter(map(_folded, names))
        meeting = {i for i, name in enumerate(names) if seen[_folded(name)] > 1} - lower_only
        if not meeting:
            return names
        lower_only |= meeting


def _encoded(text: str, *, lower_only: bool = False) -> list[str]:
    """What stands for each character."""
    if not lower_only and _PLAIN.fullmatch(text) and text != NOTHING:
        return list(text)
    # Two spellings that some file systems take for one (é, and e with an accent after it) must not meet.
    keep_wide = not lower_only and unicodedata.is_normalized("NFC", text)
    parts = [
        char if (_LOWER.match(char) if lower_only else _is_safe(char, keep_wide)) else _percent(char) for char in text
    ]
    if text == NOTHING:
        parts[0] = _percent("_")
    if parts[-1] in (".", " "):  # Windows drops them from the end of a name
        parts[-1] = _percent(parts[-1])
    return parts


def _is_safe(char: str, keep_wide: bool) -> bool:
    if char.isascii():
        return char not in _UNSAFE and char.isprintable()
    return keep_wide and unicodedata.category(char) not in _UNSEEN


def _percent(char: str) -> str:
    # JSON text can't hold half a surrogate pair; should a value get here with one, readers must still find UTF-8.
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "namereplace"))


def _shortened(text: str, parts: list[str]) -> str:
    """The beginning and a hash of it all: always longer than VALUE_LIMIT, so it meets no value that fits."""
    begin, size = [], 0
    for part in parts:
        size += len(part.encode())
        if size > VALUE_LIMIT:
            break
        begin.append(part)
    return f"{''.join(begin)}-{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def _folded(directory: str) -> str:
    return unicodedata.normalize("NFC", directory.casefold())
