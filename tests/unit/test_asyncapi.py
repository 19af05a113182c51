"""`millrace docs`: AsyncAPI 3 by its own rules, and schemas that say what is really on the lists."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from millrace.asyncapi import asyncapi, message_schema
from millrace.cli import docs as docs_cli
from millrace_pipeline.envelope import Record
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow, load
from millrace_producer.contract import Contract
from millrace_producer.entries import Entries

ROOT = Path(__file__).resolve().parents[2]

THEIRS = '''\
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Union
from uuid import UUID

from pydantic import BaseModel, Field


class Colour(Enum):
    RED = "red"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]


class Node(BaseModel):
    name: str
    children: list["Node"] = []


class Wide(BaseModel):
    """Everything that a model may hold."""

    schema_: str | None = Field(None, alias="$schema")
    n: Annotated[int, Field(ge=0, lt=100, description="A number.")]
    pair: tuple[int, str]
    when: datetime
    price: Decimal = Decimal("1.5")
    id: UUID | None = None
    colour: Colour = Field(Colour.RED, description="Which.")
    pet: Union[Cat, Dog] = Field(discriminator="kind")
    tree: Node | None = None
    extra: dict[str, list[Cat]] = {}
    whatever: Any = None


class Code(BaseModel):
    run: Callable[[], None]


def same(record):
    return record
'''

FITS: dict[str, Any] = {
    "$schema": "x",
    "n": 5,
    "pair": [1, "one"],
    "when": "2026-11-21T01:30:00Z",
    "price": "2.50",
    "id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "colour": "red",
    "pet": {"kind": "cat", "lives": 3},
    "tree": {"name": "root", "children": [{"name": "leaf", "children": []}]},
    "extra": {"cats": [{"kind": "cat"}]},
    "whatever": [1, {"a": None}],
}

FIELDS = {  # what the specification lets stand in each object, besides x-…
    "document": "asyncapi id info servers defaultContentType channels operations components",
    "info": "title version description termsOfService contact license tags externalDocs",
    "server": "host protocol protocolVersion pathname description title summary variables security tags bindings",
    "variable": "enum default description examples",
    "channel": "address messages title summary description servers parameters tags externalDocs bindings",
    "operation": "action channel title summary description security tags externalDocs bindings traits messages reply",
    "message": "headers payload correlationId contentType name title summary description tags externalDocs bindings "
    "examples traits",
    "components": "schemas servers channels operations messages securitySchemes serverVariables parameters "
    "correlationIds replies replyAddresses externalDocs tags operationTraits messageTraits bindings",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "theirs.py").write_text(THEIRS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    yield tmp_path
    sys.modules.pop("theirs", None)


def flows(folder: Path, **options: dict[str, Any]) -> dict[str, Flow]:
    source, sink = {"type": "sse", "url": "http://localhost/"}, {"type": "jsonl", "path": "out"}
    declared = {name: {"source": source, "sink": sink, **more} for name, more in options.items()}
    (folder / "flows.yaml").write_text(json.dumps({"flows": declared}))
    return dict(load(folder / "flows.yaml"))


WIDE = {"model": "theirs:Wide"}


def document(loaded: dict[str, Flow]) -> dict[str, Any]:
    made = asyncapi(loaded, title="Flows", version="1.2.3")
    assert json.loads(json.dumps(made)) == made
    return made


def found(reference: dict[str, str], whole: dict[str, Any]) -> Any:
    """What a reference leads to. Fails where it leads nowhere."""
    assert set(reference) == {"$ref"}
    place: Any = whole
    for step in reference["$ref"].removeprefix("#/").split("/"):
        place = place[step.replace("~1", "/").replace("~0", "~")]
    return place


def assert_fields(kind: str, value: dict[str, Any], *required: str) -> None:
    assert {name for name in value if not name.startswith("x-")} <= set(FIELDS[kind].split()), kind
    assert set(required) <= set(value), kind


def assert_asyncapi(whole: dict[str, Any]) -> None:
    """The rules of https://www.asyncapi.com/docs/reference/specification/v3.0.0 for what we use of it."""
    assert_fields("document", whole, "asyncapi", "info")
    assert whole["asyncapi"] == "3.0.0"
    assert_fields("info", whole["info"], "title", "version")
    for server in whole["servers"].values():
        assert_fields("server", server, "host", "protocol")
        for name, variable in server["variables"].items():
            assert f"{{{name}}}" in server["host"]
            assert_fields("variable", variable)
    for channel in whole["channels"].values():
        assert_fields("channel", channel)
        assert channel["address"] is None or not set("{}?#") & set(channel["address"])
        assert all(found(server, whole) in whole["servers"].values() for server in channel["servers"])
        for message in channel["messages"].values():
            assert found(message, whole) in whole["components"]["messages"].values()
    addresses = [channel["address"] for channel in whole["channels"].values() if channel["address"]]
    assert len(set(addresses)) == len(addresses)
    for operation in whole["operations"].values():
        assert_fields("operation", operation, "action", "channel")
        assert operation["action"] in ("send", "receive")
        channel = found(operation["channel"], whole)
        assert channel in whole["channels"].values()
        assert operation["channel"]["$ref"].count("/") == 2  # of the root, not of components
        for message in operation["messages"]:
            assert message["$ref"].startswith(operation["channel"]["$ref"] + "/messages/")
            found(message, whole)
    assert_fields("components", whole["components"])
    for kind in whole["components"].values():
        assert all(re.fullmatch(r"[\w.-]+", name) for name in kind)
    for message in whole["components"]["messages"].values():
        assert_fields("message", message)
        found(message["payload"], whole)
    for schema in whole["components"]["schemas"].values():
        jsonschema.Draft7Validator.check_schema(schema)
        assert_draft_07(schema, whole)


def assert_draft_07(schema: Any, whole: dict[str, Any]) -> None:
    """No keyword that draft 07 doesn't have, no neighbour of a reference, and no reference that leads nowhere."""
    if isinstance(schema, list):
        for inner in schema:
            assert_draft_07(inner, whole)
    if not isinstance(schema, dict):
        return
    if "$ref" in schema:
        found(schema, whole)
    for keyword, value in schema.items():
        assert keyword not in ("$defs", "prefixItems", "unevaluatedProperties", "dependentRequired")
        if keyword == "discriminator":
            assert isinstance(value, str)
        if keyword == "properties":
            assert_draft_07(list(value.values()), whole)
        elif keyword not in ("default", "const", "enum", "examples"):
            assert_draft_07(value, whole)


def published(flow: Flow, data: Any, **given: Any) -> dict[str, Any]:
    """An envelope as the producer puts it on the list."""
    entry = Entries(flow.name, mark=flow.queue.key, session="s", contract=Contract.of(flow)).make(Record(data, **given))
    line: dict[str, Any] = json.loads(entry.line)
    return line


def fits(line: dict[str, Any], schema: dict[str, Any]) -> bool:
    jsonschema.Draft202012Validator.check_schema(schema)
    return bool(jsonschema.Draft202012Validator(schema).is_valid(line))


def test_the_document_keeps_the_rules_of_asyncapi_3(folder: Path) -> None:
    loaded = flows(folder, wide={**WIDE, "contract": "quarantine"}, plain={}, tagged={"queue": {"key": "{tag}:list"}})
    whole = document(loaded)
    assert_asyncapi(whole)
    assert set(whole["channels"]) == {"wide", "wide.variants", "plain", "tagged"}
    assert whole["channels"]["plain"]["address"] == "millrace:plain"
    assert (whole["channels"]["tagged"]["address"], whole["channels"]["tagged"]["x-redis-key"]) == (None, "{tag}:list")
    assert whole["channels"]["wide.variants"]["x-redis-key"] == "{millrace:wide}:variants"
    assert (whole["operations"]["wide.publish"]["action"], whole["operations"]["wide.deliver"]["action"]) == (
        "send",
        "receive",
    )


def test_the_shipped_flows_keep_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    whole = document(dict(load(ROOT / "flows.yaml")))
    assert_asyncapi(whole)
    assert "wikipedia.Meta" in whole["components"]["schemas"]


def test_a_published_record_fits_the_schema_of_its_flow(folder: Path) -> None:
    loaded = flows(folder, wide=WIDE, plain={})
    assert fits(published(loaded["wide"], FITS), message_schema(loaded["wide"]))
    for data in ({"a": 1}, [1], "text", None):
        assert fits(published(loaded["plain"], data, key="k", type="T"), message_schema(loaded["plain"]))


@pytest.mark.parametrize(
    "wrong",
    [{"n": "five"}, {"n": 100}, {"pair": ["one", 1]}, {"pet": {"kind": "cow"}}, {"tree": {"children": []}}],
    ids=str,
)
def test_one_that_does_not_fit_the_model_does_not_fit_the_schema(folder: Path, wrong: dict[str, Any]) -> None:
    loaded = flows(folder, wide=WIDE)
    assert not fits(published(loaded["wide"], {**FITS, **wrong}), message_schema(loaded["wide"]))


def test_under_a_strict_contract_unknown_fields_do_not_fit_and_without_they_do(folder: Path) -> None:
    for contract, allowed in (({}, True), ({"contract": "evolve"}, True), ({"contract": "freeze"}, False)):
        (flow,) = flows(folder, wide={**WIDE, **contract}).values()
        for more in ({"more": 1}, {"tree": {"name": "root", "more": 1}}):
            loose = {**json.loads(json.dumps(published(flow, FITS)))}
            loose["data"] |= more
            assert fits(loose, message_schema(flow)) is allowed


def test_a_variant_fits_the_message_of_the_variant_list(folder: Path) -> None:
    loaded = flows(folder, wide={**WIDE, "contract": "quarantine"})
    whole = document(loaded)
    schema = whole["components"]["schemas"]["wide.variants"]
    variant = published(loaded["wide"], {"n": 1})
    assert "n" in variant["data"]
    assert jsonschema.Draft7Validator(schema).is_valid(variant)
    assert not jsonschema.Draft7Validator(schema).is_valid(published(loaded["wide"], FITS))


def test_the_schema_in_the_document_says_the_same_as_the_one_of_its_own(folder: Path) -> None:
    loaded = flows(folder, wide=WIDE)
    whole = document(loaded)
    in_document = jsonschema.Draft7Validator({**whole, "$ref": "#/components/schemas/wide"})
    assert in_document.is_valid(published(loaded["wide"], FITS))
    for wrong in ({"n": "five"}, {"pair": ["one", 1]}, {"tree": {"children": []}}):
        assert not in_document.is_valid(published(loaded["wide"], {**FITS, **wrong}))


def test_where_transforms_stand_between_the_schema_says_so(folder: Path) -> None:
    (plain,) = flows(folder, a=WIDE).values()
    (changed,) = flows(folder, a={**WIDE, "transforms": ["theirs:same"]}).values()
    assert "theirs:same" not in json.dumps(message_schema(plain))
    assert "theirs:same" in message_schema(changed)["properties"]["data"]["description"]


def test_a_model_that_json_schema_can_not_say_is_named(folder: Path) -> None:
    (flow,) = flows(folder, a={"model": "theirs:Code"}).values()
    with pytest.raises(ConfigError, match=r"flow a: JSON Schema can't say what theirs:Code is"):
        message_schema(flow)


class TestCommand:
    def run(self, *arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(docs_cli.app, list(arguments))
        assert done.exit_code == code, (done.output, done.exception)
        return done.output

    def test_it_prints_the_document_of_all_flows_or_of_some(self, folder: Path) -> None:
        flows(folder, wide=WIDE, plain={})
        assert set(json.loads(self.run())["channels"]) == {"wide", "plain"}
        whole = json.loads(self.run("plain", "--title", "Ours", "--version", "2.0.0"))
        assert set(whole["channels"]) == {"plain"}
        assert (whole["info"]["title"], whole["info"]["version"]) == ("Ours", "2.0.0")

    def test_it_prints_one_flows_schema(self, folder: Path) -> None:
        loaded = flows(folder, wide=WIDE, plain={})
        assert json.loads(self.run("wide", "--schema")) == message_schema(loaded["wide"])
        with pytest.raises(ConfigError, match="name one of wide, plain"):
            CliRunner().invoke(docs_cli.app, ["--schema"], catch_exceptions=False)

    def test_it_writes_files_that_are_the_same_each_time(self, folder: Path) -> None:
        flows(folder, wide=WIDE, plain={})
        first = {}
        for _ in range(2):
            said = self.run("--into", "api/v1")
            made = {path.name: path.read_bytes() for path in (folder / "api" / "v1").iterdir()}
            assert made == (first or made)
            first = made
        assert set(first) == {"asyncapi.json", "wide.schema.json", "plain.schema.json"}
        assert said.splitlines() == ["api/v1/asyncapi.json", "api/v1/wide.schema.json", "api/v1/plain.schema.json"]

    def test_a_folder_that_can_not_be_made_ends_it_with_1(self, folder: Path) -> None:
        flows(folder, plain={})
        (folder / "file").touch()
        self.run("--into", "file/api", code=1)

    def test_nothing_of_the_environment_is_in_it(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REDIS_URL", "redis://:hunter2@example.com:1/0")
        monkeypatch.setenv("TOKEN", "hunter2")
        source = {"type": "sse", "url": "http://localhost/${TOKEN}", "headers": {"Authorization": "${TOKEN}"}}
        flows(folder, plain={"source": source})
        assert "hunter2" not in self.run() + self.run("plain", "--schema")
