"""Transforms of which records there are."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Literal

import jmespath  # type: ignore[import-untyped]
import msgspec
from jmespath.exceptions import JMESPathError  # type: ignore[import-untyped]
from jmespath.lexer import Lexer  # type: ignore[import-untyped]
from jmespath.visitor import TreeInterpreter  # type: ignore[import-untyped]
from pydantic import Field, PrivateAttr, field_validator

from millrace_consumer.transforms.base import KeepingTransform
from millrace_consumer.transforms.places import Absent, found_at
from millrace_pipeline.jsontext import encode_json
from millrace_pipeline.process.repeats import repeats

_COMPARATORS = {"eq", "ne", "lt", "lte", "gt", "gte"}
_ORDERS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)

_BARE_NAME = re.compile(r"""(?<![\w"'`@$-])(?<!\d\.)(?P<name>\d\w*[A-Za-z_]\w*|[A-Za-z_]\w*(?:-\w+)+)(?![\w"'`])""")
"""What stands bare in an expression and must not: a name that begins with a digit, or with a hyphen in it."""

_BARE_NUMBER = re.compile(r"(?:[<>]=?|[=!]=)\s*(?P<value>-?\d+(?:\.\d+)?)(?![\w`])")


def _mend(where: str) -> str:
    """Return how to write what JMESPath refuses, where that can be told: as names and literals are quoted there."""
    quoted = re.sub(r"""`[^`]*`|'[^']*'|"[^"]*\"""", lambda found: " " * len(found[0]), where)
    if name := next((found["name"] for found in _BARE_NAME.finditer(quoted)), None):
        rule = "A name that isn't letters, digits and _, a letter first, needs double quotes"
        return f'. {rule}: "{name}" (and backticks are for numbers)'
    if value := next((found["value"] for found in _BARE_NUMBER.finditer(quoted)), None):
        return f". A number, true, false or null needs backticks: `{value}`"
    return ". Numbers, true and false need backticks (`1`), text single quotes ('a'), odd names double quotes (\"a-b\")"


class Filter(KeepingTransform):
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
            said = " ".join(str(error).split())
            raise ValueError(f"expected a JMESPath expression: {said}{_mend(where)}") from error
        _refuse_what_means_something_else(where)
        return where

    def model_post_init(self, _context: Any) -> None:
        """Compiles the expression once."""
        self._expression = jmespath.compile(self.where).parsed

    def __call__(self, record: Any) -> Any:
        found = _STRICT.visit(self._expression, record)
        # Zero holds in JMESPath, as empty things don't.
        return record if found or (isinstance(found, int | float) and found is not False) else None


class _Strict(TreeInterpreter):  # type: ignore[misc]
    """JMESPath in which an order is one of numbers, or an error: the standard's answer, null, leaves out everything."""

    def visit_comparator(self, node: Any, value: Any) -> Any:
        order = _ORDERS.get(node["value"])
        if order:
            for side in node["children"]:
                found = self.visit(side, value)
                if found is not None and (isinstance(found, bool) or not isinstance(found, int | float)):
                    raise TypeError(f"{order} compares numbers, and one side is {_kind_of(found)}: cast it before")
        return super().visit_comparator(node, value)


_STRICT = _Strict()


def _kind_of(value: Any) -> str:
    return {bool: "true or false", str: "text", list: "a list"}.get(type(value), "an object")


def _refuse_what_means_something_else(where: str) -> None:
    """Raises ValueError for what JMESPath takes for the name of a field, and nobody means as one."""
    tokens = list(Lexer().tokenize(where))
    for before, token, after in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        kind, value = token["type"], token["value"]
        beside = {neighbour["type"] for neighbour in (before, after) if neighbour}
        if kind == "unquoted_identifier" and value in ("true", "false") and not beside & {"dot", "colon"}:
            raise ValueError(f"{value} without backticks is a field of that name: expected `{value}`")
        if (
            kind == "quoted_identifier"
            and before
            and before["type"] in _COMPARATORS
            and "dot" not in beside
            and _PLAIN_NAME.fullmatch(value)
        ):
            raise ValueError(f"\"{value}\" in double quotes names a field: text is in single quotes, '{value}'")


class Dedupe(KeepingTransform):
    """Keeps one record of each key, within a batch. Over time a flow's `dedupe` does, when it is published."""

    key: str = Field(min_length=1, description="The field, or a JSON pointer; records without it are all kept.")
    keep: Literal["first", "last"] = Field("first", description="Which of them.")

    def __call__(self, record: list[Any]) -> list[Any]:
        records = record if self.keep == "first" else record[::-1]
        kept, seen = [], set()
        for one in records:
            value = found_at(one, self.key)
            if isinstance(value, Absent) or value is None:
                _say_keyless(self.key, "it is kept")
                kept.append(one)
            elif (name := msgspec.json.encode(value, order="deterministic")) not in seen:
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
        value = record if self.key is None else found_at(record, self.key)
        if isinstance(value, Absent) or value is None:
            value = record
            if self.key is not None:
                _say_keyless(self.key, "it is chosen by all that it holds")
        digest = hashlib.blake2b(encode_json(value), digest_size=8).digest()
        return record if int.from_bytes(digest) < self.share * 2**64 else None


def _say_keyless(key: str, so: str) -> None:
    repeats.warn("record_without_key", kind=key, key=key, mend=f"{so}: is the pointer right?")
