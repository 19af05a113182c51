"""Tap: the page on which records pass by, as they are published, delivered or set aside, or where they wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, get_args

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from millrace.feeds import Place, Tapped
from millrace.tapping import Watch
from millrace.ui.content import preview
from millrace.ui.flows import flow_of
from millrace.ui.live import event_of, stream_of
from millrace.ui.site import Site
from millrace_pipeline.errors import ConfigError, QueueMisuse, QueueUnavailable
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue.tap import Text

PLACES: Mapping[Place, str] = {"in": "published", "out": "delivered", "dead": "set aside", "ready": "waiting"}
LISTENED: tuple[Place, ...] = ("in", "out")
"""Where one has to listen, which takes the right to write the tap's key."""

LOOK_SECONDS = 0.5
MOST_ROWS = 25
"""So many of a look are shown: nobody reads more."""

MOST_WAITING, MOST_LOOKS = 100, 40
"""Of what waits so many are shown, out of so many pages."""

MOST_TAPS = 20


class Row(NamedTuple):
    """A record that passed, as it is shown."""

    time: str
    became: str
    reason: str
    before: str
    after: list[str]
    """What the sink had of it, where that is another text."""
    party: str


def page(site: Site, request: Request) -> Response:
    """The page, whose rows come live."""
    flow, asked = flow_of(site, request), request.query_params
    at, where = place_in(asked.get("at", "")), asked.get("where", "").strip()
    refused = refusal(site, request, at)
    wrong = "" if refused else _mistake(site, flow, at, where)
    query = f"at={at}&where={site.templates.filters['part'](where)}"
    return site.page(
        request,
        "tap.html",
        flow=flow,
        at=at,
        where=where,
        places=PLACES,
        wrong=wrong,
        refused=refused,
        live="" if refused or wrong or "at" not in asked else f"/flows/{flow.name}/tap/live?{query}",
    )


def place_in(text: str) -> Place:
    """Return the place of this name, or else that of what is delivered."""
    return next((place for place in get_args(Place) if place == text), "out")


def refusal(site: Site, request: Request, at: Place) -> str:
    """Return why one can't listen there; empty where one can."""
    if at not in LISTENED:
        return ""
    if site.door.read_only:
        return site.door.read_only
    return "" if site.session_of(request) else "Listening takes the right to write: sign in."


class Taps:
    """The streams of records: `count` are open."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.count = 0

    async def live(self, request: Request) -> Response:
        """The events of one page: rows as they come, how many passed, and how Redis answers."""
        site, asked = self._site, request.query_params
        if request.path_params["flow"] not in site.flows:
            return PlainTextResponse("There is no such flow.\n", 404)
        flow, at = flow_of(site, request), place_in(asked.get("at", ""))
        if refusal(site, request, at):
            return PlainTextResponse("Sign in to listen.\n", 403)
        if self.count >= MOST_TAPS:
            return PlainTextResponse("Too many listen: close some of the pages.\n", 503, {"Retry-After": "10"})
        try:
            watch = _watch(site, flow, at, asked.get("where", "").strip())
        except ConfigError as error:
            return PlainTextResponse(f"{error}\n", 400)
        return stream_of(self._events(watch, at))

    async def _events(self, watch: Watch, at: Place) -> AsyncIterator[bytes]:
        row = self._site.templates.get_template("tap_rows.html")
        self.count += 1
        try:
            yield b"retry: 1000\n\n"
            while not self._site.watch.closing:
                try:
                    found = await anyio.to_thread.run_sync(partial(_first, watch) if at == "ready" else watch.look)
                except QueueUnavailable as error:
                    yield event_of("rows", {"rows": "", "away": f"Redis doesn't answer: {error}"})
                    await anyio.sleep(2 * LOOK_SECONDS)
                    continue
                except QueueMisuse as error:
                    yield event_of("rows", {"rows": "", "away": str(error)})
                    return
                over = watch.over or at == "ready"
                rows = [_row(one) for one in (found[::-1] if over else found[-MOST_ROWS:])]
                told = (
                    f"{watch.passed:,} {'wait' if at == 'ready' else 'passed'}, {watch.shown:,} fit"
                    if watch.seen
                    else ("nothing waits" if at == "ready" else "nothing has passed yet")
                )
                if watch.unfit:
                    told += f"; not asked of {sum(watch.unfit.values()):,}: {next(iter(watch.unfit))}"
                yield event_of("rows", {"rows": row.render(rows=rows), "away": "", "told": told, "over": over})
                if over:
                    return
                await anyio.sleep(LOOK_SECONDS)
        finally:
            self.count -= 1
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(watch.close)


def _first(watch: Watch) -> list[Tapped]:
    """The first of the records that wait."""
    found: list[Tapped] = []
    for _ in range(MOST_LOOKS):
        found += watch.look()
        if watch.over or len(found) >= MOST_WAITING:
            break
    return found[:MOST_WAITING]


def _watch(site: Site, flow: Flow, at: Place, where: str) -> Watch:
    with site.writing(flow) if at in LISTENED else site.reading(flow) as queue:
        return Watch(queue, at, where=where, every=True)


def _mistake(site: Site, flow: Flow, at: Place, where: str) -> str:
    """What is wrong with an expression; empty where it is one."""
    try:
        _watch(site, flow, at, where).close()
    except ConfigError as error:
        return str(error).removeprefix("--where ")
    return ""


def _row(one: Tapped) -> Row:
    clock = f"{datetime.fromtimestamp(one.time, UTC):%H:%M:%S.%f}"[:-3] if one.time else f"{one.position:,}"
    after = [] if one.after is None else [_shown(text) for text in one.after]
    return Row(clock, one.became, one.reason, _shown(one.record), after, one.party)


def _shown(text: Text) -> str:
    return preview(text.content, 400) + (f" ({text.size:,} bytes)" if text.is_cut else "")
