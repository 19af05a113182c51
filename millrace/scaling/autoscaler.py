"""Autoscaler: sees to it that there are as many consumers as there should be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import msgspec
import structlog

from millrace.control import RunGone
from millrace.scaling.decision import Memory, Rules, decide
from millrace.scaling.engines import Engine, Group
from millrace.scaling.watch import LOOK_SECONDS, SHARE, Reading
from millrace_pipeline.errors import StackError

log = structlog.get_logger(__name__)

COUNT_SECONDS = 5.0
"""So often the engine is asked how many there are, where nothing was changed."""

AGAIN_SECONDS = 15.0
"""What was said to the engine is said again after so long, where it hasn't come about."""

Looking = Callable[[float], Mapping[str, Reading | str]]
"""Returns how each flow stands at this moment, or why that can't be told."""


class Autoscaler:
    """Looks once a second, and has the engine have more or fewer. `run` blocks until `stopping` is set."""

    def __init__(self, engine: Engine, looking: Looking, rules: Rules, stopping: threading.Event) -> None:
        self._engine = engine
        self._looking = looking
        self._rules = rules
        self._stopping = stopping
        self._memories: dict[str, Memory] = {}
        self._counts: dict[str, int] = {}
        self._counted = -COUNT_SECONDS
        self._said: dict[str, tuple[int, float]] = {}
        self._under_way: dict[str, threading.Thread] = {}
        self._blind: dict[str, str] = {}
        self._away = ""

    def run(self) -> None:
        """Blocks. Raises RunGone where a `millrace run` that was scaled has ended."""
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self.step(began)
            except StackError as error:
                if str(error) != self._away:
                    log.warning("engine_not_asked", reason=str(error))
                self._away = str(error)
            self._stopping.wait(max(LOOK_SECONDS, SHARE * (time.monotonic() - began)) - (time.monotonic() - began))

    def step(self, now: float) -> None:
        """Look once, and begin what is to be done. Raises StackError or RunGone where the engine can't be asked."""
        if now - self._counted >= COUNT_SECONDS:
            self._counts, self._counted, self._away = self._engine.count(), now, ""
        readings = self._looking(now)
        for group in self._engine.groups:
            desired = self._desired(group, readings)
            there = self._counts[group.name]
            said, when = self._said.get(group.name, (there, now))
            if desired is None or desired == there or (desired == said != there and now - when < AGAIN_SECONDS):
                continue
            if (thread := self._under_way.get(group.name)) is not None and thread.is_alive():
                continue
            self._said[group.name] = desired, now
            seen = [reading for name in group.flows if isinstance(reading := readings[name], Reading)]
            told = {name: sum(getattr(one, name) for one in seen) for name in ("ready", "in_flight")}
            log.info("autoscaled", service=group.name, consumers=desired, before=there, **told)
            thread = threading.Thread(target=self._scale, args=(group.name, desired), name="scale", daemon=True)
            self._under_way[group.name] = thread
            thread.start()

    def leave(self) -> None:
        """Let go of the engine. Where there is no consumer just now there is one again: nobody else would wake it."""
        for thread in self._under_way.values():
            thread.join()
        try:
            for group in self._engine.groups:
                if not self._engine.count()[group.name] and self._rules.min == 0:
                    log.info("autoscale_leaves_one", service=group.name)
                    self._engine.scale(group.name, 1)
        except (StackError, RunGone) as error:
            log.info("engine_gone", reason=str(error))
        self._engine.close()

    def _desired(self, group: Group, readings: Mapping[str, Reading | str]) -> int | None:
        """Return how many a group should have: what those of its flows need that need most. None where one is blind."""
        found = []
        for name in group.flows:
            reading = readings[name]
            if isinstance(reading, str):
                if self._blind.get(name) != reading:
                    log.warning("autoscale_blind", flow=name, reason=reading, consumers="left as they are")
                self._blind[name] = reading
                return None
            if self._blind.pop(name, None):
                log.info("autoscale_sees", flow=name)
            seen = msgspec.structs.replace(reading.seen, consumers=self._counts[group.name])
            desired, self._memories[name] = decide(seen, self._rules, self._memories.get(name, Memory()))
            found.append(desired)
        return max(found)

    def _scale(self, group: str, consumers: int) -> None:
        try:
            self._engine.scale(group, consumers)
        except (StackError, RunGone) as error:
            log.warning("engine_refused", service=group, consumers=consumers, reason=str(error))
        self._counted = -COUNT_SECONDS
