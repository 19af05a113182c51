"""Fast model: a struct that is read in place of a flow's model, where it says the same and is several times as fast.

Most models are plain: names, types, defaults. Of such a model a msgspec struct is made with the same fields. What the
struct takes, the model takes too, and makes the same values of; what it doesn't take may still fit the model (`"1"` for
an int), and is shown to the model itself. Where a model says anything that is not known here to mean the same (a
validator, a constraint, a union), it has no fast model.

The one difference: what a model doesn't know of a record is skipped by its fast model, where pydantic refuses more
than 200 levels and integers of more than 4,300 digits.
"""

from __future__ import annotations

import re
from abc import ABCMeta
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, TypeAlias

import msgspec
from pydantic import BaseModel

Schema: TypeAlias = Mapping[str, Any]
"""A part of pydantic's core schema: what a model's validator is made from, so all that it does."""


class FastModel:
    """Reads JSON texts as a model's fields: what it returns has an attribute for each, of the same name and value.

    `blank` is what it makes of a record with no field at all; None where the model wants one.
    """

    def __init__(self, struct: type[msgspec.Struct], names: Collection[str]) -> None:
        self._decode = msgspec.json.Decoder(struct, dec_hook=_moment).decode
        fields = [field for field in msgspec.structs.fields(struct) if field.name in names]
        self.blank = None if any(field.required for field in fields) else struct()
        there = [
            (field.name, msgspec.Raw | msgspec.UnsetType, msgspec.field(default=msgspec.UNSET, name=field.encode_name))
            for field in fields
        ]
        self._names = list(names)
        self._given = msgspec.json.Decoder(msgspec.defstruct("Given", there, kw_only=True, gc=False)).decode

    def decode_all(self, texts: Sequence[bytes | msgspec.Raw]) -> list[Any] | None:
        """Return all of the records, or None where it doesn't take one of them."""
        try:
            return list(map(self._decode, texts))
        except _REFUSALS:
            return None

    def decode(self, text: bytes | msgspec.Raw) -> Any | None:
        """Return the record, or None where it doesn't take it."""
        try:
            return self._decode(text)
        except _REFUSALS:
            return None

    def given(self, text: bytes | msgspec.Raw) -> frozenset[str]:
        """Return the fields that stand in a record which it takes: the others have their defaults."""
        there = self._given(text)
        return frozenset(name for name in self._names if getattr(there, name) is not msgspec.UNSET)


_REFUSALS = (msgspec.DecodeError, ValueError, RecursionError)


@lru_cache(maxsize=64)
def fast_model_of(model: type[BaseModel]) -> FastModel | None:
    """Return the fast model of a model that is plain enough, else None."""
    schema: Schema = model.__pydantic_core_schema__
    parts: list[Schema] = []
    if schema["type"] == "definitions":
        parts, schema = schema["definitions"], schema["schema"]
    try:
        return FastModel(_struct(schema, {part["ref"]: part for part in parts}, ()), list(model.model_fields))
    except (_NoTwin, TypeError, ValueError, KeyError):  # the last: two fields of one name, a default of another kind
        return None


class _NoTwin(Exception):
    """The model says something that a struct doesn't."""


def _only(schema: Schema, *known: str) -> None:
    """Raises _NoTwin where a schema says more than this."""
    if schema.keys() - {"type", "metadata", "ref", *known}:
        raise _NoTwin


def _struct(schema: Schema, parts: Mapping[str, Schema], within: tuple[str, ...]) -> type[msgspec.Struct]:
    """The struct of a model's schema. `within` are the models around it, for one that holds itself."""
    schema = _resolved(schema, parts)
    _only(schema, "cls", "config", "schema", "custom_init", "root_model")
    fields = schema["schema"]
    _only(fields, "fields", "model_name", "computed_fields")
    ref, config = schema.get("ref", ""), schema["config"]
    plain = (schema["type"], fields["type"], fields["computed_fields"]) == ("model", "model-fields", [])
    if schema["custom_init"] or schema["root_model"] or ref in within or not plain:
        raise _NoTwin
    if config.keys() - {"title", "frozen", "validate_by_name", "validate_by_alias", "extra_fields_behavior"}:
        raise _NoTwin
    if config.get("extra_fields_behavior", "ignore") != "ignore":
        raise _NoTwin
    by_alias, by_name = config.get("validate_by_alias", True), config.get("validate_by_name", False)
    made: list[Any] = []
    for name, field in fields["fields"].items():
        _only(field, "schema", "validation_alias", "serialization_alias", "serialization_exclude", "frozen")
        kind, default = _with_default(field["schema"], parts, (*within, ref))
        alias = field.get("validation_alias", name)
        if not isinstance(alias, str) or not by_alias:
            raise _NoTwin
        made.append((name, kind, msgspec.field(default=default, name=alias)))
        if by_name and alias != name:
            # A record that calls the field by its name is for the model to read: refuse whatever stands there.
            made.append((f"{name}_by_name", _NOTHING, msgspec.field(default=msgspec.UNSET, name=name)))
    return msgspec.defstruct(schema["cls"].__name__, made, kw_only=True, gc=False)


_NOTHING = Annotated[int, msgspec.Meta(gt=0, lt=0)] | msgspec.UnsetType
"""A type that no value has."""


def _with_default(schema: Schema, parts: Mapping[str, Schema], within: tuple[str, ...]) -> tuple[Any, Any]:
    """A field's type, and its default or NODEFAULT."""
    schema = _resolved(schema, parts)
    if schema["type"] != "default":
        return _type(schema, parts, within), msgspec.NODEFAULT
    _only(schema, "schema", "default")
    default = schema["default"]
    if not (default is None or type(default) in (str, int, float, bool) or default in ([], {})) or default != default:
        raise _NoTwin  # the last: NaN, by which no blank record could be known
    if default is not None and type(default) not in _defaults_of(schema["schema"], parts):
        raise _NoTwin  # nobody looks at a default: as a model's own value it is looked at before it is in a column
    return _type(schema["schema"], parts, within), default


def _defaults_of(schema: Schema, parts: Mapping[str, Schema]) -> Collection[type]:
    """The types of a default that is what its field says."""
    while (schema := _resolved(schema, parts))["type"] == "nullable":
        schema = schema["schema"]
    return _DEFAULTS.get(schema["type"], ())


_DEFAULTS: Mapping[str, Collection[type]] = {
    **{kind.__name__: {kind} for kind in (str, int, bool, list, dict)},
    "float": {float, int},
    "any": {str, int, float, bool, list, dict},
}


def _type(schema: Schema, parts: Mapping[str, Schema], within: tuple[str, ...]) -> Any:
    schema = _resolved(schema, parts)
    match schema["type"]:
        case "nullable":
            _only(schema, "schema")
            return _type(schema["schema"], parts, within) | None
        case "list":
            _only(schema, "items_schema")
            return list[_type(schema["items_schema"], parts, within)]  # type: ignore[misc]
        case "dict":
            _only(schema, "keys_schema", "values_schema")
            if schema["keys_schema"] != {"type": "str"}:
                raise _NoTwin
            return dict[str, _type(schema["values_schema"], parts, within)]  # type: ignore[misc]
        case "model":
            return _struct(schema, parts, within)
        case "str":
            return _constrained(str, schema, "min_length", "max_length")
        case "int":
            return _constrained(int, schema, "gt", "ge", "lt", "le")
        case "datetime":
            _only(schema, "microseconds_precision")
            return _Moment
        case kind:
            _only(schema)
            return _PLAIN[kind]


_PLAIN: dict[str, Any] = {"float": float, "bool": bool, "any": Any}


def _constrained(kind: type, schema: Schema, *constraints: str) -> Any:
    _only(schema, *constraints)
    limits = {name: schema[name] for name in constraints if name in schema}
    return Annotated[kind, msgspec.Meta(**limits)] if limits else kind


def _resolved(schema: Schema, parts: Mapping[str, Schema]) -> Schema:
    """The schema itself, where this one only names it."""
    while schema["type"] == "definition-ref":
        _only(schema, "schema_ref")
        schema = parts[schema["schema_ref"]]
    return schema


class _Moment(metaclass=ABCMeta):  # noqa: B024 - a name for datetime, that msgspec doesn't read by itself
    """A datetime as read by `_moment`: msgspec's own reading rounds where pydantic's truncates."""


_Moment.register(datetime)
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)?", re.ASCII)


def _moment(kind: type, value: Any) -> datetime:  # noqa: ARG001 - there is only one kind
    """A time in the form that nearly all are written in. Raises ValueError for others."""
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError("a time in another form")
    return datetime.fromisoformat(value)
