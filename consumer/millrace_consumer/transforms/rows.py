"""Transforms of which records there are."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec
from pydantic import Field, PrivateAttr, field_validator

from millrace_consumer.transforms.base import KeepingTransform
from millrace_consumer.transforms.expression import Expression
from millrace_consumer.transforms.places import Absent, found_at
from millrace_pipeline.comparing import say_kinds_differ
from millrace_pipeline.jsontext import encode_json
from millrace_pipeline.process.repeats import repeats


class Filter(KeepingTransform):
    """Keeps the records for which an expression holds, in JMESPath (https://jmespath.org): what is null, false or
    empty doesn't.
    """

    where: str = Field(description="Such as ``bot == `false` && length.new > `100` ``.")

    _expression: Expression = PrivateAttr()

    @field_validator("where")
    @classmethod
    def _is_an_expression(cls, where: str) -> str:
        Expression(where)
        return where

    def model_post_init(self, _context: Any) -> None:
        """Compiles the expression once."""
        self._expression = Expression(self.where)

    def __call__(self, record: Any) -> Any:
        return record if self._expression.holds(record) else None


class Dedupe(KeepingTransform):
    """Keeps one record of each key, within a batch. Over time a flow's `dedupe` does, when it is published."""

    key: str = Field(min_length=1, description="The field, or a JSON pointer; records without it are all kept.")
    keep: Literal["first", "last"] = Field("first", description="Which of them.")

    def __call__(self, record: list[Any]) -> list[Any]:
        records = record if self.keep == "first" else record[::-1]
        kept, seen, values = [], set[bytes](), dict[str, Any]()
        for one in records:
            value = found_at(one, self.key, "dedupe")
            if isinstance(value, Absent) or value is None:
                _say_keyless(self.key, "it is kept")
                kept.append(one)
            elif (name := msgspec.json.encode(value, order="deterministic")) not in seen:
                if isinstance(value, str | int) and (other := values.setdefault(str(value), value)) is not value:
                    say_kinds_differ(value, other, place=f"dedupe by {self.key}")
                seen.add(name)
                kept.append(one)
        return kept if self.keep == "first" else kept[::-1]


class Sample(KeepingTransform):
    """Keeps a share of the records, chosen by what they hold, so that the same ones are chosen each time."""

    share: float = Field(gt=0, le=1, description="Such as 0.01: one in a hundred.")
    key: str | None = Field(
        None,
        min_length=1,
        description="Chosen by this field or JSON pointer alone, so all of one user or none; records without it by "
        "all that they hold.",
    )

    def __call__(self, record: Any) -> Any:
        value = record if self.key is None else found_at(record, self.key, "sample")
        if isinstance(value, Absent) or value is None:
            value = record
            if self.key is not None:
                _say_keyless(self.key, "it is chosen by all that it holds")
        digest = hashlib.blake2b(encode_json(value), digest_size=8).digest()
        return record if int.from_bytes(digest) < self.share * 2**64 else None


def _say_keyless(key: str, so: str) -> None:
    repeats.warn("record_without_key", kind="", of=key, key=key, mend=f"{so}: is the pointer right?")
