"""Chart: what the values of the Helm chart may be, from the values that `millrace render` takes.

python -m millrace.render.chart > deploy/helm/millrace/values.schema.json
"""

from __future__ import annotations

import json
import sys
from typing import Any

from millrace.render.values import Produce, Share, Values

AMOUNT = {"type": "string", "pattern": "^[0-9]+([.][0-9]+)?(k|Ki|M|Mi|G|Gi|T|Ti)?B?$"}
SECONDS = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[0-9]+(s|m|h)?$"}]}
"""A duration of one unit, since a template can't add up several."""

AMOUNTS = ("memory", "reserve", "maxmemory", "storage", "size")


def chart_schema() -> dict[str, Any]:
    """Return the JSON Schema of the chart's values: those of `millrace render`, and what only a chart is told."""
    schema = Values.model_json_schema()
    definitions = schema.pop("$defs")
    definitions |= {kind.__name__: kind.model_json_schema() for kind in (Produce, Share)}
    definitions["Shares"]["properties"] = {
        "producer": {"$ref": "#/$defs/Produce"},
        "consumer": {"$ref": "#/$defs/Share"},
    }
    for definition in (schema, *definitions.values()):
        for name, value in definition["properties"].items():
            if name in AMOUNTS:
                definition["properties"][name] = {**_said(value), **AMOUNT}
            elif name in ("grace", "idle", "age"):
                definition["properties"][name] = {**_said(value), **SECONDS}
    schema["properties"] |= {
        "env": {**_said(schema["properties"]["env"]), "additionalProperties": {"type": ["string", "number"]}},
        "files": {
            "description": "flows.yaml, and the modules beside it that it names.",
            "type": "object",
            "additionalProperties": {"type": "string"},
        },
        "access_version": {
            "description": "What the names of the Secrets end with: `millrace render secrets --version-only` says it.",
            "type": "string",
            "pattern": "^[0-9a-f]*$",
        },
        "global": {"type": "object"},
    }
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Values of the chart millrace"}
    whole: dict[str, Any] = _plain({**head, **schema, "title": head["title"], "$defs": definitions})
    return whole


def _said(value: dict[str, Any]) -> dict[str, Any]:
    return {name: value[name] for name in ("description", "type") if name in value}


def _plain(value: Any) -> Any:
    """Without defaults, which the chart has of its own, and titles, which say the names again."""
    if isinstance(value, dict):
        kept = {name: _plain(inner) for name, inner in value.items() if name not in ("default", "title")}
        return {**kept, **({"title": value["title"]} if "$schema" in value else {})}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.stdout.write(json.dumps(chart_schema(), indent=2, ensure_ascii=False) + "\n")
