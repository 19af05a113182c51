"""Live: the stream of server-sent events that keeps a page as things are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from millrace.ui.flows import Parts, chosen_names, flow_parts, overview_parts
from millrace.ui.site import Site
from millrace.ui.watch import Looked

MOST_VIEWERS = 200
STILL_SECONDS = 2.0
"""So often a stream says something, so that either side notices when the other is gone."""

SLOW_SECONDS = 3.0
"""Redis that hasn't answered for so long is said to be slow."""


class Rendered:
    """The parts of pages as the last round saw them, made once for all who look at the same."""

    def __init__(self) -> None:
        self._number = -1
        self._parts: dict[tuple[str, ...], Parts] = {}

    async def parts(self, looked: Looked, key: tuple[str, ...], make: Callable[[], Parts]) -> Parts:
        """Return the parts of this page for this round."""
        if looked.number != self._number:
            self._number, self._parts = looked.number, {}
        if key not in self._parts:
            self._parts[key] = await anyio.to_thread.run_sync(make)
        return self._parts[key]


async def live(site: Site, rendered: Rendered, request: Request) -> Response:
    """The events of one page: each has the parts that are not as they were, and how Redis answers."""
    if site.watch.viewers >= MOST_VIEWERS:
        return PlainTextResponse("Too many look on: close some of the pages.\n", 503, {"Retry-After": "10"})
    asked = request.query_params
    name, back, wanted = asked.get("flow", ""), asked.get("range", ""), asked.get("q", "").strip()
    if name and name not in site.flows:
        return PlainTextResponse("There is no such flow.\n", 404)
    names = [name] if name else chosen_names(site, wanted)

    def make(looked: Looked) -> Parts:
        return flow_parts(site, looked, site.flows[name], back) if name else overview_parts(site, looked, wanted)

    async def events() -> AsyncIterator[bytes]:
        sent: Parts = {}
        with site.watch.viewing(frozenset(names), frozenset([name] if name else [])) as viewer:
            yield b"retry: 1000\n\n"
            while not site.watch.closing:
                news = await viewer.turn(STILL_SECONDS)
                if site.watch.closing:
                    return
                if not news:
                    waits = site.watch.waits_seconds
                    yield event_of("state", _slow(waits) if waits > SLOW_SECONDS else {"still": True})
                    continue
                looked = site.watch.looked
                parts = await rendered.parts(looked, (name, back, wanted), partial(make, looked))
                changed = {id: html for id, html in parts.items() if sent.get(id) != html}
                sent = parts
                yield event_of("parts", {"parts": changed, **_state(looked, names)})

    return stream_of(events())


def _state(looked: Looked, names: list[str]) -> dict[str, Any]:
    away = [seen for name in names if (seen := looked.flows[name]).unreachable]
    if not away:
        return {"away": ""}
    first = min(away, key=lambda seen: seen.unreachable_since)
    of_them = "" if len(away) == len(names) else f" for {len(away)} of these flows"
    return {"away": f"Redis doesn't answer{of_them}: {first.unreachable}", "since": first.unreachable_since}


def _slow(seconds: float) -> dict[str, Any]:
    return {"away": f"Redis hasn't answered for {seconds:.0f} s"}


def stream_of(events: AsyncIterator[bytes]) -> Response:
    """Return a stream of server-sent events, each passed on as soon as it is there."""
    return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def event_of(name: str, told: dict[str, Any]) -> bytes:
    """Return an event of this name, with these data as JSON."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(told))
