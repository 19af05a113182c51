"""Service: what a producer and a consumer have in common as a process: signals, logs, health."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog
from prometheus_client import REGISTRY

from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.process import logs, span
from millrace_pipeline.process.health import Check, Health, Page
from millrace_pipeline.process.repeats import repeats
from millrace_pipeline.process.settings import Settings
from millrace_pipeline.process.signals import on_signal
from millrace_pipeline.process.supervisor import SERVICE, SUPERVISED
from millrace_pipeline.process.watchdog import Watchdog

if TYPE_CHECKING:
    from millrace_pipeline.process.standing import Role, Standing

log = structlog.get_logger(__name__)


class Service:
    """One process that runs until it is done or told to stop.

    The first SIGTERM or SIGINT sets `stopping`: take nothing new, finish or give back what is held. `give_up` is set
    when `grace_seconds` have passed since, or at the second signal: stop waiting for anybody. `well` answers what is in
    the way of the work at the moment, or None: it is what /readyz says; `paused` that a person has it stand still,
    which is no trouble. The `watchdog` ends a process that stands still with something in its hands, once it is told of
    that.
    """

    def __init__(self, name: str, settings: Settings, **always: str) -> None:
        """`always` goes into every line of its log, such as the flow."""
        self.name = os.environ.get(SERVICE, name)
        self._always = always
        self.settings = settings
        self.stopping = threading.Event()
        self.give_up = threading.Event()
        self.well: Check = _nothing_to_say
        self.paused: Check = _nothing_to_say
        self.pages: dict[str, Page] = {}
        """What its health port answers besides, by how the path begins; filled before it is entered."""
        self.watchdog = Watchdog()
        self._health: Health | None = None
        self._standing: Standing | None = None

    def __enter__(self) -> Service:
        logs.configure(self.settings.log, self.settings.log_level, service=self.name, **self._always)
        on_signal(self._signal, signal.SIGTERM, signal.SIGINT)
        if self.settings.http:
            self._health = Health(
                self.settings.http,
                alive=_nothing_to_say,
                ready=lambda: self.well(),
                noted=lambda: self.paused(),
                pages=self.pages,
            )
            self._health.start()
        if os.environ.get(SUPERVISED):
            if isinstance(sys.stdout, io.TextIOWrapper):  # what a library prints comes a whole line at a time
                sys.stdout.reconfigure(line_buffering=True, write_through=False)
            threading.Thread(target=self._follow_supervisor, name="supervisor", daemon=True).start()
        log.info("service_started", pid=os.getpid(), **self._where())
        return self

    def __exit__(self, *_: object) -> None:
        if self._health:
            self._health.close()
        if self._standing:
            REGISTRY.unregister(self._standing)
            self._standing.close()
        span.close()
        repeats.summarise()
        log.info("service_stopped")

    def _where(self) -> dict[str, str]:
        """Where the health port is, which the settings don't tell where they say 0 or a name."""
        return {"http": ",".join(self._health.addresses)} if self._health else {}

    def tell_of(self, flows: Sequence[Flow], url: str, *, role: Role) -> None:
        """Show on /metrics, if that answers anywhere, how these flows stand in the Redis there."""
        if self._health:
            from millrace_pipeline.process.standing import Standing  # only here: others needn't pay for it

            self._standing = Standing(flows, url, role=role)
            REGISTRY.register(self._standing)

    def stop(self) -> None:
        """What the first signal does."""
        if self.stopping.is_set():
            return
        log.info("service_stopping", grace_seconds=self.settings.grace_seconds)
        self.stopping.set()
        self.watchdog.hurry(self.settings.grace_seconds)
        grace = threading.Timer(self.settings.grace_seconds, self._grace_is_over)
        grace.daemon = True
        grace.start()

    def _signal(self, _number: int) -> None:
        if self.stopping.is_set():
            log.warning("service_stops_at_once")
            self.give_up.set()
        else:
            self.stop()

    def _follow_supervisor(self) -> None:
        """Stops when the supervisor is gone: the other end of standard input is its alone."""
        while os.read(0, 4096):
            pass
        if not self.stopping.is_set():
            log.warning("supervisor_gone")
        self.stop()

    def _grace_is_over(self) -> None:
        log.warning("grace_expired", seconds=self.settings.grace_seconds)
        self.give_up.set()


def _nothing_to_say() -> str | None:
    return None
