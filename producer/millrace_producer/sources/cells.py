"""Cells: values that are texts whatever they mean (of a CSV, of a stream's entry), and which of them mean null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self, TypeVar

from pydantic import AliasChoices, BaseModel, Field, PrivateAttr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

Value = TypeVar("Value")


class Cells(NamedTuple):
    """The texts that stand for null."""

    null: str | None = None
    """The text that does, in whatever field; None where none does, but an empty one in some fields."""
    nullable: frozenset[str] = frozenset()
    """Fields whose empty texts are null, since no text is what they want."""
    others: frozenset[str] = frozenset()
    """The other fields that are known."""

    def valued(self, row: Mapping[str, Value]) -> dict[str, Value | None]:
        """Return the row with None for what stands for null."""
        if self.null is not None:
            return {name: None if cell == self.null else cell for name, cell in row.items()}
        if self.nullable and "" in row.values():
            return {name: None if cell == "" and self._is_nullable(name) else cell for name, cell in row.items()}
        return dict(row)

    def _is_nullable(self, name: str) -> bool:
        """Return True for one of these fields, also in other letters, as the model takes it."""
        return name in self.nullable or (name not in self.others and name.casefold() in self.nullable)


class CellOptions(BaseModel):
    """Options of what stands for null, for all sources that read texts where a flow's model may have other types."""

    null: str | None = Field(
        default=None,
        description="What stands for null among texts (of a CSV, of a stream's entry), such as an empty text or NA. "
        "Default: an empty one, where the flow's model takes null for that field and no text.",
    )

    _fields_of_model: tuple[frozenset[str], frozenset[str]] = PrivateAttr(default=(frozenset(), frozenset()))

    @property
    def cells(self) -> Cells:
        """The texts that stand for null, by the options and the flow's model."""
        return Cells(self.null, *self._fields_of_model)

    def for_model(self, model: type[BaseModel] | None) -> Self:
        """See `Source.for_model`: it tells what an empty text is."""
        self._fields_of_model = _fields_of(model) if model else (frozenset(), frozenset())
        return self


def _fields_of(model: type[BaseModel]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names, as records have them, of the fields that take null and no text, in small letters too; others'.

    In small letters only where no two fields are alike in them.
    """
    nullable, others = set[str](), set[str]()
    for name, field in model.model_fields.items():
        found = nullable if _takes(field, None) and not _takes(field, "") else others
        found |= _names(name, field)
    alike = {name.casefold() for name in nullable} - {name.casefold() for name in others}
    return frozenset(nullable | alike), frozenset(others)


def _takes(field: FieldInfo, value: object) -> bool:
    kind: Any = field.annotation
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    except Exception:  # what a validator of the user's raised, or a type that is none by itself
        return value is not None  # so that nothing is taken for null
    return True


def _names(name: str, field: FieldInfo) -> set[str]:
    alias = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return {name, *(choice for choice in choices if isinstance(choice, str))}
