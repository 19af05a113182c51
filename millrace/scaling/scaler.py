"""Scaler: looks at flows once a second and says to whoever asks how many consumers each should have."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import unquote

import msgspec
import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from millrace.scaling.decision import Memory, Rules, decide
from millrace.scaling.watch import LOOK_SECONDS, SHARE, Reading, Watch
from millrace_pipeline.errors import ConfigError, QueueUnavailable
from millrace_pipeline.flows.flow import Flow

log = structlog.get_logger(__name__)

ASKERS = 1_000
"""So many different questions are kept up with; the one that came first is then forgotten."""

GAUGES = {
    "millrace_scale_desired_consumers": "Consumers that there should be.",
    "millrace_scale_consumer_records_per_second": "Records a second that a consumer is done with while it works.",
    "millrace_scale_drain_seconds": "Time that the consumers there are take for all that waits or is in flight.",
    "millrace_scale_due_records": "Records that are put off, and whose time is there.",
}


class Question(msgspec.Struct, frozen=True):
    """How many consumers of this flow, by these rules; `who` asks remembers its own past."""

    flow: str
    rules: Rules
    who: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What was seen last, and how many consumers that makes."""

    reading: Reading
    desired: int


class Scaler(Collector):
    """Looks from `start` to `close`. Answers are of the last look, and cost Redis nothing; from several threads."""

    def __init__(self, url: str, flows: Sequence[Flow], rules: Rules) -> None:
        self.rules = rules
        self._watch = Watch(url, flows)
        self._flows = [flow.name for flow in flows]
        self._readings: dict[str, Reading | str] = dict.fromkeys(self._flows, "not looked at yet")
        self._questions: dict[Question, tuple[int, Memory]] = {}
        self._changed = threading.Condition()
        self._looks = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scaler", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more; who waits for the next look is let go."""
        self._over.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(2 * LOOK_SECONDS)

    @property
    def over(self) -> bool:
        """True once it looks no more."""
        return self._over.is_set()

    def answer(self, question: Question) -> Answer:
        """Return the answer as of the last look.

        Raises ConfigError for a flow that there isn't, and QueueUnavailable where Redis couldn't be asked.
        """
        if question.flow not in self._readings:
            raise ConfigError(f"no flow {question.flow!r}: expected {', '.join(self._flows)}")
        with self._changed:
            reading = self._readings[question.flow]
            if isinstance(reading, str):
                raise QueueUnavailable(reading)
            if question not in self._questions:
                while len(self._questions) >= ASKERS:
                    del self._questions[next(iter(self._questions))]
                self._questions[question] = decide(reading.seen, question.rules, Memory())
            return Answer(reading, self._questions[question][0])

    def wait(self, looks: int, seconds: float) -> int:
        """Return the number of looks so far, once it is another than this one, or after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._looks != looks or self.over, seconds)
            return self._looks

    def page(self, path: str) -> tuple[str, bytes]:
        """Return the status and the JSON of `GET /scale/FLOW`."""
        try:
            found = self.answer(Question(unquote(path), self.rules))
        except ConfigError as error:
            return "404 Not Found", _json({"error": str(error)})
        except QueueUnavailable as error:
            return "503 Service Unavailable", _json({"error": f"Redis can't be asked: {error}"})
        told = msgspec.to_builtins(found.reading)
        return "200 OK", _json({**told, "desired": found.desired, "rules": msgspec.to_builtins(self.rules)})

    def trouble(self) -> str | None:
        """Return why a flow can't be told of, or None: for /readyz."""
        with self._changed:
            found = (f"{name}: {why}" for name, why in self._readings.items() if isinstance(why, str))
            return next(found, None)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: to register it is no reason to be looked at."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics of all flows that are known of."""
        families = {name: GaugeMetricFamily(name, help, labels=["flow"]) for name, help in GAUGES.items()}
        for flow in self._flows:
            try:
                found = self.answer(Question(flow, self.rules))
            except QueueUnavailable:
                continue
            values = (found.desired, found.reading.rate, found.reading.drain_seconds, found.reading.seen.due)
            for family, value in zip(families.values(), values, strict=True):
                if value is not None:
                    family.add_metric([flow], value)
        yield from families.values()

    def _run(self) -> None:
        try:
            while not self.over:
                began = time.monotonic()
                try:
                    readings = self._watch.look(began)
                except Exception as error:  # what another version wrote is no reason to end
                    log.exception("scaler_look_failed")
                    readings = dict.fromkeys(self._flows, f"{type(error).__name__}: {error}")
                self._note(readings)
                self._over.wait(max(LOOK_SECONDS, SHARE * (time.monotonic() - began)))
        finally:
            self._watch.close()

    def _note(self, readings: Mapping[str, Reading | str]) -> None:
        with self._changed:
            for name, reading in readings.items():
                before = self._readings[name]
                if isinstance(reading, str) and not (isinstance(before, str) and self._looks):
                    log.warning("scaler_blind", flow=name, reason=reading)
                elif isinstance(before, str) and not isinstance(reading, str) and self._looks:
                    log.info("scaler_sees", flow=name)
                self._readings[name] = reading
            for question, (was, memory) in self._questions.items():
                reading = self._readings[question.flow]
                if isinstance(reading, str):
                    continue  # what was right before stays so until there is something to go by
                found = decide(reading.seen, question.rules, memory)
                if found[0] != was:
                    log.info("scale_desired", flow=question.flow, consumers=found[0], before=was, by=question.who)
                self._questions[question] = found
            self._looks += 1
            self._changed.notify_all()


def _json(value: object) -> bytes:
    return msgspec.json.encode(value) + b"\n"
