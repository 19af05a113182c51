"""`millrace scaler`: the service that says how many consumers each flow should have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from millrace.cli.flowsfile import FlowsOption, NamesArgument, choose, settings_with
from millrace.cli.services import leave
from millrace.server import server_of
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.extras import need
from millrace_pipeline.flows.units import seconds
from millrace_pipeline.process.listening import LOOPBACK, Place, places_in
from millrace_pipeline.process.service import Service

if TYPE_CHECKING:
    from millrace.scaling.decision import Rules
    from millrace.scaling.scaler import Scaler

app = typer.Typer()
log = structlog.get_logger(__name__)

HTTP_PORT = 9191

MinOption = Annotated[int, typer.Option("--min", min=0, help="Never fewer consumers of a flow.")]
MaxOption = Annotated[int, typer.Option("--max", min=1, help="Never more consumers of a flow.")]
AgeOption = Annotated[str, typer.Option("--age", help="What waits is to be done within so long: 30s, 5m.")]
IdleOption = Annotated[str, typer.Option("--idle", help="With --min 0: none are left after so long without work.")]
CalmOption = Annotated[str, typer.Option("--calm", help="So long fewer must be enough before there are fewer.")]


def rules_from(least: int, most: int, age: str, idle: str, calm: str) -> Rules:
    """Return the rules that options say. Raises ConfigError."""
    from millrace.scaling.decision import Rules

    found = {}
    for name, text in {"age": age, "idle": idle, "calm": calm}.items():
        try:
            found[name] = seconds(text)
        except ValueError:
            raise ConfigError(f"--{name} {text}: expected a duration such as 30s, 5m or 1h") from None
    return Rules(least, most, **found).checked()


@app.command(epilog="Example: `millrace scaler --age 30s --grpc 0.0.0.0:9999`")
def scaler(
    names: NamesArgument = None,
    flows: FlowsOption = None,
    least: MinOption = 0,
    most: MaxOption = 8,
    age: AgeOption = "30s",
    idle: IdleOption = "5m",
    calm: CalmOption = "1m",
    grpc: Annotated[
        str | None, typer.Option(help="Where KEDA's external-push gRPC answers: host:port; needs the extra `keda`.")
    ] = None,
) -> None:
    """Tells how many consumers each flow should have: `GET /scale/FLOW`, /metrics, and KEDA's gRPC. Changes nothing.

    It looks as a user who may only read, once a second, and needs no consumer to be there. It answers where
    MILLRACE_HTTP says, or else on port 9191 of loopback, beside /metrics, /livez and /readyz. What --min and the like
    say holds for these answers; the trigger of a ScaledObject may have its own `max`, `age` and `calm`.

    Exit codes: 0 it was told to end; 2 a flow, a setting or an address is wrong.
    """
    from millrace.scaling.scaler import Scaler

    rules = rules_from(least, most, age, idle, calm)
    settings = settings_with(flows)
    if not settings.http:
        settings = settings.model_copy(update={"http": ((LOOPBACK, HTTP_PORT),)})
    chosen = choose(settings, names or [])
    if grpc is not None:
        _ = places_in_option(grpc), need("grpc", "keda", "--grpc"), need("google.protobuf", "keda", "--grpc")
    server = server_of(settings)
    saying = Scaler(server.url, chosen, rules)
    service = Service("scaler", settings)
    service.pages["/scale/"] = saying.page
    service.well = saying.trouble
    with service:
        log.info("redis_found", redis=str(server))
        saying.start()
        service.tell_of(chosen, server.url, role="consumer")
        with showing(saying), keda_at(grpc, saying):
            service.stopping.wait()
        saying.close()
        server.close()
    leave(0)


def places_in_option(grpc: str) -> tuple[Place, ...]:
    """Return where `--grpc` says. Raises ConfigError."""
    try:
        return places_in(grpc)
    except ValueError:
        raise ConfigError(f"--grpc {grpc}: expected a port, which is then on loopback, or host:port") from None


@contextlib.contextmanager
def showing(scaler: Scaler) -> Iterator[None]:
    """Show on /metrics what it says, for as long as the block lasts."""
    from prometheus_client import REGISTRY

    REGISTRY.register(scaler)
    try:
        yield
    finally:
        REGISTRY.unregister(scaler)


@contextlib.contextmanager
def keda_at(grpc: str | None, scaler: Scaler) -> Iterator[None]:
    """Answer KEDA there, if anywhere, for as long as the block lasts. Raises ConfigError where it can't listen."""
    if grpc is None:
        yield
        return
    from millrace.scaling.keda import Keda  # only here: whoever scales by other means needs no gRPC

    keda = Keda(scaler, [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in places_in(grpc)])
    keda.start()
    log.info("keda_served", grpc=",".join(keda.addresses))
    try:
        yield
    finally:
        keda.close()
