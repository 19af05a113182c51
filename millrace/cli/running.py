"""One flow's services, as `millrace run` runs them."""

from __future__ import annotations

import signal
import time

import structlog

from millrace.cli.books import read_books
from millrace.produced import is_produced
from millrace_pipeline.errors import QueueError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.process.settings import Settings
from millrace_pipeline.process.supervisor import FAILURES_BEFORE_GIVING_UP, Child, Supervisor

log = structlog.get_logger(__name__)

ASK_SECONDS = 1.0

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
        self._supervisor = supervisor
        self._settings = settings
        self._held, self._ask_again_at = False, 0.0
        self._where = where = ["--flows", str(settings.flows), *(["--take-over"] if take_over else [])]
        self.producers = [
            supervisor.add(name, "produce", flow.name, *where, flow=flow.name)
            for name in _names(f"producer-{flow.name}", flow.producers if is_produced(flow) else 0)
        ]
        self.consumers = [self._consumer(name) for name in _names(f"consumer-{flow.name}", consumers)]
        self.leaving: list[Child] = []
        """Consumers that were told to end, since there were to be fewer, and that finish what they hold."""

    @property
    def services(self) -> list[Child]:
        """All of them."""
        return [*self.producers, *self.consumers, *self.leaving]

    @property
    def given_up(self) -> bool:
        """Whether nobody consumes it any more."""
        return bool(self.consumers) and all(child.done for child in self.consumers)

    @property
    def delivers(self) -> bool:
        """Return True where some consumer lives, or will again, and none waits for a sink."""
        return bool(self.consumers) and not self.given_up and not any(child.trouble for child in self.consumers)

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
        """Return True where a person has its producers stand still, as Redis has it: asked once a second at most."""
        if time.monotonic() >= self._ask_again_at:
            try:
                self._held = "producers" in read_books(self._settings, self.flow).paused
            except QueueError:
                self._held = False
            self._ask_again_at = time.monotonic() + ASK_SECONDS
        return self._held

    def scale(self, consumers: int) -> None:
        """Have so many consumers: those that are too many finish what they hold; the youngest go first."""
        while len(self.consumers) > consumers:
            child = self.consumers.pop()
            child.signal(signal.SIGTERM)
            self.leaving.append(child)
        taken = {child.name for child in (*self.consumers, *self.leaving)}
        number = 1
        while len(self.consumers) < consumers:
            while (name := f"consumer-{self.flow.name}-{number}") in taken:
                number += 1
            taken.add(name)
            self.consumers.append(self._consumer(name))

    def _consumer(self, name: str) -> Child:
        failures = _failures_to_isolate(self.flow)
        return self._supervisor.add(
            name, "consume", self.flow.name, *self._where, flow=self.flow.name, failures=failures
        )

    def look(self, mend: str = "mend what its consumers say, and start it again") -> None:
        """Stops the producers of a flow that nobody consumes any more: its list would only fill up."""
        left = [child for child in self.producers if not child.done and child.state != "stopping"]
        if self.given_up and left:
            log.error("flow_given_up", flow=self.flow.name, reason="none of its consumers lives any more", mend=mend)
            for child in left:
                child.signal(signal.SIGTERM)
        for child in [child for child in self.leaving if not child.running]:
            self.leaving.remove(child)
            self._supervisor.forget(child.name)


def _names(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}-{number}" for number in range(1, count + 1)]


def _failures_to_isolate(flow: Flow) -> int:
    """How often a consumer may die in a row: a record that kills it is found by halving its batch, a death a time."""
    deaths = flow.max_attempts + flow.batch.records.bit_length()
    return deaths * POISONED_BATCHES + FAILURES_BEFORE_GIVING_UP
