"""Plan: what a flow does to every batch before its sink sees it, looked up once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from millrace_consumer.transforms import TRANSFORMS
from millrace_consumer.transforms.base import Transform
from millrace_consumer.transforms.chain import stages
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.process.span import NO_TRACES, Traces


@dataclass(frozen=True)
class Plan:
    """The flow's name, its list's `mark`, its transforms in order and its model, if it has one.

    Where the model `evolves`, what doesn't fit it is delivered as it is, to every sink that can write it.
    """

    flow: str
    mark: str
    transforms: Sequence[Callable[..., Any]] = ()
    model: type[BaseModel] | None = None
    evolves: bool = False
    attempts: int = 1
    """So often a record is tried that a transform wants to be given again later."""
    traces: Traces = NO_TRACES

    @classmethod
    def of(cls, flow: Flow, traces: Traces = NO_TRACES) -> Plan:
        """Return the flow's plan. Raises ConfigError for a transform or a model that can't be had or called."""
        transforms = flow.load_transforms(TRANSFORMS, Transform)
        stages(tuple(transforms))
        evolves = flow.contract == "evolve"
        return cls(flow.name, flow.queue.key, transforms, flow.load_model(), evolves, flow.max_attempts, traces)
