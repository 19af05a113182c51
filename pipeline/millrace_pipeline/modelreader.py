"""Model reader: JSON read as a model, as pydantic reads it, but for what pydantic takes for something else.

What a record says is read by Millrace's own rules (docs/inputs.md): times of all forms by one function, and never
guessed; `true` is no number; a decimal keeps its digits. All else of a model, validators too, is pydantic's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, TypeAdapter
from pydantic_core import SchemaValidator, core_schema

from millrace_pipeline.modelvalues import BEFORE, before_union, reading, with_all_keys

Schema: TypeAlias = dict[str, Any]
"""A part of pydantic's core schema."""

_INNER = tuple(
    f"{part}schema"
    for part in (
        *("", "keys_", "values_", "extras_", "extras_keys_", "lax_", "strict_", "json_", "python_"),
        *("arguments_", "var_args_", "var_kwargs_"),
    )
)
_MANY = ("items_schema", "choices", "steps", "definitions", "fields")

_ISO = core_schema.str_schema(pattern=r"^\d{4}-\d\d-\d\d", strict=True)
_CLOCK = core_schema.str_schema(pattern=r"^\d\d:\d\d", strict=True)
_DIGITS = core_schema.str_schema(pattern=r"^[+-]?[0-9]+(?:\.[0-9]+)?$", strict=True)
_STRINGS: Mapping[str, Any] = {"datetime": _ISO, "date": _ISO, "time": _CLOCK}
_STRICT = ("int", "float")


class ModelReader:
    """Reads JSON texts as one model."""

    def __init__(self, model: type[BaseModel]) -> None:
        if not model.__pydantic_complete__:
            model.model_rebuild()
        schema: Any = model.__pydantic_core_schema__
        self._one = _validator(_rewritten(schema))
        items = core_schema.list_schema(_rewritten(schema))
        self._all = _validator(_hoisted(items))
        self._plain = _validator(_hoisted(core_schema.list_schema(_rewritten(schema, plainly=True))))

    def read(self, text: bytes, *, extra: Literal["forbid"] | None = None) -> Any:
        """Return the model that a text says. Raises ValidationError, or what a validator of the user's raises."""
        with reading(text):
            return self._one.validate_json(text, extra=extra)

    def read_value(self, value: Any) -> Any:
        """Return the model that Python values say. Raises as `read` does."""
        return self._one.validate_python(value)

    def read_all(self, text: bytes) -> list[Any]:
        """Return the models that a list says. Raises as `read` does.

        They are read first as records nearly always are, with no Python code a value, and by all rules only where one
        of them is not.
        """
        with reading(text):
            try:
                return list(self._plain.validate_json(text))
            except MemoryError:
                raise
            except Exception:  # also what a validator of the user's raises
                return list(self._all.validate_json(text))


@lru_cache(maxsize=64)
def reader_of(model: type[BaseModel]) -> ModelReader:
    """Return what reads JSON as this model."""
    return ModelReader(model)


def _validator(schema: Any) -> SchemaValidator:
    # What is prebuilt of models within is as pydantic has it.
    return SchemaValidator(schema, _use_prebuilt=False)


def _hoisted(items: Any) -> Any:
    """Definitions stand around the list, and not in it."""
    inner = items["items_schema"]
    if inner["type"] != "definitions":
        return items
    return core_schema.definitions_schema(core_schema.list_schema(inner["schema"]), inner["definitions"])


def _rewritten(
    schema: Schema, *, strict: bool = False, plainly: bool = False, somewhere_strict: bool | None = None
) -> Schema:
    """Return a schema in which what is read by our rules has a function before it.

    `plainly`: what is written as nearly all write it (a time in ISO 8601, a number as a number) is read without one,
    and nothing else is. `somewhere_strict`: whether any part of the whole schema is.
    """
    if somewhere_strict is None:
        somewhere_strict = _is_strict_within(schema)
    strict = bool((schema.get("config") or {}).get("strict", schema.get("strict", strict)))
    go = partial(_rewritten, strict=strict, plainly=plainly, somewhere_strict=somewhere_strict)
    kind = schema["type"]
    if kind in ("union", "tagged-union") and _is_of_scalars(schema):
        choices = _each(lambda choice: choice if choice["type"] in BEFORE else go(choice), schema["choices"])
        return _before(before_union(_kinds_of(schema)), {**schema, "choices": choices})
    if plainly and not strict:
        if kind in _STRICT:
            return _with_ref(schema, _number_or_its_digits)
        if kind in _STRINGS:
            return _with_ref(schema, lambda inner: core_schema.chain_schema([_STRINGS[kind], inner]))
    if kind in BEFORE and not (strict and kind in _STRICT):
        return _before(partial(BEFORE[kind], schema), schema)
    # What is strict takes from JSON more than from the values that a function gets.
    if kind == "dict" and _keys_may_become_one(schema) and not (strict or _is_strict_within(schema, somewhere_strict)):
        return _with_ref(
            _inwards(schema, go), lambda inner: core_schema.no_info_wrap_validator_function(with_all_keys, inner)
        )
    return _inwards(schema, go)


def _inwards(schema: Schema, go: Callable[[Schema], Schema]) -> Schema:
    made = dict(schema)
    for name in _INNER:
        if isinstance(inner := schema.get(name), dict) and "type" in inner:
            made[name] = go(inner)
    for name in _MANY:
        if name in schema:
            made[name] = _each(go, schema[name])
    return made


def _is_strict_within(part: Any, elsewhere: bool = False) -> bool:
    """Return True where a part of a schema is strict, or may be since it stands `elsewhere`."""
    if isinstance(part, dict):
        if part.get("strict") is True or (elsewhere and part.get("type") == "definition-ref"):
            return True
        return any(_is_strict_within(inner, elsewhere) for name, inner in part.items() if name != "metadata")
    return isinstance(part, list | tuple) and any(_is_strict_within(inner, elsewhere) for inner in part)


def _keys_may_become_one(schema: Schema) -> bool:
    keys = schema.get("keys_schema", {"type": "any"})
    changed = any(keys.get(name) for name in ("to_lower", "to_upper", "strip_whitespace"))
    return changed or keys["type"] not in ("str", "any")


def _each(go: Callable[[Schema], Schema], found: Any) -> Any:
    """Schemas wherever they are in a list, in a mapping by name, or beside a label."""
    if isinstance(found, dict):
        return (
            go(found) if isinstance(found.get("type"), str) else {name: _each(go, one) for name, one in found.items()}
        )
    if isinstance(found, list):
        return [_each(go, one) for one in found]
    if isinstance(found, tuple):
        return tuple(_each(go, one) for one in found)
    return found


def _before(function: Callable[[Any], Any], schema: Schema) -> Schema:
    return _with_ref(schema, lambda inner: core_schema.no_info_before_validator_function(function, inner))


def _with_ref(schema: Schema, around: Callable[[Any], Any]) -> Schema:
    """Put something around a schema, and make it what others refer to."""
    inner = {name: value for name, value in schema.items() if name != "ref"}
    made: Schema = {**around(inner)}
    return {**made, "ref": schema["ref"]} if "ref" in schema else made


def _number_or_its_digits(number: Any) -> Any:
    """A number, or text that is one, and nothing else."""
    digits = core_schema.chain_schema([_DIGITS, number])
    return core_schema.union_schema([{**number, "strict": True}, digits], mode="left_to_right")


def _choices(schema: Schema) -> Iterator[Schema]:
    choices = schema["choices"]
    for choice in choices.values() if isinstance(choices, dict) else choices:
        yield choice[0] if isinstance(choice, tuple) else choice


def _kinds_of(schema: Schema) -> frozenset[str]:
    return frozenset(choice["type"] for choice in _choices(schema))


def _is_of_scalars(schema: Schema) -> bool:
    """Return True for a union that is looked at as a whole by our rules, so that its choice stays as smart."""
    return bool(_kinds_of(schema) & BEFORE.keys())


def value_reader(kind: Any) -> Callable[[Any], Any]:
    """Return what reads a value as a type, by the same rules. It raises as pydantic does."""
    return _validator(_rewritten(TypeAdapter(kind).core_schema)).validate_python  # type: ignore[arg-type]
