"""What is on the lists, for other programs: AsyncAPI 3 and JSON Schema of every flow's messages.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticUserError

from millrace.produced import is_produced
from millrace_pipeline.envelope import SPECVERSION
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.flows.schema import DIALECT
from millrace_pipeline.queue.keys import Keys

ASYNCAPI = "3.0.0"
CONTENT_TYPE = "application/cloudevents+json"

_REDIS_HOST = "localhost:6379"


def message_schema(flow: Flow) -> dict[str, Any]:
    """JSON Schema (2020-12) of a record as it stands on the flow's list: the envelope, and in it the flow's model.

    Raises ConfigError where the model can't be had or said in JSON Schema.
    """
    data, definitions = _data(flow, "#/$defs/{model}")
    schema = {"$schema": DIALECT, "title": flow.name, **_envelope(flow, data)}
    return {**schema, "$defs": definitions} if definitions else schema


def asyncapi(flows: Mapping[str, Flow], *, title: str, version: str) -> dict[str, Any]:
    """The AsyncAPI document: a channel a list, a message a flow, and who sends and receives it.

    Raises ConfigError as `message_schema` does.
    """
    schemas: dict[str, Any] = {}
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for name, flow in flows.items():
        data, definitions = _data(flow, f"#/components/schemas/{name}.{{model}}")
        schemas |= {f"{name}.{inner}": _draft_07(found) for inner, found in definitions.items()}
        schemas[name] = _draft_07(_envelope(flow, data))
        messages[name] = _message(name, f"A record of the flow {name}.")
        channels[name] = _channel(flow.queue.key, name, f"The list of the flow {name}: {_how(flow)}")
        senders = f"Producers read {flow.source.type} and LPUSH" if is_produced(flow) else "Others LPUSH"
        operations[f"{name}.publish"] = _operation("send", name, f"{senders}.")
        operations[f"{name}.deliver"] = _operation("receive", name, f"Consumers write to {flow.sink.type}.")
        if flow.contract == "quarantine":
            aside = f"{name}.variants"
            schemas[aside] = _draft_07(_variant(flow))
            messages[aside] = _message(aside, f"A record that didn't fit the contract of the flow {name}.")
            channels[aside] = _channel(Keys(flow.queue.key).variants, aside, f"What the contract of {name} set aside.")
            operations[f"{aside}.publish"] = _operation("send", aside, "Producers set aside what doesn't fit.")
    return {
        "asyncapi": ASYNCAPI,
        "info": {"title": title, "version": version, "description": "Flows of Millrace, as lists in Redis."},
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "redis": {
                "host": "{host}",
                "protocol": "redis",
                "description": "Redis ≥ 7.0 or Valkey ≥ 7.2; each channel is a list.",
                "variables": {"host": {"default": _REDIS_HOST, "description": "What REDIS_URL names."}},
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }


def _envelope(flow: Flow, data: dict[str, Any]) -> dict[str, Any]:
    """CloudEvents 1.0 in JSON, as `millrace_pipeline.envelope` writes it."""
    text = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "required": ["specversion", "id", "source", "type", "time", "data"],
        "properties": {
            "specversion": {"const": SPECVERSION},
            "id": {**text, "description": "The record's key, or a number of its producer's."},
            "source": {**text, "description": f"Who published it: {flow.name}."},
            "type": {**text, "description": "What it is: record, unless the source says otherwise."},
            "time": {"type": "string", "format": "date-time", "description": "When it happened, or was published."},
            "millrace": {
                "const": flow.queue.key,
                "description": "The mark of what Millrace itself published here. Leave it out: others' records are "
                "counted as foreign.",
            },
            "data": data,
        },
    }


def _variant(flow: Flow) -> dict[str, Any]:
    found = _envelope(flow, {})
    misfit = {"type": "string", "description": "Which fields don't fit the model, and what was expected."}
    return {
        **found,
        "required": [*found["required"], "misfit"],
        "properties": {**found["properties"], "misfit": misfit},
    }


def _data(flow: Flow, ref_template: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of the record itself, and the definitions that it refers to."""
    model = flow.load_model()
    if model is None:
        return {"description": "Any JSON: the flow has no model."}, {}
    found = _schema_of(model, flow, ref_template)
    definitions = found.pop("$defs", {})
    if flow.contract in ("freeze", "quarantine"):
        for part in (found, *definitions.values()):
            if "properties" in part:
                part.setdefault("additionalProperties", False)
    if flow.transforms and flow.contract in (None, "evolve"):
        what = f"The model holds for what the transforms make of it: {', '.join(flow.transform_paths)}."
        found["description"] = "\n\n".join(filter(None, (found.get("description"), what)))
    return found, definitions


def _schema_of(model: type[BaseModel], flow: Flow, ref_template: str) -> dict[str, Any]:
    try:
        return model.model_json_schema(by_alias=True, ref_template=ref_template, mode="validation")
    except PydanticUserError as error:
        raise ConfigError(f"flow {flow.name}: JSON Schema can't say what {flow.model} is: {error.message}") from error


def _how(flow: Flow) -> str:
    how = "head is newest, consumers take from the tail. A bare JSON object is taken for the data of a record, too."
    return f"{how} What doesn't fit the model: {flow.contract}." if flow.contract else how


def _message(name: str, summary: str) -> dict[str, Any]:
    payload = {"$ref": f"#/components/schemas/{name}"}
    return {"name": name, "title": name, "summary": summary, "contentType": CONTENT_TYPE, "payload": payload}


def _channel(key: str, name: str, description: str) -> dict[str, Any]:
    """A list. Braces in an address are parameters to AsyncAPI, so a key with a hash tag stands beside it."""
    return {
        "address": None if "{" in key else key,
        "title": name,
        "description": f"{description}\n\n`redis-cli LRANGE '{key}' 0 0` shows the newest.",
        "servers": [{"$ref": "#/servers/redis"}],
        "messages": {"record": {"$ref": f"#/components/messages/{name}"}},
        "x-redis-key": key,
    }


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/record"}],
    }


def _draft_07(found: Any) -> Any:
    """A schema of 2020-12, as pydantic writes it, in the words of AsyncAPI's Schema Object, which is of draft 07."""
    if isinstance(found, list):
        return [_draft_07(inner) for inner in found]
    if not isinstance(found, dict):
        return found
    changed: dict[str, Any] = {}
    for keyword, value in found.items():
        if keyword in ("properties", "patternProperties"):
            changed[keyword] = {name: _draft_07(inner) for name, inner in value.items()}
        elif keyword in ("const", "default", "enum", "examples"):
            changed[keyword] = value
        elif keyword == "prefixItems":
            changed["items"] = _draft_07(value)
            if "items" in found:
                changed["additionalItems"] = _draft_07(found["items"])
        elif keyword == "discriminator":
            changed[keyword] = value["propertyName"] if isinstance(value, dict) else value
        elif keyword != "items" or "prefixItems" not in found:
            changed[keyword] = _draft_07(value)
    if "$ref" in changed and len(changed) > 1:  # there its neighbours would be ignored
        changed["allOf"] = [{"$ref": changed.pop("$ref")}, *changed.get("allOf", ())]
    return changed
