"""`millrace produce` and `millrace consume`: one service each, what a container runs."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import Annotated, NoReturn

import structlog
import typer

from millrace.awaiting import await_redis
from millrace.cli.asked import TakeOverOption
from millrace.cli.completion import flow_names
from millrace.cli.examine import build_to_consume, build_to_produce
from millrace.cli.exits import PAUSED, TOO_MANY_DEAD
from millrace.cli.flowsfile import FlowsOption, choose, choose_lists, settings_with
from millrace.cli.outcome import FailOnDeadOption, tell_paused, too_many_dead
from millrace.server import Server, server_of, server_to_begin_with
from millrace_pipeline.errors import ConfigError, MillraceError, SourceRefused
from millrace_pipeline.process.service import Service
from millrace_pipeline.process.settings import Settings

app = typer.Typer()
log = structlog.get_logger(__name__)

IDLE_PATIENCE_SECONDS = 2.0

REDIS_PORT = 6379
"""The port that an embedded Valkey takes where it is free."""


@app.command(epilog="Example: `millrace produce wikipedia`")
def produce(
    flow: Annotated[str, typer.Argument(help="The flow whose source to read.", autocompletion=flow_names)],
    flows: FlowsOption = None,
    fail_on_dead: FailOnDeadOption = False,
    take_over: TakeOverOption = False,
) -> None:
    """Reads a flow's source and publishes what it yields, until the source ends or SIGTERM comes.

    Exit codes: 0 the source ended or we were stopped, everything read is on the list; 1 the source or Redis failed;
    2 the flow, the Redis or what the source is asked is wrong, or its list is another project's; 3 more dead letters
    than `dead: {fail_above: …}` or --fail-on-dead allow.
    """
    from millrace.produced import is_produced, not_produced
    from millrace_producer.runner import Producer

    settings = settings_with(flows)
    chosen = choose(settings, [flow])[0]
    build_to_produce(chosen)
    if not is_produced(chosen):
        raise not_produced(chosen)
    with Service(f"producer-{flow}", settings, flow=flow) as service:
        server = find(settings, begins=chosen.source.type == "stdin")
        look_before(server.url, settings.redis_seconds, service.stopping)
        producer = Producer(
            chosen,
            server.url,
            stopping=service.stopping,
            give_up=service.give_up,
            take_over=take_over or server.kind == "embedded",
        )
        service.tell_of([chosen], server.url, role="producer")
        service.well = producer.unwell
        service.paused = lambda: producer.paused
        code = 0
        try:
            producer.run()
        except MillraceError as error:
            log.error("producer_failed", flow=flow, reason=str(error))
            code = 2 if isinstance(error, ConfigError | SourceRefused) else 1
        counts = producer.counts  # what is published holds the dead letters too
        if too_many_dead(chosen, counts["dead"], counts["published"], fail_on_dead=fail_on_dead):
            code = code or TOO_MANY_DEAD
    leave(code)


@app.command(epilog="Example: `millrace consume quotes wikipedia`")
def consume(
    names: Annotated[list[str] | None, typer.Argument(metavar="[FLOW]...", help="Default: every flow.")] = None,
    flows: FlowsOption = None,
    until_empty: Annotated[bool, typer.Option(help="End once nothing is ready or in flight any more.")] = False,
    fail_on_dead: FailOnDeadOption = False,
    take_over: TakeOverOption = False,
) -> None:
    """Takes batches off the lists of these flows and writes them to their sinks, until SIGTERM comes.

    SIGTERM: takes nothing new, finishes or gives back what it holds. A second SIGTERM gives it back at once. While
    `millrace pause` holds the consumers it waits, and with --until-empty it ends.

    Exit codes: 0 stopped or empty; 1 Redis refused us; 2 a flow or the Redis is wrong, or its list is another
    project's; 3 more dead letters than `dead: {fail_above: …}` or --fail-on-dead allow; 5 --until-empty, and the
    consumers are paused; 27 a record made it stand still
    for a lease, and the traceback says where.
    """
    from millrace_consumer.runner import Consumer

    settings = settings_with(flows)
    chosen = choose_lists(settings, names or [])
    build_to_consume({(flow.whole or flow).name: flow for flow in chosen}.values())
    always = {"flow": chosen[0].name} if len(chosen) == 1 else {}
    with Service("consumer", settings, **always) as service:
        server = find(settings)
        look_before(server.url, settings.redis_seconds, service.stopping)
        consumers = [
            Consumer(
                flow,
                server.url,
                stopping=service.stopping,
                give_up=service.give_up,
                until_empty=until_empty,
                watchdog=service.watchdog,
                take_over=take_over or server.kind == "embedded",
            )
            for flow in chosen
        ]
        service.tell_of(chosen, server.url, role="consumer")
        service.well = lambda: next(filter(None, (consumer.unwell() for consumer in consumers)), None)
        service.paused = lambda: ", ".join(filter(None, (consumer.paused for consumer in consumers))) or None
        errors: list[BaseException] = []

        def run(consumer: Consumer) -> None:
            try:
                consumer.run()
            except BaseException as error:  # also a transform's sys.exit(): we don't go on without one of our flows
                expected = isinstance(error, MillraceError)
                reason = str(error) if expected else f"{type(error).__name__}: {error}"
                log.error(
                    "consumer_failed", flow=consumer.flow.name, reason=reason, exc_info=None if expected else error
                )
                errors.append(error)
                service.stop()
            finally:
                consumer.ended.set()

        for consumer in consumers:
            threading.Thread(target=run, args=(consumer,), name=f"consume {consumer.flow.name}", daemon=True).start()
        patience = IDLE_PATIENCE_SECONDS
        while not all(consumer.ended.is_set() for consumer in consumers) and not service.give_up.wait(0.05):
            patience -= 0.05 * service.stopping.is_set()
            if patience < 0 and all(consumer.idle for consumer in consumers):
                break  # they hold nothing, and wait for a Redis that doesn't answer
        if service.give_up.is_set():
            for consumer in consumers:
                consumer.give_back()
        over = [
            consumer
            for consumer in consumers
            if too_many_dead(consumer.flow, consumer.dead, consumer.settled, fail_on_dead=fail_on_dead)
        ]
        waits = [consumer for consumer in consumers if consumer.ended_paused]
        for consumer in waits:
            tell_paused(consumer.flow.name, consumer.paused)
    wrong = any(isinstance(error, ConfigError) for error in errors)
    leave(2 if wrong else 1 if errors else TOO_MANY_DEAD if over else PAUSED if waits else 0)


def find(settings: Settings, *, begins: bool = False) -> Server:
    """The Redis of this folder's flows, named in the log. Raises ConfigError, see `server_of`.

    With `begins` it is for a flow that `millrace run` can't begin, since it has no standard input.
    """
    server = server_to_begin_with(settings, preferred=REDIS_PORT) if begins else server_of(settings)
    log.info("redis_found", redis=str(server))
    return server


def look_before(url: str, seconds: float, stopping: threading.Event) -> None:
    """Look at the Redis before anything is trusted to it, as `await_redis` does. Ends the process if told to stop."""
    if not await_redis(url, seconds, stopping):
        leave(0)  # there was nothing to do yet


def leave(code: int) -> NoReturn:
    """Ends the process at once: a thread that still blocks in a source or a sink is not waited for."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # whoever read it is gone
            stream.flush()
    os._exit(code)
