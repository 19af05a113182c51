"""Calling: a user's own function, found by its dotted path, and what it gives as records."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterable, Mapping
from typing import Any

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.reference import load_object
from millrace_producer.sources.base import DeadLetter, Record


def found(path: str) -> Any:
    """What `module:name` names. Raises ValueError, as a validator does, saying why it can't be had."""
    try:
        return load_object(path)
    except ConfigError as error:
        raise ValueError(str(error)) from error


def takes(function: Any, parameter: str) -> bool:
    """Whether the function has a parameter of this name."""
    signature = _signature(function)
    return signature is not None and parameter in signature.parameters


def check_arguments(path: str, function: Any, offered: Mapping[str, Any]) -> None:
    """Raises ValueError where the function can't be called with these arguments, by name."""
    signature = _signature(function)
    if signature is not None:
        try:
            signature.bind(**offered)
        except TypeError as error:
            raise ValueError(f"{path} can't be called with these arguments: {error}") from None


def each(items: Iterable[Any]) -> Generator[Any, None, None]:
    """The items. To close it is to close what they come from."""
    yield from items


def as_record(item: Any) -> Record | DeadLetter:
    """A record or dead letter as it is; anything else is a record's data."""
    return item if isinstance(item, Record | DeadLetter) else Record(item)


def _signature(function: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # of some that are written in C
        return None
