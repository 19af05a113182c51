"""The JSON Schema of `flows.yaml`, for editors: completion, help and red underlines while one types.

A variable may stand wherever a plain value may, so numbers and choices also take text with a `${…}` in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from millrace_pipeline.flows.component import entry_points
from millrace_pipeline.flows.flow import PROJECT, Flow
from millrace_pipeline.flows.misfits import NAME
from millrace_pipeline.flows.reference import load_object

DIALECT = "https://json-schema.org/draft/2020-12/schema"
VARIABLE = {"type": "string", "pattern": r"\$\{", "description": "${NAME} or ${NAME:-default}, from the environment."}

_WITH_LIMITS = frozenset({"pattern", "format", "enum", "const", "minLength", "maxLength"})


def schema(sources: Mapping[str, str], sinks: Mapping[str, str], transforms: Mapping[str, str]) -> dict[str, Any]:
    """The schema, with the options of these sources, sinks and transforms and of those that installed packages add.

    The tables map each known type to the dotted path of its class. Raises ConfigError for a class that can't be had.
    """
    flow = Flow.model_json_schema(ref_template="#/$defs/{model}")
    definitions = flow.pop("$defs")
    definitions.pop("Component", None)
    definitions["QueueOptions"]["required"] = []
    del flow["properties"]["name"]
    flow["required"] = ["source", "sink"]
    for kind, table in (("source", sources), ("sink", sinks)):
        known = {**{found.name: found.value for found in entry_points(kind)}, **table}
        flow["properties"][kind] = {
            "description": f"The {kind}: its type, and the options of that type.",
            "anyOf": [*(_component(kind, name, path, definitions) for name, path in known.items()), _of_your_own(kind)],
        }
    flow["properties"]["sink"]["anyOf"].append(_list_of_sinks(flow["properties"]["sink"]["anyOf"], definitions))
    known = {**{found.name: found.value for found in entry_points("transform")}, **transforms}
    flow["properties"]["transforms"]["items"] = {
        "anyOf": [
            {"type": "string", "minLength": 1, "description": "A function, as module:function."},
            *(_component("transform", name, path, definitions) for name, path in known.items()),
            _of_your_own("transform"),
        ]
    }
    definitions = {name: _or_variable(definition) for name, definition in definitions.items()}
    return {
        "$schema": DIALECT,
        "title": "Millrace flows",
        "type": "object",
        "required": ["flows"],
        "properties": {
            "project": {
                "description": "The name of this flows file and all its copies. Lists are marked with it, and commands "
                "change no list that bears another.",
                "anyOf": [{"type": "string", "pattern": f"^{PROJECT.pattern}$"}, {"type": "number"}, VARIABLE],
            },
            "flows": {
                "type": "object",
                "description": "The flows, by name.",
                "minProperties": 1,
                "propertyNames": {"pattern": f"^{NAME.pattern}$"},
                "additionalProperties": {"$ref": "#/$defs/Flow"},
            },
        },
        "patternProperties": {"^x-": {"description": "Your own: a place for anchors."}},
        "additionalProperties": False,
        "$defs": {**definitions, "Flow": _or_variable(flow), "Variable": VARIABLE},
    }


def _component(kind: str, name: str, path: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """One type's options. Definitions of its own are named after it, so that two types' don't collide."""
    model: type[BaseModel] = load_object(path)
    # By alias and as input: what a person writes, rather than what a program reads.
    found = _any_of(model.model_json_schema(ref_template=f"#/$defs/{kind}.{name}.{{model}}", mode="validation"))
    definitions.update({f"{kind}.{name}.{inner}": value for inner, value in found.pop("$defs", {}).items()})
    found["properties"] = {"type": {"const": name, "description": found.get("description", "")}, **found["properties"]}
    found["required"] = ["type", *found.get("required", [])]
    definitions[f"{kind}.{name}"] = found
    return {"$ref": f"#/$defs/{kind}.{name}"}


def _list_of_sinks(sinks: list[dict[str, Any]], definitions: dict[str, Any]) -> dict[str, Any]:
    """Several sinks, each of which may say whether it is required."""
    required = {"type": "boolean", "default": True, "description": "false: its failures hold nothing back."}
    each = []
    for sink in sinks:
        if name := sink.get("$ref", "").rpartition("/")[2]:
            whole = definitions[name]
            definitions[f"{name}.listed"] = {**whole, "properties": {**whole["properties"], "required": required}}
            each.append({"$ref": f"#/$defs/{name}.listed"})
        else:
            each.append(sink)
    return {"type": "array", "description": "Several sinks: each gets every batch.", "items": {"anyOf": each}}


def _any_of(found: Any) -> Any:
    """The same in JSON Schema's own words: `discriminator` is OpenAPI's, and a choice by a `const` needs no oneOf."""
    if isinstance(found, list):
        return [_any_of(item) for item in found]
    if not isinstance(found, dict):
        return found
    choice = {"discriminator", "oneOf"} <= found.keys()
    return {
        "anyOf" if choice and name == "oneOf" else name: _any_of(value)
        for name, value in found.items()
        if not (choice and name == "discriminator")
    }


def _of_your_own(kind: str) -> dict[str, Any]:
    return {
        "type": "object",
        "description": f"A {kind} of your own, by the path of its class: mypackage.{kind}s:My{kind.title()}",
        "required": ["type"],
        "properties": {"type": {"type": "string", "pattern": r":|\$\{"}},
    }


def _or_variable(found: Any) -> Any:
    """The schema, with text that holds a variable allowed wherever it allows a value that isn't just any text."""
    if not isinstance(found, dict):
        return found
    changed = dict(found)
    for name in ("properties", "patternProperties"):
        if name in changed:
            changed[name] = {
                key: value if key == "type" and "const" in value else _or_variable(value)
                for key, value in changed[name].items()
            }
    for name in ("items", "additionalProperties"):
        changed[name] = _or_variable(changed[name]) if name in changed else None
        if changed[name] is None:
            del changed[name]
    if "anyOf" in changed:
        changed["anyOf"] = [*changed["anyOf"], *([{"$ref": "#/$defs/Variable"}] if _is_plain(changed) else [])]
    elif _is_plain(changed):
        described = {key: changed.pop(key) for key in ("title", "description", "default") if key in changed}
        changed = {**described, "anyOf": [changed, {"$ref": "#/$defs/Variable"}]}
    return changed


def _is_plain(found: Mapping[str, Any]) -> bool:
    """Whether it allows a number, true, false, or text of a certain form."""
    if "anyOf" in found:
        return any(map(_is_plain, found["anyOf"]))
    return found.get("type") in ("integer", "number", "boolean") or bool(_WITH_LIMITS & found.keys())
