"""One flow's services, as `millrace run` runs them."""

from __future__ import annotations

import signal

import structlog

from millrace.produced import is_produced
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.process.settings import Settings
from millrace_pipeline.process.supervisor import FAILURES_BEFORE_GIVING_UP, Child, Supervisor

log = structlog.get_logger(__name__)

POISONED_BATCHES = 3
"""So many batches in a row, each with a record that kills its consumer, are put up with."""


class RunningFlow:
    """A producer and consumers, each a process of its own: what kills one flow's leaves the others alone.

    It has no producer where others push onto the list, and several where its source is read by several together.
    """

    def __init__(
        self, flow: Flow, supervisor: Supervisor, settings: Settings, *, consumers: int, take_over: bool = False
    ) -> None:
        self.flow = flow
        where = ["--flows", str(settings.flows), *(["--take-over"] if take_over else [])]
        self.producers = [
            supervisor.add(name, "produce", flow.name, *where, flow=flow.name)
            for name in _names(f"producer-{flow.name}", flow.producers if is_produced(flow) else 0)
        ]
        failures = _failures_to_isolate(flow)
        self.consumers = [
            supervisor.add(name, "consume", flow.name, *where, flow=flow.name, failures=failures)
            for name in _names(f"consumer-{flow.name}", consumers)
        ]

    @property
    def services(self) -> list[Child]:
        """All of them."""
        return [*self.producers, *self.consumers]

    @property
    def given_up(self) -> bool:
        """Whether nobody consumes it any more."""
        return all(child.done for child in self.consumers)

    @property
    def delivers(self) -> bool:
        """Return True where some consumer lives, or will again, and none waits for a sink or for people."""
        return not self.given_up and not any(child.trouble or child.paused for child in self.consumers)

    def revive(self) -> None:
        """Starts consumers again that have failed."""
        for child in self.consumers:
            child.look()

    def is_read(self, *, until_empty: bool) -> bool:
        """Return True once nothing more is to come: its source has ended.

        Others may push for ever, so there it is only what they have pushed so far, with `until_empty`.
        """
        return all(child.done for child in self.producers) if self.producers else until_empty

    @property
    def is_held(self) -> bool:
        """Return True where a person has its producers stand still."""
        return any(child.paused is not None for child in self.producers)

    def look(self) -> None:
        """Stops the producers of a flow that nobody consumes any more: its list would only fill up."""
        left = [child for child in self.producers if not child.done and child.state != "stopping"]
        if self.given_up and left:
            log.error("flow_given_up", flow=self.flow.name)
            for child in left:
                child.signal(signal.SIGTERM)


def _names(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}-{number}" for number in range(1, count + 1)]


def _failures_to_isolate(flow: Flow) -> int:
    """How often a consumer may die in a row: a record that kills it is found by halving its batch, a death a time."""
    deaths = flow.max_attempts + flow.batch.records.bit_length()
    return deaths * POISONED_BATCHES + FAILURES_BEFORE_GIVING_UP
