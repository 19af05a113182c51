"""Misfits: what is wrong with flows in ways that no single value shows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from millrace_pipeline.flows.document import Document
from millrace_pipeline.flows.problem import Problem, Steps

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
"""What a flow may be called: it stands in file names, labels and key names."""


def misfits(name: str, value: Any, document: Document) -> Iterator[Problem]:
    """Yield what is wrong with a flow as a whole, in words that the model doesn't have."""
    steps: Steps = ("flows", name)
    if not NAME.fullmatch(name):
        message = "expected a name of small letters, digits, - and _, 100 at most, that begins with no - or _"
        yield document.problem(steps, message, at_key=True)
    if not isinstance(value, dict):
        yield document.problem(steps, f"expected a source and a sink, not {document.shown(steps, value)}")
        return
    if "name" in value:
        yield document.problem((*steps, "name"), "unknown option: a flow's name is the key above it", at_key=True)
    if value.get("contract") is not None and value.get("model") is None:
        yield document.problem((*steps, "contract"), "holds records to a model: add `model: module:Class`")
    for part, example in (("source", "{type: scrapy, spider: quotes}"), ("sink", "{type: jsonl, path: data/quotes}")):
        where = (*steps, part)
        if part not in value:
            yield document.problem(where, f"is missing: expected one such as {example}")
        elif part == "sink" and isinstance(value[part], list):
            yield from _misfits_of_list(value[part], example, document, where)
        else:
            yield from _misfits_of_part(value[part], example, document, where)


def _misfits_of_part(value: Any, example: str, document: Document, where: Steps) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield document.problem(where, f"expected one such as {example}, not {document.shown(where, value)}")
    elif "type" not in value:
        yield document.problem((*where, "type"), f"is missing: expected one such as {example}")


def _misfits_of_list(values: list[Any], example: str, document: Document, where: Steps) -> Iterator[Problem]:
    """Return what is wrong with several sinks, beside what is wrong with each."""
    for index, value in enumerate(values):
        here = (*where, index)
        yield from _misfits_of_part(value, example, document, here)
        if isinstance(value, dict) and "type" in value and not isinstance(value["type"], str):
            shown = document.shown((*here, "type"), value["type"])
            yield document.problem((*here, "type"), f"expected text, not {shown}")
        if isinstance(value, dict) and not isinstance(value.get("required", True), bool):
            shown = document.shown((*here, "required"), value["required"])
            yield document.problem((*here, "required"), f"expected true or false, not {shown}")
        if value in values[:index]:
            yield document.problem(here, f"is the same as sink {values.index(value) + 1} of this list")
    if not any(isinstance(value, dict) and value.get("required", True) is True for value in values):
        yield document.problem(where, "expected at least one sink that is not `required: false`")


def shared_keys(keys: Mapping[str, str], document: Document) -> Iterator[Problem]:
    """Yield what is wrong with the lists of the flows, by their names: two may not share a key."""
    owners: dict[str, str] = {}
    for name, key in keys.items():
        owner = owners.setdefault(_stem(key), name)
        if owner != name:
            steps: Steps = ("flows", name, "queue", "key")
            shown = document.shown(steps, key)
            same = "is" if key == keys[owner] else "has the names beside it of"
            message = f"{shown} {same} the list of flow {owner} already: expected a list of its own"
            yield document.problem(steps, message)
    for name, key in keys.items():
        for stem, owner in owners.items():
            if key.startswith(f"{stem}:"):
                message = f"is among the names that flow {owner} uses beside its list: expected another"
                yield document.problem(("flows", name, "queue", "key"), message)


def taken_by_partitions(
    keys: Mapping[str, str], partitions: Mapping[str, str], document: Document
) -> Iterator[Problem]:
    """Yield which flows have the list of a partition of another flow, both by name with their lists."""
    owners = {key: name for name, key in partitions.items()}
    for name, key in keys.items():
        if key in owners:
            message = f"is the list of the partition {owners[key]} already: expected a list of its own"
            yield document.problem(("flows", name, "queue", "key"), message)


def _stem(key: str) -> str:
    """Return what the names of the keys beside a list begin with, as `millrace_pipeline.queue.keys` makes them."""
    return key if "{" in key else f"{{{key}}}"
