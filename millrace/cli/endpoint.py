"""Endpoint: /metrics, /livez and /readyz of all services of a `millrace run`, at one place."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import structlog

from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.process.settings import Settings
from millrace_pipeline.process.supervisor import Supervisor

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from millrace_pipeline.process.standing import Standing

log = structlog.get_logger(__name__)

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Where the processes of one program leave their metrics: https://prometheus.github.io/client_python/multiprocess/"""


class Endpoint:
    """What the services are to have in their environment, so that their metrics are found."""

    def __init__(self, folder: str | None = None, registry: CollectorRegistry | None = None) -> None:
        self.environ: Mapping[str, str] = {METRICS_FOLDER: folder} if folder else {}
        self._registry = registry
        self._standing: Standing | None = None
        self._supervisor: Supervisor | None = None

    def watch(self, supervisor: Supervisor) -> None:
        """Answer for these services from now on."""
        self._supervisor = supervisor

    def tell_of(self, flows: Sequence[Flow], url: str) -> None:
        """Show how these flows stand in the Redis there, from now on, and no others."""
        if self._registry is None:
            return
        from millrace_pipeline.process.standing import Standing

        self.close()
        self._standing = Standing(flows, url)
        self._registry.register(self._standing)

    def close(self) -> None:
        """Show no flow any more."""
        if self._registry is not None and self._standing is not None:
            self._registry.unregister(self._standing)
            self._standing.close()
            self._standing = None

    def trouble(self) -> str | None:
        """What is wrong with one of them, or None."""
        children = self._supervisor.children.values() if self._supervisor else ()
        for child in children:
            if child.trouble and not child.done:
                return f"{child.name}: {child.trouble}"
            if child.gave_up or not (child.running or child.done):
                return f"{child.name}: {child.state}"
        return None

    def paused(self) -> str | None:
        """What a person has paused, or None."""
        children = self._supervisor.children.values() if self._supervisor else ()
        told = dict.fromkeys(f"{child.name}: {child.paused}" for child in children if child.paused and child.running)
        return ", ".join(told) or None


@contextlib.contextmanager
def endpoint_for(settings: Settings) -> Iterator[Endpoint]:
    """Serve where MILLRACE_HTTP says, if it does, for as long as the block lasts. Raises ConfigError."""
    if not settings.http:
        yield Endpoint()
        return
    # Only here: without an endpoint nobody pays for them.
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    from millrace_pipeline.process.health import Health

    with tempfile.TemporaryDirectory(prefix="millrace-metrics-") as folder:
        registry = CollectorRegistry()
        endpoint = Endpoint(folder, registry)
        MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
        health = Health(
            settings.http, alive=lambda: None, ready=endpoint.trouble, noted=endpoint.paused, registry=registry
        )
        health.start()
        log.info("http_serves", http=",".join(health.addresses))
        try:
            yield endpoint
        finally:
            health.close()
            endpoint.close()
