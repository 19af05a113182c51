"""Nullable: which fields of a model take null and no text, so that an empty text in them can only mean null."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo


def nullable_fields(model: type[BaseModel]) -> frozenset[str]:
    """Return the names of such fields, as records have them."""
    found = set[str]()
    for name, field in model.model_fields.items():
        if _takes(field, None) and not _takes(field, ""):
            found |= _names(name, field)
    return frozenset(found)


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
