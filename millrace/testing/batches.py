"""Batches as the runner hands them over, and records to fill them with."""

from __future__ import annotations

import json
import random
from importlib import import_module
from typing import Any

import msgspec
from pydantic import BaseModel

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import Sink
from millrace_consumer.transforms import apply
from millrace_pipeline.envelope import Envelope

TIME = "2026-11-21T01:30:00.123456Z"


def bulk(count: int, size: int = 1000) -> list[dict[str, Any]]:
    """Records that don't compress to nothing, the same ones every time."""
    dice = random.Random(count)
    return [{"id": f"{number}", "text": dice.randbytes(size // 2).hex(), "number": number} for number in range(count)]


def batch_of(id: str, values: list[Any], model: type[BaseModel] | None = None) -> Batch:
    """Return a batch as the runner would hand it over: JSON text where a value can be one."""
    envelopes = [Envelope(f"{id}-{index}", "contract", "Thing", TIME, _data(v)) for index, v in enumerate(values)]
    if model is None:
        return Batch(id, envelopes)
    outcome = apply(envelopes, model=model)
    assert not outcome.rejected, outcome.rejected
    return Batch(id, outcome.envelopes, model=model, rows=outcome.rows)


def _data(value: Any) -> Any:
    try:
        return msgspec.Raw(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    except TypeError:
        return value  # as a transform might have returned it


def sink_of(dotted: str, options: dict[str, Any]) -> Sink:
    """Return the sink that `module:Class` names, with these options."""
    sink = named(dotted)(**options)
    assert isinstance(sink, Sink)
    return sink


def named(dotted: str) -> Any:
    """What `module:name` names."""
    module, name = dotted.split(":")
    return getattr(import_module(module), name)
