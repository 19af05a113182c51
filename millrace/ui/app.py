"""App: which address is which page, and what is answered when something is in the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from importlib.resources import files

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from millrace.ui import dead, flows, moving, steering, tap, variants
from millrace.ui.guard import Guard
from millrace.ui.live import Rendered, live
from millrace.ui.signing import Signing
from millrace.ui.site import Site, form_of, to_sign_in
from millrace_pipeline.errors import ConfigError, QueueError, QueueMisuse

Form = Sequence[tuple[str, str]]
Page = Callable[[Site, Request], Response]
Doing = Callable[[Site, Request, Form], Response]
Answering = Callable[[Request], Awaitable[Response]]

RETRY_SECONDS = 3
"""A page that Redis kept from being made is asked for again after that time."""

ASSETS = {"ui.css": "text/css", "ui.js": "text/javascript", "icon.svg": "image/svg+xml"}
OPEN = ("/sign-in", "/livez", *(f"/static/{name}" for name in ASSETS))
"""What can be had of a private page without signing in."""


def app_of(site: Site, hosts: Collection[str], signing: Signing) -> Starlette:
    """Return the page as an ASGI application, which answers to these hosts."""
    rendered = Rendered()

    def page(make: Page) -> Answering:
        async def answer(request: Request) -> Response:
            return await anyio.to_thread.run_sync(make, site, request)

        return _private(site, answer)

    def doing(make: Doing) -> Answering:
        async def answer(request: Request) -> Response:
            form = await form_of(request)
            return await anyio.to_thread.run_sync(make, site, request, form)

        return answer

    async def sign_in(request: Request) -> Response:
        return await signing.sign_in(request, await form_of(request))

    async def sign_out(request: Request) -> Response:
        return await signing.sign_out(request, await form_of(request))

    async def events(request: Request) -> Response:
        return await live(site, rendered, request)

    one = "/flows/{flow}"
    routes = [
        Route("/", page(flows.overview)),
        Route(one, page(flows.flow_page)),
        Route(f"{one}/dead", page(dead.listed)),
        Route(f"{one}/dead/do/{{verb}}", page(dead.asked)),
        Route(f"{one}/dead/do/{{verb}}", doing(dead.do), methods=["POST"]),
        Route(f"{one}/dead/{{id}}", page(dead.shown)),
        Route(f"{one}/dead/{{id}}/record", page(dead.record)),
        Route(f"{one}/dead/{{id}}/edit", doing(dead.edit), methods=["POST"]),
        Route(f"{one}/variants", page(variants.listed)),
        Route(f"{one}/variants/do/{{verb}}", page(variants.asked)),
        Route(f"{one}/variants/do/{{verb}}", doing(variants.do), methods=["POST"]),
        Route(f"{one}/variants/record/{{id:path}}", page(variants.record)),
        Route(f"{one}/variants/one/{{id:path}}", page(variants.shown)),
        Route(f"{one}/steer", page(steering.steer)),
        Route(f"{one}/steer/sure/{{act}}", page(moving.asked)),
        Route(f"{one}/steer/sure/{{act}}", doing(moving.do), methods=["POST"]),
        Route(f"{one}/steer/{{verb}}", doing(steering.do), methods=["POST"]),
        Route(f"{one}/tap", page(tap.page)),
        Route(f"{one}/tap/live", _private(site, tap.Taps(site).live)),
        Route("/live", _private(site, events)),
        Route("/sign-in", signing.page),
        Route("/sign-in", sign_in, methods=["POST"]),
        Route("/sign-out", sign_out, methods=["POST"]),
        Route("/livez", _alive),
        Route("/static/{name}", _asset),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers={
            HTTPException: _in_a_page(site),
            QueueError: _in_a_page(site),
            ConfigError: _in_a_page(site),
            Exception: _in_a_page(site),
        },
    )


def _private(site: Site, answer: Answering) -> Answering:
    async def guarded(request: Request) -> Response:
        if site.door.private and not site.session_of(request):
            return to_sign_in(request.url.path)
        return await answer(request)

    return guarded


def _in_a_page(site: Site) -> Callable[[Request, Exception], Response]:
    def told(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            title = "Not here" if error.status_code == 404 else "That can't be done"
            return site.page(request, "message.html", error.status_code, title=title, text=error.detail)
        if isinstance(error, ConfigError | QueueMisuse):
            title = "Redis refused it" if isinstance(error, QueueMisuse) else "Nothing was changed"
            return site.page(request, "message.html", 403, title=title, text=str(error))
        if isinstance(error, QueueError):
            text, retry = _again(request, error), RETRY_SECONDS if request.method == "GET" else 0
            answer = site.page(request, "message.html", 503, title="Redis doesn't answer", text=text, retry=retry)
            answer.headers["Retry-After"] = str(RETRY_SECONDS)
            return answer
        return site.page(
            request, "message.html", 500, title="That went wrong", text="The log of `millrace ui` says why."
        )

    return told


def _again(request: Request, error: Exception) -> str:
    if request.method == "POST":
        return f"{error}. Nobody knows if it was done: go back and look, once Redis answers again."
    return f"{error}. This page comes by itself once Redis answers again."


async def _alive(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSETS:
        return PlainTextResponse("There is no such file.\n", 404)
    content = (files("millrace.ui") / "static" / name).read_bytes()
    kept = "max-age=86400" if "v" in request.query_params else "no-cache"
    return Response(content, media_type=ASSETS[name], headers={"Cache-Control": kept})
