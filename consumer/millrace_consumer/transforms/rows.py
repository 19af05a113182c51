"""Transforms of which records there are."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import jmespath  # type: ignore[import-untyped]
from jmespath.exceptions import JMESPathError  # type: ignore[import-untyped]
from pydantic import Field, PrivateAttr, field_validator

from millrace_consumer.transforms.base import Transform
from millrace_pipeline.envelope import encode_json, resolve


class Filter(Transform):
    """Keeps the records for which an expression holds, in JMESPath (https://jmespath.org): what is null, false or
    empty doesn't.
    """

    where: str = Field(description="Such as ``bot == `false` && length.new > `100` ``.")

    _expression: Any = PrivateAttr()

    @field_validator("where")
    @classmethod
    def _is_an_expression(cls, where: str) -> str:
        try:
            jmespath.compile(where)
        except JMESPathError as error:
            raise ValueError(f"expected a JMESPath expression: {' '.join(str(error).split())}") from error
        return where

    def model_post_init(self, _context: Any) -> None:
        """Compiles the expression once."""
        self._expression = jmespath.compile(self.where)

    def __call__(self, record: Any) -> Any:
        found = self._expression.search(record)
        # Zero holds in JMESPath, as empty things don't.
        return record if found or (isinstance(found, int | float) and found is not False) else None


class Dedupe(Transform):
    """Keeps one record of each key, within a batch. Over time a flow's `dedupe` does, when it is published."""

    key: str = Field(min_length=1, description="The field, or a JSON pointer; records without it are all kept.")
    keep: Literal["first", "last"] = Field("first", description="Which of them.")

    def __call__(self, record: list[Any]) -> list[Any]:
        records = record if self.keep == "first" else record[::-1]
        kept, seen = [], set()
        for one in records:
            value = resolve(self.key, one)
            name = None if value is None else encode_json(value)
            if name is None or name not in seen:
                seen.add(name)
                kept.append(one)
        return kept if self.keep == "first" else kept[::-1]


class Sample(Transform):
    """Keeps a share of the records, chosen by what they hold, so that the same ones are chosen each time."""

    share: float = Field(gt=0, le=1, description="Such as 0.01: one in a hundred.")
    key: str | None = Field(
        None, min_length=1, description="Chosen by this field or JSON pointer alone, so all of one user or none."
    )

    def __call__(self, record: Any) -> Any:
        value = record if self.key is None else resolve(self.key, record)
        digest = hashlib.blake2b(encode_json(value), digest_size=8).digest()
        return record if int.from_bytes(digest) < self.share * 2**64 else None
