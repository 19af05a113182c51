"""Any JSON, as text: nested, with odd names, with numbers that no computer holds, with halves of characters."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from millrace_pipeline.surrogates import well_formed

NAMES = [
    "",
    " ",
    "a",
    "A",
    "id",
    "ID",
    "time",
    "data",
    "a.b",
    "a/b",
    "~",
    "é",
    "e\u0301",
    "\x00",
    '"',
    "\\",
    "\ud83d",
    "💥",
]
NUMBERS = [
    *("0", "-0", "-0.0", "1.10", "1e5", "1E-7", "1e400", "-1e400", "1e-400", "0.1", "1.0000000000000000000001"),
    *(f"{2**53 + 1}", f"{2**63}", f"{-(2**64)}", "9" * 40, "9" * 400, "1" * 5000, f"0.{'3' * 400}"),
]
TEXTS = [
    "",
    "null",
    "true",
    "1",
    "=1+1",
    "'",
    "\r\n",
    "\x00",
    "\ud83d",
    "\ude00\ud83d",
    "\ufffd",
    "\ufeff",
    "2026-11-21T00:00:00Z",
]

_characters = st.text(st.characters(), max_size=8)  # lone surrogates among them
_texts = st.sampled_from(TEXTS) | _characters


@st.composite
def spelled(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    """Text in JSON, escaped or as it is."""
    value = draw(values)
    plain = draw(st.booleans()) and not any("\ud800" <= letter <= "\udfff" for letter in value)
    return json.dumps(value, ensure_ascii=not plain)


SCALARS = (
    st.sampled_from(["null", "true", "false", *NUMBERS])
    | spelled(_texts)
    | st.integers().map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
)


def objects(names: st.SearchStrategy[str], values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Objects whose names differ also where halves of characters are replaced."""
    members = st.lists(st.tuples(spelled(names), values), max_size=4, unique_by=lambda member: whole(member[0]))
    return members.map(lambda members: "{" + ", ".join(f"{name}: {value}" for name, value in members) + "}")


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    arrays = st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
    return arrays | objects(st.sampled_from(NAMES) | _characters, inner)


VALUES = st.recursive(SCALARS, _nested, max_leaves=6) | st.sampled_from(
    ["[" * 150 + "]" * 150, '{"a":' * 90 + "1" + "}" * 90]
)


def whole(text: str) -> Any:
    """What a text says, its numbers exact and halves of characters replaced: what is to be read back."""
    return _read(well_formed(text.encode("utf-8", "surrogatepass")).decode())


def exact(text: str) -> Any:
    """What a text says, its numbers exact."""
    return _read(text)


def _read(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)
