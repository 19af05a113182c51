"""`millrace run`: flows as supervised processes on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from typing import Annotated

import structlog
import typer

from millrace.cli.asked import TakeOverOption
from millrace.cli.books import read_books, read_books_each
from millrace.cli.check import build_all
from millrace.cli.endpoint import endpoint_for
from millrace.cli.exits import PAUSED, TOO_MANY_DEAD
from millrace.cli.flowsfile import FlowsOption, NamesArgument, choose, settings_with
from millrace.cli.outcome import FailOnDeadOption, books_of, tell_outcome, tell_paused, too_many_dead
from millrace.cli.practising import practising, say_practising
from millrace.cli.reloading import Reloading
from millrace.cli.running import RunningFlow
from millrace.cli.screen import screen_for
from millrace.cli.services import REDIS_PORT, leave, look_before
from millrace.control import controlled
from millrace.home import Home
from millrace.produced import is_produced
from millrace.server import bring
from millrace_pipeline.errors import ConfigError, MillraceError, QueueError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.process import logs
from millrace_pipeline.process.settings import Settings
from millrace_pipeline.process.signals import on_signal
from millrace_pipeline.process.supervisor import MISTAKE, Supervisor
from millrace_pipeline.queue import Books, Session
from millrace_pipeline.queue.layout import hold_to_layout
from millrace_pipeline.queue.marks import mark

app = typer.Typer()
log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.1
EMPTY_LOOKS_SECONDS = 0.5


@app.command(epilog="Example: `millrace run quotes --until-empty`")
def run(
    context: typer.Context,
    names: NamesArgument = None,
    flows: FlowsOption = None,
    consumers: Annotated[int, typer.Option("--consumers", "-n", min=1, help="Consumer processes of each flow.")] = 1,
    until_empty: Annotated[
        bool,
        typer.Option(help="End once every source has ended and its list is empty: for cron, Airflow and the like."),
    ] = False,
    port: Annotated[
        int | None, typer.Option(help="Port of the embedded Valkey; else 6379, or a free one if that is taken.")
    ] = None,
    inline: Annotated[
        bool, typer.Option("--inline", help="One flow in this process, source to sink with no Redis: to try it out.")
    ] = False,
    records: Annotated[
        int | None, typer.Option(min=1, help="With --inline: end after so many records of the source.")
    ] = None,
    fail_on_dead: FailOnDeadOption = False,
    take_over: TakeOverOption = False,
    practice: Annotated[
        bool, typer.Option("--practice", help="On the bundled web site and event stream instead of the real ones.")
    ] = False,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start the services again when flows.yaml or a module beside it changes.")
    ] = False,
) -> None:
    """Runs these flows here: a process for each producer and each consumer; restarts what fails.

    Without REDIS_URL it starts an embedded Valkey whose data stays in `.millrace/`, so that the next run goes on where
    this one stopped. Every other command in this folder finds it there, and starts it for itself while nothing runs.
    Ctrl-C or SIGTERM drains and stops: nothing more is read, and what was read is delivered, for MILLRACE_GRACE_SECONDS
    at most; what is left then is said. A second one doesn't wait for what is slow.

    A service that fails too often is given up, and with its consumers the flow; the others go on. Once no flow is
    consumed any more, or every source has ended or was given up and the lists are empty, it ends.

    A flow whose source is `external` has consumers alone: it never ends by itself, and with --until-empty once its list
    is empty.

    --inline runs one flow in this process instead, with no Redis and no second try: an error of the source or the sink
    ends it at once.

    --practice needs no network: it starts a bundled web site and event stream, and runs the flows of this folder that
    take QUOTES_URL and WIKIPEDIA_URL from the environment, or else the bundled ones.

    With MILLRACE_HTTP /metrics, /livez and /readyz of all services answer there, at one place.

    --reload is for development: saved changes are checked, and where they are well all services stop as they do at
    SIGTERM and start anew. What is wrong is said, and the services go on as they were. It ends at Ctrl-C alone.

    `millrace autoscale`, in another terminal, says how many consumers each flow has from then on.

    What `millrace pause` holds stands still, also here; with --until-empty it ends once nothing else is left to do.

    Exit codes: 0 stopped, or all done; 1 a service failed too often, or --inline failed; 2 a flow or the Redis is
    wrong, or a list is another project's; 3 more dead letters than `dead: {fail_above: …}` or --fail-on-dead allow;
    5 --until-empty, and what is left is paused.
    """
    if practice:
        flows = context.with_resource(practising(flows))
    settings = settings_with(flows)
    chosen = choose(settings, names or [])
    if inline:
        leave(_run_inline(settings, chosen, records, fail_on_dead=fail_on_dead))
    if records is not None:
        raise ConfigError("--records says where --inline ends: add --inline")
    if reload and until_empty:
        raise ConfigError("--reload runs until Ctrl-C, and --until-empty ends by itself: leave one of them out")
    build_all(chosen)  # a mistake is said once, here, and not by every child
    logs.configure(settings.log, settings.log_level, service="run")
    if practice:
        say_practising(settings.flows)
    stopping, at_once = threading.Event(), threading.Event()
    on_signal(lambda _: (at_once if stopping.is_set() else stopping).set(), signal.SIGTERM, signal.SIGINT)
    with (
        redis_for(settings, chosen, port, stopping, take_over=take_over) as (settings, take_over),
        screen_for(settings) as screen,
        endpoint_for(settings) as endpoint,
    ):
        # They speak JSON, and the screen makes of it what is for people.
        environ = {**os.environ, **endpoint.environ, "REDIS_URL": settings.url, "MILLRACE_LOG": "json"}
        environ.pop("MILLRACE_HTTP", None)  # one port can't be had by several
        before = books_of(settings, chosen)
        supervisor = Supervisor(environ=environ, say=screen.say)
        endpoint.watch(supervisor)
        endpoint.tell_of(chosen, settings.url)
        threading.Thread(target=_hurry, args=(supervisor, at_once), name="hurry", daemon=True).start()
        running = [RunningFlow(flow, supervisor, settings, consumers=consumers, take_over=take_over) for flow in chosen]
        controls = context.with_resource(controlled([flow.name for flow in chosen], consumers))
        paused: dict[str, str] = {}
        reloading = Reloading(settings.flows, names or []) if reload else None
        while not stopping.wait(LOOK_SECONDS):
            if reloading is None and _all_over(running, settings, until_empty, paused):
                break
            if reloading is not None and (fresh := reloading.changed()) is not None:
                chosen = fresh
                endpoint.tell_of(chosen, settings.url)
                running = _start_anew(running, chosen, supervisor, settings, consumers=consumers, take_over=take_over)
            supervisor.look()
            for flow in running:
                if (control := controls.get(flow.flow.name)) and control.wanted != len(flow.consumers):
                    flow.scale(control.wanted)
                flow.look() if reloading is None else flow.look("mend it and save: all flows start anew then")
            screen.show(running)
        grace = settings.grace_seconds + 5
        supervisor.stop([child.name for flow in running for child in flow.producers], grace_seconds=grace)
        _drain(running, settings, at_once)
        supervisor.stop(
            [child.name for flow in running for child in (*flow.consumers, *flow.leaving)], grace_seconds=grace
        )
        screen.show(running, last=True)
        over = tell_outcome(chosen, before, books_of(settings, chosen), fail_on_dead=fail_on_dead)
        if supervisor.failed:
            failed = [supervisor.children[name] for name in supervisor.failed]
            why = next((child.trouble for child in failed if child.trouble), None)
            log.error("services_failed", services=supervisor.failed, reason=why)
            sys.exit(MISTAKE if any(child.code == MISTAKE for child in failed) else 1)
        for name, why in paused.items() if not stopping.is_set() else ():
            tell_paused(name, why)
        if over or (paused and not stopping.is_set()):
            sys.exit(TOO_MANY_DEAD if over else PAUSED)


def _start_anew(
    running: list[RunningFlow],
    flows: list[Flow],
    supervisor: Supervisor,
    settings: Settings,
    *,
    consumers: int,
    take_over: bool,
) -> list[RunningFlow]:
    """Stop all services, producers first, as they stop at SIGTERM, and start those of these flows."""
    log.info("run_reloads", flows=[flow.name for flow in flows])
    grace = settings.grace_seconds + 5
    supervisor.stop([child.name for flow in running for child in flow.producers], grace_seconds=grace)
    supervisor.stop(grace_seconds=grace)
    supervisor.forget()
    return [RunningFlow(flow, supervisor, settings, consumers=consumers, take_over=take_over) for flow in flows]


def _all_over(running: list[RunningFlow], settings: Settings, until_empty: bool, paused: dict[str, str]) -> bool:
    """Whether nothing is left to do: of the flows that are consumed at all, no source goes on and no list holds any.

    Where that is so only because people have paused the rest, `paused` says it, by the flow's name.
    """
    live = [flow for flow in running if not flow.given_up]
    if not live:
        return True
    bounded = until_empty or any(child.gave_up for flow in running for child in flow.services)
    read = bounded and all(flow.is_read(until_empty=until_empty) or flow.is_held for flow in live)
    return read and _all_empty(settings, live, paused, until_empty=until_empty)


def _drain(running: list[RunningFlow], settings: Settings, at_once: threading.Event) -> None:
    """Let the consumers take what was read, now that nothing more is, for as long as a service may take to stop.

    Returns sooner where that is done, where a sink takes nothing, Redis doesn't answer, or `at_once` is set.
    """
    deadline = time.monotonic() + settings.grace_seconds
    told = False
    while time.monotonic() < deadline and not at_once.is_set():
        try:
            each = {flow: read_books_each(settings, flow.flow) for flow in running if flow.delivers}
        except QueueError:
            return
        books = {flow: going for flow, found in each.items() if (going := [one for one in found if _goes_on(one)])}
        there = [one for found in books.values() for one in found]
        left = sum(one.ready + one.in_flight for one in there)
        if all(map(is_nearly_empty, there)):
            return
        if not told:
            log.info("run_drains", left=left, at_most_seconds=settings.grace_seconds, at_once="a second Ctrl-C")
            told = True
        for flow in books:
            flow.revive()
        at_once.wait(LOOK_SECONDS)


def _goes_on(books: Books) -> bool:
    return "consumers" not in books.paused


def is_nearly_empty(books: Books) -> bool:
    """Return True where consumers that are told to stop finish all there is: nothing waits, and each has one batch.

    That batch may only linger for more. A second one they would give back.
    """
    held = Counter(lease.consumer for lease in books.leases if not lease.delayed)
    return not books.ready and all(count == 1 for count in held.values())


def _run_inline(settings: Settings, flows: list[Flow], records: int | None, *, fail_on_dead: bool) -> int:
    from millrace.inline import Inline  # only here: a supervisor needs no source and no sink

    if len(flows) != 1:
        raise ConfigError(f"--inline runs one flow: name one of {', '.join(flow.name for flow in flows)}")
    logs.configure(settings.log, settings.log_level, service="inline")
    if not is_produced(flows[0]):
        raise flows[0].source.error("others push onto its list, and --inline has none: leave --inline out")
    running = Inline(flows[0], records=records)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, running.stop)
    code, for_people = 0, logs.is_pretty(settings.log)
    try:
        running.run()
    except MillraceError as error:
        if for_people:
            sys.stderr.write(f"millrace: {error}\n")
        else:
            log.error("inline_failed", flow=flows[0].name, reason=str(error))
        code = 2 if isinstance(error, ConfigError) else 1
    except Exception as error:
        if for_people:
            traceback.print_exc()
        else:
            log.exception("inline_failed", flow=flows[0].name, reason=f"{type(error).__name__}: {error}")
        code = 1
    counts = {name: getattr(running, name) for name in ("read", "delivered", "filtered", "duplicates")}
    counts |= {name: len(getattr(running, name)) for name in ("dead", "variants")}
    look = {"look": f"`millrace run {flows[0].name}` keeps them"} if running.dead else {}
    log.info("inline_done", flow=flows[0].name, **counts, **look)
    over = too_many_dead(flows[0], len(running.dead), running.read - running.duplicates, fail_on_dead=fail_on_dead)
    return code or (TOO_MANY_DEAD if over else 0)


def _hurry(supervisor: Supervisor, at_once: threading.Event) -> None:
    """Passes the second signal on: services that got their first stop at once."""
    at_once.wait()
    for child in supervisor.children.values():
        child.signal(signal.SIGTERM)


@contextlib.contextmanager
def redis_for(
    settings: Settings, flows: list[Flow], port: int | None, stopping: threading.Event, *, take_over: bool
) -> Iterator[tuple[Settings, bool]]:
    """The settings with the Redis to use, and whether its lists are to be ours: those of this folder's own are.

    It is REDIS_URL's, or the embedded Valkey of this folder, for as long as the block lasts.
    Raises ConfigError where a list is another project's, or another `millrace run` is at work on it.
    """
    if settings.redis_url_is_set:
        server = bring(settings, port=port, preferred=REDIS_PORT)
        log.info("redis_found", redis=str(server))
        look_before(server.url, settings.redis_seconds, stopping)
        _look_whose(server.url, flows, take_over=take_over)
        yield settings, take_over
        return
    with contextlib.ExitStack() as stack:
        for flow in flows:
            stack.enter_context(Home().running_flow(flow.name))
        server = bring(settings, port=port, preferred=REDIS_PORT)
        stack.callback(server.close)
        place = server.url.rpartition("@")[2].removeprefix("redis://")
        log.info(
            "valkey_started", url=server.url, look_inside=f"redis-cli -p {place.partition(':')[2].partition('/')[0]}"
        )
        yield settings.with_redis_url(server.url), True


def _look_whose(url: str, flows: list[Flow], *, take_over: bool) -> None:
    """Marks the lists, as each service does, so that a refusal is said once; not if Redis doesn't answer yet."""
    for flow in (part for one in flows for part in one.lists):
        queue = Session(url, flow.queue.list_name)
        queue.give_up.set()
        try:
            if flow.whole:
                hold_to_layout(url, flow, note=True)
            mark(queue, flow.project, take_over=take_over)
        except QueueError as error:
            log.warning("redis_unavailable", queue=flow.queue.key, reason=str(error))
        finally:
            queue.close()


def _all_empty(settings: Settings, flows: list[RunningFlow], paused: dict[str, str], *, until_empty: bool) -> bool:
    time.sleep(EMPTY_LOOKS_SECONDS)
    paused.clear()
    try:
        books = {flow: read_books(settings, flow.flow) for flow in flows}
    except QueueError:
        return False
    for flow, found in books.items():
        for part, more in (("producers", not flow.is_read(until_empty=until_empty)), ("consumers", found.lag > 0)):
            if more and part in found.paused:
                paused[flow.flow.name] = f"{part} {found.paused[part]}"
            elif more:
                return False
    return True
