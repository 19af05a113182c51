"""Model fields: the names that a record has which was validated by a model."""

from __future__ import annotations

from pydantic import BaseModel


def field_names(model: type[BaseModel]) -> list[str]:
    """The names that a model's record has: its fields and computed fields, in order, without those it excludes."""
    fields = [name for name, field in model.model_fields.items() if not field.exclude]
    return [*fields, *model.model_computed_fields]
