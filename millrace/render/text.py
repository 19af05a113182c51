"""Text: values as YAML that a person reads, and that is the same each time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

WIDTH = 120


class Octal(int):
    """The mode of a file, written as one writes it: 0440."""


class Inline(dict[str, Any]):
    """A mapping on one line."""


class Anchored(dict[str, Any]):
    """A mapping that others are made from, by a name: `x-service: &service`."""

    name = "service"


MERGE = "<<"


class _Dumper(yaml.SafeDumper):
    def generate_anchor(self, _node: yaml.Node) -> str:
        return Anchored.name

    def ignore_aliases(self, data: Any) -> bool:
        return not isinstance(data, Anchored)

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - PyYAML's signature
        return super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    if text == MERGE:
        return dumper.represent_scalar("tag:yaml.org,2002:merge", text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


def _list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    short = all(isinstance(item, str | int) for item in items) and sum(len(str(item)) + 2 for item in items) < 90
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=short)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", ""))
_Dumper.add_representer(list, _list)
_Dumper.add_representer(Octal, lambda dumper, mode: dumper.represent_scalar("tag:yaml.org,2002:int", f"0{mode:o}"))
_Dumper.add_representer(
    Inline, lambda dumper, value: dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=True)
)
_Dumper.add_representer(
    Anchored, lambda dumper, value: dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=False)
)


def yaml_text(document: Mapping[str, Any]) -> str:
    """Return one document."""
    return yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, width=WIDTH, allow_unicode=True)


def yaml_texts(documents: Iterable[Mapping[str, Any]]) -> str:
    """Return several documents in one file."""
    return "---\n".join(map(yaml_text, documents))


def sharing(services: Mapping[str, dict[str, Any]], alike: Iterable[str]) -> tuple[Anchored, dict[str, dict[str, Any]]]:
    """Return what these services have in common, and all services with a reference in its place."""
    alike = list(alike)
    first = services[alike[0]]
    common = Anchored(
        {key: value for key, value in first.items() if all(services[name].get(key) == value for name in alike)}
    )
    return common, {
        name: {MERGE: common, **{key: value for key, value in service.items() if key not in common}}
        if name in alike
        else service
        for name, service in services.items()
    }
