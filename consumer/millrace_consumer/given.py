"""Given: which of a model's fields a record has, and what it has that the model doesn't know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from functools import lru_cache
from itertools import chain
from typing import Any, get_args

import msgspec
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from millrace_consumer.fastmodel import fast_model_of
from millrace_consumer.matching import listed
from millrace_pipeline.surrogates import well_formed

Texts = Sequence[bytes | msgspec.Raw]


def given_fields(rows: Sequence[Any], texts: Texts, model: type[BaseModel]) -> list[Set[str]]:
    """Return for each record the fields of its model that it has; the others have their defaults."""
    fast = fast_model_of(model)
    fields = model.model_fields.keys()
    return [
        row.model_fields_set & fields if isinstance(row, BaseModel) or fast is None else fast.given(text)
        for row, text in zip(rows, texts, strict=True)
    ]


def strangers(rows: Sequence[Any], texts: Texts, model: type[BaseModel]) -> dict[int, str]:
    """Return by index the reasons of records that have fields, and none that the model knows.

    `rows` are what was made of them: nothing but defaults. An empty record is none of them.
    """
    fast = fast_model_of(model)
    blank = None if fast is None else fast.blank
    fields = model.model_fields.keys()
    reasons = {}
    for index, row in enumerate(rows):
        if isinstance(row, BaseModel):
            if row.model_fields_set & fields:
                continue
        elif blank is None or row != blank or (fast and fast.given(texts[index])):
            continue
        if names := names_of(bytes(texts[index])):
            knows = _known_names(model)
            reasons[index] = f"model {model.__name__} knows none of its fields, {listed(names)}: it has {listed(knows)}"
    return reasons


def names_of(text: bytes) -> list[str]:
    """Return the names of an object's fields; none of anything else."""
    try:
        return list(_object.decode(well_formed(text)))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return []


_object = msgspec.json.Decoder(dict[str, msgspec.Raw])  # no value is looked at, of whatever size it is


def unknown_fields(text: bytes, model: type[BaseModel]) -> list[str]:
    """Return the fields of a record that its model drops, as paths such as `meta.note`.

    Where a model says itself that it ignores more (`extra`), or a nested one that it allows it, nothing of it is named.
    """
    try:
        model.model_validate_json(text, extra="forbid")
    except ValidationError as error:
        misfits = error.errors(include_url=False, include_context=False, include_input=False)
        places = [misfit["loc"] for misfit in misfits if misfit["type"] == "extra_forbidden"]
        return list(dict.fromkeys(".".join(map(str, place)) for place in places if not _is_said(model, place)))
    except MemoryError:
        raise
    except Exception:  # what a validator of the user's raised
        return []
    return []


def _is_said(model: type[BaseModel], place: Sequence[int | str]) -> bool:
    """Return True where the model of a place's last step says what becomes of fields that it doesn't know.

    One at the top that is to keep them (`extra="allow"`) has no column for them: there that is no answer.
    """
    for step in place[:-1]:
        name = _names_by_key(model).get(str(step))
        if name is None:
            continue  # a place in a list, or a branch of a union
        inner = next(_models_in(model.model_fields[name].annotation), None)
        if inner is None:
            return False
        model = inner
    return model.model_config.get("extra") in (("ignore", "allow") if len(place) > 1 else ("ignore",))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    yield from chain.from_iterable(map(_models_in, get_args(annotation)))


def _known_names(model: type[BaseModel]) -> list[str]:
    return [_key(name, field) for name, field in model.model_fields.items()]


@lru_cache(maxsize=64)
def _names_by_key(model: type[BaseModel]) -> Mapping[str, str]:
    names = {name: name for name in model.model_fields}
    return names | {_key(name, field): name for name, field in model.model_fields.items()}


def _key(name: str, field: FieldInfo) -> str:
    return field.validation_alias if isinstance(field.validation_alias, str) else name
