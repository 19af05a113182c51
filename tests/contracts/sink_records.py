"""The records that the contract of Millrace's own sinks writes, and their model."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from millrace.testing.batches import TIME, batch_of, bulk, sink_of

__all__ = ["ORDINARY", "TIME", "NarrowThing", "Thing", "batch_of", "bulk", "sink_of"]


class Thing(BaseModel):
    """The model of the contract's records."""

    id: str
    text: str | None = None
    number: int | float | None = None
    flag: bool | None = None
    nested: dict[str, Any] | list[Any] | None = None


class NarrowThing(Thing):
    """The same with a number that must fit 64 bits once it is a column."""

    number: int | None = None


class LooseThing(NarrowThing):
    """The same with a field that may hold anything, null too, and that no record may lack."""

    anything: Any


ORDINARY: list[dict[str, Any]] = [
    {
        "id": "plain",
        "text": "Zażółć gęślą jaźń, 水車, 🎡",
        "number": 1,
        "flag": True,
        "nested": {"a": [1, {"b": None}]},
    },
    {"id": "empty", "text": "", "number": 0, "flag": False, "nested": {}},
    {"id": "null", "text": None, "number": None, "flag": None, "nested": None},
    {"id": "missing"},
    {"id": "breaks", "text": 'a\r\nb\nc\rd\u2028e\u0085f\tg,h;"i"\\j', "nested": ["\n", '"', ","]},
    {"id": "controls", "text": "nul \x00 bell \x07 delete \x7f", "number": -1},
    {"id": "big", "number": 2**63 - 1},
    {"id": "long", "text": "long " * 20_000},
]
"""What any sink must give back as it was given."""
