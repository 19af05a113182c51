"""Contract: what a flow does with records that don't fit its model, before they are published."""

from __future__ import annotations

from typing import Literal

import structlog
from pydantic import BaseModel

from millrace_pipeline import envelope
from millrace_pipeline.fitting import fitted
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.process import metrics
from millrace_pipeline.process.repeats import repeats

log = structlog.get_logger(__name__)

Kind = Literal["evolve", "freeze", "quarantine"]


class Contract:
    """Holds records to a model, field by field: wrong ones, missing ones, and those that the model doesn't know.

    Where the model's own configuration says `extra="allow"`, it knows all of them. `kind` is what becomes of a misfit:
    `evolve` publishes it all the same, `freeze` makes it a dead letter, `quarantine` puts it on the variant list.
    """

    def __init__(self, kind: Kind, model: type[BaseModel], *, flow: str) -> None:
        self.kind = kind
        self._model = model
        self._flow = flow
        self._extra: Literal["forbid"] | None = None if model.model_config.get("extra") == "allow" else "forbid"

    @classmethod
    def of(cls, flow: Flow) -> Contract | None:
        """The flow's contract, if it has one. Raises ConfigError where its model can't be had."""
        model = flow.load_model()
        return cls(flow.contract, model, flow=flow.name) if flow.contract and model else None

    def misfit(self, line: bytes) -> str | None:
        """Why the record in this envelope doesn't fit, or None."""
        found = fitted(envelope.decode(line, foreign_id=str).text, self._model, extra=self._extra)
        if not isinstance(found, str):
            return None
        metrics.misfits.labels(self._flow).inc()
        repeats.warn("record_does_not_fit", kind=found, flow=self._flow, contract=self.kind, reason=found)
        return found
