"""YAML text: what JSON says as YAML, with numbers as they are written and nothing that would steer a terminal."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import yaml


class _Number(str):
    """A number in the digits it is written with: neither 2^64 nor 0.1000 is another one."""


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        """Indent the items of a list, too."""
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Write twice what is there twice."""
        return True


def _number(dumper: _Dumper, number: _Number) -> yaml.ScalarNode:
    kind = "float" if set(number) & set(".eE") else "int"
    return dumper.represent_scalar(f"tag:yaml.org,2002:{kind}", str(number))


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(_Number, _number)
_Dumper.add_representer(str, _text)


def yaml_of(told: dict[str, Any]) -> str:
    """Return an object as YAML; `msgspec.Raw` in it is JSON."""
    text = msgspec.json.encode(told)
    try:
        value = json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_Number)
        written = yaml.dump(value, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=10_000)
    except RecursionError:
        return yaml.dump({"record_text": text.decode()}, allow_unicode=True, width=10_000)
    # PyYAML escapes what YAML forbids, which letters that turn others around are not; they stand in double quotes.
    return "".join(letter if letter.isprintable() or letter == "\n" else _escaped(letter) for letter in written)


def _escaped(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"
