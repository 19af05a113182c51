"""Evolving: a record that doesn't fit its flow's model, in the model's shape as far as it goes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, RootModel
from pydantic.aliases import AliasChoices, AliasPath
from pydantic.fields import FieldInfo

from millrace_pipeline.errors import EnvelopeError
from millrace_pipeline.jsontext import decode_json
from millrace_pipeline.modelreader import value_reader


def coerce_partially(text: bytes, model: type[BaseModel]) -> BaseModel | None:
    """The record as an instance of the model that was not validated, or None where it is no object.

    A field that fits holds what the model makes of it, one that doesn't what the JSON says, one that is missing its
    default or None. Fields that the model doesn't know are left to sinks that write the record's own bytes.
    """
    if issubclass(model, RootModel):
        return None
    try:
        values = decode_json(text)
    except EnvelopeError:
        return None
    if not isinstance(values, dict):
        return None
    instance = model.model_construct(_fields_set=set())
    for name, field in model.model_fields.items():
        given = next((key for key in _keys(name, field, model) if key in values), None)
        if given is not None:
            instance.__dict__[name] = coerce_or_keep(values[given], model, name)
            instance.__pydantic_fields_set__.add(name)
        else:
            instance.__dict__.setdefault(name, None)
    return instance


def _keys(name: str, field: FieldInfo, model: type[BaseModel]) -> list[str]:
    """What a field may be called in JSON. A path into another field is not followed."""
    alias: str | AliasPath | AliasChoices | None = field.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias] if alias is not None else []
    keys = [choice for choice in choices if isinstance(choice, str)]
    by_name = not keys or model.model_config.get("populate_by_name") or model.model_config.get("validate_by_name")
    return [*keys, name] if by_name else keys


def coerce_or_keep(value: Any, model: type[BaseModel], name: str) -> Any:
    try:
        return _readers(model)[name](value)
    except MemoryError:
        raise
    except Exception:  # ValidationError, or what a validator of the user's raised
        return value


@lru_cache(maxsize=64)
def _readers(model: type[BaseModel]) -> dict[str, Callable[[Any], Any]]:
    readers: dict[str, Callable[[Any], Any]] = {}
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        readers[name] = value_reader(Annotated[(kind, *field.metadata)] if field.metadata else kind)
    return readers
