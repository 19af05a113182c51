"""`millrace schema`: sound JSON Schema that allows what `millrace check` allows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from millrace.cli.check import flows_schema
from tests.unit.test_flow_docs import EXAMPLES

ROOT = Path(__file__).resolve().parents[2]

KINDS: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
SUBSCHEMAS = ("additionalProperties", "items", "propertyNames")
MAPS_OF_SUBSCHEMAS = ("properties", "patternProperties", "$defs")
LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
LENGTHS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")


@cache
def schema() -> dict[str, Any]:
    return flows_schema()


def subschemas(found: Any) -> Iterator[dict[str, Any]]:
    """The schema and all that are in it. Fails on what JSON Schema 2020-12 doesn't know in that place."""
    assert isinstance(found, dict | bool), f"no schema: {found!r}"
    if isinstance(found, bool):
        return
    yield found
    for keyword, value in found.items():
        if keyword in SUBSCHEMAS:
            yield from subschemas(value)
        elif keyword in MAPS_OF_SUBSCHEMAS:
            for name, inner in value.items():
                assert keyword != "patternProperties" or re.compile(name)
                yield from subschemas(inner)
        elif keyword == "anyOf":
            assert value, "an anyOf of nothing"
            for inner in value:
                yield from subschemas(inner)
        elif keyword == "type":
            assert value in KINDS
        elif keyword == "required":
            assert len(set(value)) == len(value)
            assert all(isinstance(name, str) for name in value)
        elif keyword == "pattern":
            assert re.compile(value)
        elif keyword in LIMITS:
            assert isinstance(value, int | float)
        elif keyword in LENGTHS:
            assert isinstance(value, int)
            assert value >= 0
        elif keyword == "enum":
            assert isinstance(value, list)
        elif keyword in ("title", "description", "format", "$ref", "$schema"):
            assert isinstance(value, str)
        else:
            known = ("const", "default", "examples", "writeOnly")
            assert keyword in known, f"{keyword} is no keyword that this test knows"


def resolved(reference: str) -> Any:
    assert reference.startswith("#/$defs/")
    return schema()["$defs"][reference.removeprefix("#/$defs/")]


def fits(value: Any, found: Any) -> bool:
    """Whether a value is valid, by the keywords that `subschemas` lets pass."""
    if isinstance(found, bool):
        return found
    return all(_fits(value, keyword, wanted, found) for keyword, wanted in found.items())


def _fits(value: Any, keyword: str, wanted: Any, found: Mapping[str, Any]) -> bool:
    if keyword == "$ref":
        return fits(value, resolved(wanted))
    if keyword == "anyOf":
        return any(fits(value, inner) for inner in wanted)
    if keyword == "type":
        return isinstance(value, KINDS[wanted]) and (wanted == "boolean" or not isinstance(value, bool))
    if keyword in ("const", "enum"):
        return value in (wanted if keyword == "enum" else [wanted])
    if isinstance(value, str) and keyword in ("pattern", "minLength", "maxLength"):
        return {
            "pattern": lambda: re.search(wanted, value) is not None,
            "minLength": lambda: len(value) >= wanted,
            "maxLength": lambda: len(value) <= wanted,
        }[keyword]()
    if isinstance(value, int | float) and not isinstance(value, bool) and keyword in LIMITS:
        return {
            "minimum": value >= wanted,
            "maximum": value <= wanted,
            "exclusiveMinimum": value > wanted,
            "exclusiveMaximum": value < wanted,
        }[keyword]
    if isinstance(value, list) and keyword == "items":
        return all(fits(item, wanted) for item in value)
    if isinstance(value, dict):
        return _mapping_fits(value, keyword, wanted, found)
    return True


def _mapping_fits(value: dict[str, Any], keyword: str, wanted: Any, found: Mapping[str, Any]) -> bool:
    if keyword == "required":
        return set(wanted) <= value.keys()
    if keyword == "minProperties":
        return len(value) >= wanted
    if keyword == "propertyNames":
        return all(fits(name, wanted) for name in value)
    if keyword == "properties":
        return all(fits(value[name], inner) for name, inner in wanted.items() if name in value)
    if keyword == "additionalProperties":
        patterns = found.get("patternProperties", {})
        others = value.keys() - found.get("properties", {}).keys()
        return all(fits(value[name], wanted) for name in others if not any(re.search(p, name) for p in patterns))
    return True


class TextOfDates(yaml.SafeLoader):
    """As editors read YAML: 1.2, in which a date is text."""


TextOfDates.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if "timestamp" not in tag]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def declared(text: str) -> Any:
    return yaml.load(text, TextOfDates)


def test_the_schema_is_sound_json_schema_of_2020_12() -> None:
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(schema())) == schema()
    assert len(list(subschemas(schema()))) > 100


def test_every_reference_leads_to_a_definition_and_every_definition_is_led_to() -> None:
    references = {found["$ref"] for found in subschemas(schema()) if "$ref" in found}
    assert references == {f"#/$defs/{name}" for name in schema()["$defs"]}


def test_every_option_has_a_description_for_the_editor_to_show() -> None:
    definitions = schema()["$defs"]
    bare = [
        f"{name}.{option}"
        for name, definition in definitions.items()
        for option, found in definition.get("properties", {}).items()
        if not (found.get("description") or resolved(_reference(found)).get("description"))
    ]
    assert bare == []


def _reference(found: Mapping[str, Any]) -> str:
    """The definition that a property is of, where it has no description itself."""
    inner = [found, *found.get("anyOf", [])]
    return next((part["$ref"] for part in inner if "$ref" in part), "#/$defs/Flow")


def test_the_shipped_flows_are_valid() -> None:
    assert fits(declared((ROOT / "flows.yaml").read_text()), schema())


@pytest.mark.parametrize("place", EXAMPLES)
def test_every_flows_file_that_a_page_shows_is_valid(place: str) -> None:
    assert fits(declared(EXAMPLES[place]), schema())


SOURCE = "source: {type: scrapy, spider: quotes}"
SINK = "sink: {type: jsonl, path: data}"


@pytest.mark.parametrize(
    "options",
    [
        "lease: 5",
        "lease: 1m30s",
        "lease: ${LEASE:-60s}",
        "max_attempts: ${N:-3}",
        "batch: {records: '${N}', bytes: 4kB, linger: 0.5}",
        "queue: {max_ready: 5}",
        "queue: {key: '${K}'}",
        "dedupe: {window: 7d, key: /a}",
        "transforms: ['m:f', '${F}']",
        "model: m:M",
        "sink: {type: '${SINK}', anything: 1}",
        "sink: {type: 'mine:Sink', anything: 1}",
        "sink: {type: jsonl, path: data, compression: '${C:-none}', envelope: '${E}'}",
        "sink: {type: csv, path: data, columns: {a: /b}}",
        "source: {type: sse, url: '${URL}', since: 2026-11-20T00:00:00Z, max_event_bytes: 1MiB}",
    ],
)
def test_what_is_right_is_valid(options: str) -> None:
    parts = [part for part in (SOURCE, SINK) if part.partition(":")[0] != options.partition(":")[0]]
    assert fits({"flows": {"a": declared("\n".join([*parts, options]))}}, schema())


@pytest.mark.parametrize(
    "options",
    [
        "lease: soon",
        "lease: [5]",
        "leese: 5",
        "name: a",
        "max_attempts: 0",
        "max_attempts: many",
        "batch: {records: 0}",
        "batch: {size: 5}",
        "batch: 5",
        "dedupe: {}",
        "transforms: m:f",
        "transforms: [5]",
        "sink: {type: jsnol, path: data}",
        "sink: {type: jsonl}",
        "sink: {type: jsonl, path: data, columns: []}",
        "sink: {type: jsonl, path: data, compression: lzma}",
        "sink: jsonl",
        "sink: {path: data}",
        "source: {type: sse}",
        "source: {type: sse, url: x, read_timeout: never}",
    ],
)
def test_what_is_wrong_is_not_valid(options: str) -> None:
    parts = [part for part in (SOURCE, SINK) if part.partition(":")[0] != options.partition(":")[0]]
    assert not fits({"flows": {"a": declared("\n".join([*parts, options]))}}, schema())


@pytest.mark.parametrize(
    "text",
    ["{}", "flows: {}", "flows:", "flow: {a: {}}", "flows: {a: 5}", f"flows: {{A: {{{SOURCE}, {SINK}}}}}", "[]"],
)
def test_what_is_no_flows_file_is_not_valid(text: str) -> None:
    assert not fits(declared(text), schema())


@pytest.mark.parametrize("part", [SOURCE, SINK])
def test_a_flow_without_a_source_or_a_sink_is_not_valid(part: str) -> None:
    assert not fits(declared(f"flows: {{a: {{{part}}}}}"), schema())


@pytest.mark.parametrize(("name", "well"), [("shop", True), ("2024.10", True), ("${SHOP}", True), ("two words", False)])
def test_a_project_may_be_named_at_the_top(name: str, well: bool) -> None:
    assert fits(declared(f"project: {name}\nflows: {{a: {{{SOURCE}, {SINK}}}}}"), schema()) == well


def test_keys_of_ones_own_may_stand_at_the_top() -> None:
    assert fits(declared(f"x-own: {{a: 1}}\nflows: {{a: {{{SOURCE}, {SINK}}}}}"), schema())
    assert not fits(declared(f"own: {{a: 1}}\nflows: {{a: {{{SOURCE}, {SINK}}}}}"), schema())
