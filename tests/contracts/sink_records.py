"""The records that the sink contract writes, and the process whose children are killed while they write them.

`python -m tests.contracts.sink_records` takes one job as JSON a line: sink, options, model, batch id, records, kill
point, and where the child's standard output goes. For each it forks a child that writes the batch, and answers with
how that ended. Forking spares every kill the second that it takes to load the libraries.
"""

from __future__ import annotations

import json
import os
import random
import sys
import traceback
from importlib import import_module, reload
from typing import Any

import msgspec
from pydantic import BaseModel

import millrace_pipeline.killpoints
from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import Sink
from millrace_consumer.transforms import apply
from millrace_pipeline.envelope import Envelope

TIME = "2026-11-21T01:30:00.123456Z"


class Thing(BaseModel):
    """The model of the contract's records."""

    id: str
    text: str | None = None
    number: int | float | None = None
    flag: bool | None = None
    nested: dict[str, Any] | list[Any] | None = None


class NarrowThing(Thing):
    """The same with a number that must fit 64 bits once it is a column."""

    number: int | None = None


ORDINARY: list[dict[str, Any]] = [
    {
        "id": "plain",
        "text": "Zażółć gęślą jaźń, 水車, 🎡",
        "number": 1,
        "flag": True,
        "nested": {"a": [1, {"b": None}]},
    },
    {"id": "empty", "text": "", "number": 0, "flag": False, "nested": {}},
    {"id": "null", "text": None, "number": None, "flag": None, "nested": None},
    {"id": "missing"},
    {"id": "breaks", "text": 'a\r\nb\nc\rd\u2028e\u0085f\tg,h;"i"\\j', "nested": ["\n", '"', ","]},
    {"id": "controls", "text": "nul \x00 bell \x07 delete \x7f", "number": -1},
    {"id": "big", "number": 2**63 - 1},
    {"id": "long", "text": "long " * 20_000},
]
"""What any sink must give back as it was given."""


def bulk(count: int, size: int = 1000) -> list[dict[str, Any]]:
    """Records that don't compress to nothing, the same ones every time."""
    dice = random.Random(count)
    return [{"id": f"{number}", "text": dice.randbytes(size // 2).hex(), "number": number} for number in range(count)]


def batch_of(id: str, values: list[Any], model: type[BaseModel] | None = None) -> Batch:
    """A batch as the runner would hand it over: JSON text where a value can be one."""
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
    """The sink that `module:Class` names."""
    module, name = dotted.split(":")
    sink = getattr(import_module(module), name)(**options)
    assert isinstance(sink, Sink)
    return sink


def write_in_child(job: dict[str, Any]) -> int:
    """How a child that did the job ended: its exit status, or minus the signal that killed it."""
    import_module(job["sink"].split(":")[0])
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        os.environ["MILLRACE_KILLPOINT"] = job["point"]
        reload(millrace_pipeline.killpoints)  # which reads the variable when it is loaded
        os.dup2(os.open(job["stdout"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        model = {"Thing": Thing, "NarrowThing": NarrowThing, "": None}[job["model"]]
        sink_of(job["sink"], job["options"]).write(batch_of(job["id"], job["records"], model))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(f"{write_in_child(json.loads(line))}\n")
        sys.stdout.flush()
