"""Supervisor: runs services as processes of this machine, restarts what fails, and leaves none behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from millrace_pipeline.backoff import Backoff

log = structlog.get_logger(__name__)

HEALTHY_SECONDS = 60.0
"""After so long a life, the next failure counts as the first again, where nothing else is said."""

FAILURES_BEFORE_GIVING_UP = 5
"""So many failures in a row are put up with, where nothing else is said."""

LONGEST_WAIT_SECONDS = 30.0
"""The longest pause before a start, where nothing else is said."""

MISTAKE = 2
"""The exit code of a service that its configuration, or what it asks of others, is wrong: it would be again."""

LAST_WORDS_SECONDS = 2.0
"""So long an ended service's last lines are waited for, where a process of its own still holds its output."""

SERVICE = "MILLRACE_SERVICE"
"""What a supervised service is called, in its environment: its name in the log."""

SUPERVISED = "MILLRACE_SUPERVISED"
"""Set in a service's environment: it stops when its standard input ends, which is when its supervisor is gone."""


SOURCE_FAILED, SOURCE_RESUMED = "source_failed", "source_resumed"

TROUBLES = (
    *(SOURCE_FAILED, "sse_disconnected", "rest_failed", "websocket_disconnected"),
    *("redis_unavailable", "redis_still_unavailable"),
)
"""Warnings that say why nothing flows; an error does always."""

GOES_ON = (SOURCE_RESUMED, "sink_available", "redis_available", "batch_delivered", "records_published")


PAUSED, RESUMED = "flow_paused", "flow_resumed"


class Child:
    """One service: a process, and the next one when that fails, until it failed more than `failures` times in a row.

    `longest_wait` is the cap, in seconds, of the pauses between them. After a life of `healthy` seconds a failure is
    the first in a row again; what a producer whose source fails spends in trying again is no such life. What is logged
    of it bears its name, and the `flow` where it serves only one.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environ: Mapping[str, str],
        say: Callable[[str, str], None],
        *,
        flow: str = "",
        failures: int = FAILURES_BEFORE_GIVING_UP,
        longest_wait: float = LONGEST_WAIT_SECONDS,
        healthy: float = HEALTHY_SECONDS,
    ) -> None:
        self.name = name
        self._log = log.bind(service=name, **({"flow": flow} if flow else {}))
        self._failures = failures
        self.gave_up = False
        self._command = list(command)
        self._environ = {**environ, SUPERVISED: "1", SERVICE: name}
        self._say = say
        self._backoff = Backoff(first=0.5, cap=longest_wait)
        self._healthy = healthy
        self._process: subprocess.Popen[str] | None = None
        self._started = 0.0
        self._again_at = 0.0
        self._told_to_stop = False
        self.starts = 0
        self.trouble: str | None = None
        """What it said last of what goes wrong; None once it said that it goes on."""
        self._source_fails_since: float | None = None
        self.trouble_since = 0.0
        """When it first said so, in seconds since 1970."""
        self.paused: str | None = None
        """That a person has it stand still, since when and who, as it said; else None."""

    def start(self) -> None:
        """Starts a process, in a group of its own so that Ctrl-C reaches the supervisor alone."""
        self._started = time.monotonic()
        self._source_fails_since = None
        self.starts += 1
        self.paused = None
        self._process = subprocess.Popen(
            self._command,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), name=f"log {self.name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int | None:
        """The process id while there is a process."""
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def code(self) -> int | None:
        """The exit code of the last process; None while it lives."""
        return self._process.poll() if self._process else None

    @property
    def done(self) -> bool:
        """Whether it has ended for good: of its own accord, because it was told to, or because it failed too often."""
        return self.gave_up or (not self.running and (self._told_to_stop or self.code == 0))

    @property
    def state(self) -> str:
        """How it is, in a word or two for people."""
        if self.gave_up:
            return "given up"
        if self.running:
            return "stopping" if self._told_to_stop else "paused" if self.paused else "runs"
        if self.done:
            return "ended"
        return f"failed {self._backoff.failures}×, again in {max(0.0, self._again_at - time.monotonic()):.0f} s"

    @property
    def failed(self) -> bool:
        """Whether it was given up or ended badly.

        One that SIGTERM ends before it can hear it held nothing yet, and one that was to be started again when all was
        to stop has not failed too often.
        """
        if self._told_to_stop and self._again_at and not self.gave_up:
            return False
        well = (0, None, -signal.SIGTERM) if self._told_to_stop else (0, None)
        return self.gave_up or self.code not in well

    def signal(self, number: int) -> None:
        """Sends a signal to the process, if it lives."""
        self._told_to_stop |= number == signal.SIGTERM
        if self.running and self._process:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def look(self) -> None:
        """Starts it again after a failure, with backoff, until it has failed too often in a row."""
        if self.running or self.done:
            return
        self._reader.join(LAST_WORDS_SECONDS)
        now = time.monotonic()
        if self.code == MISTAKE:
            self._give_up()
            return
        if not self._again_at:
            if (self._source_fails_since or now) - self._started > self._healthy:
                self._backoff.reset()
            wait = self._backoff.next()
            if self._backoff.failures > self._failures:
                self._give_up(failures=self._failures)
                return
            self._again_at = now + wait
            self._log.warning("service_failed", code=self.code, again_in_seconds=round(wait, 1))
        elif now >= self._again_at:
            self._again_at = 0.0
            self.start()

    def _give_up(self, **counts: int) -> None:
        self.gave_up = True
        self._log.error("service_given_up", **counts, code=self.code, reason=self.trouble)

    def wait(self, seconds: float) -> None:
        """Waits for the process to end; kills it after so many seconds."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self._log.warning("service_killed")
            self._process.kill()
            self._process.wait()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._note(line.rstrip("\n"))
                self._say(self.name, line.rstrip("\n"))

    def _note(self, line: str) -> None:
        """Remember what it says of trouble, in its log or, where it dies, without one."""
        try:
            event = json.loads(line)
            level, said = event["level"], event.get("reason") or event["event"]
        except (ValueError, KeyError, TypeError):
            if line.strip():
                self._in_trouble(line.strip())
            return
        if event["event"] in (PAUSED, RESUMED):
            self.paused = f"{event.get('part')} {said}" if event["event"] == PAUSED else None
        if event["event"] == SOURCE_FAILED:
            self._source_fails_since = self._source_fails_since or time.monotonic()
        elif event["event"] == SOURCE_RESUMED:
            self._source_fails_since = None
        if level in ("error", "critical") or event["event"] in TROUBLES:
            self._in_trouble(str(said))
        elif event["event"] in GOES_ON:
            self.trouble = None

    def _in_trouble(self, reason: str) -> None:
        if self.trouble is None:
            self.trouble_since = time.time()
        self.trouble = reason


class Supervisor:
    """Runs services until they are done or it is stopped. Call `look` every moment: it restarts what failed.

    `say` gets each line that a service prints, with the service's name. `longest_wait` and `healthy` as in Child.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str] = os.environ,
        say: Callable[[str, str], None],
        longest_wait: float = LONGEST_WAIT_SECONDS,
        healthy: float = HEALTHY_SECONDS,
    ) -> None:
        self.children: dict[str, Child] = {}
        self._environ = environ
        self._say = say
        self._longest_wait = longest_wait
        self._healthy = healthy

    def add(self, name: str, *arguments: str, flow: str = "", failures: int = FAILURES_BEFORE_GIVING_UP) -> Child:
        """Starts `millrace ARGUMENTS` as the service of this name; it is given up after more `failures` in a row.

        `flow` is the one that it serves, where it is only one.
        """
        command = [sys.executable, "-P", "-m", "millrace", *arguments]
        child = Child(
            name,
            command,
            self._environ,
            self._say,
            flow=flow,
            failures=failures,
            longest_wait=self._longest_wait,
            healthy=self._healthy,
        )
        child.start()
        self.children = {**self.children, name: child}
        return child

    def look(self) -> None:
        """Restarts what failed."""
        for child in self.children.values():
            child.look()

    def stop(self, names: Sequence[str] | None = None, *, grace_seconds: float) -> None:
        """Sends SIGTERM to the services (all without `names`), waits for them, kills who takes longer."""
        chosen = [child for name, child in self.children.items() if names is None or name in names]
        for child in chosen:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        for child in chosen:
            child.wait(deadline - time.monotonic())

    def forget(self, *names: str) -> None:
        """Know of these no more, or of none without names: they were stopped, and others may take their place."""
        kept = {name: child for name, child in self.children.items() if names and name not in names}
        self.children = kept  # whoever walks the others at this moment still may

    @property
    def failed(self) -> list[str]:
        """The services that were given up or ended badly."""
        return [name for name, child in self.children.items() if child.failed]
