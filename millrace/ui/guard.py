"""Guard: what holds for every request and every answer, whatever the page."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 8 * 1024 * 1024
"""No form is larger."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{what}-src 'self'" for what in ("script", "style", "img", "connect")),
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """Answers only to these hosts' names, so that no name of elsewhere that leads here reads the page (DNS rebinding).

    Takes a form only from a page of its own, of bounded size, and tells browsers what they may do with an answer.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._refusal(scope["method"], headers)
        await (refusal or self._app)(scope, receive, sending)

    def _refusal(self, method: str, headers: Headers) -> PlainTextResponse | None:
        if host_in(headers.get("host", "")) not in self._hosts:
            mend = "use localhost, or name this host in MILLRACE_UI_HOSTS"
            return PlainTextResponse(f"This page doesn't answer to that host name: {mend}.\n", 421)
        if method not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("This page is only looked at, or sent forms.\n", 405)
        if method == "POST":
            origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
            ours = urlsplit(origin).netloc == headers.get("host") if origin is not None else site == "same-origin"
            if not ours:
                return PlainTextResponse("That form was another site's: nothing was done.\n", 403)
            length = headers.get("content-length", "")
            if not length.isdigit() or int(length) > MOST_BYTES:
                return PlainTextResponse(f"A form here has at most {MOST_BYTES:,} bytes, and says how many.\n", 413)
        return None


def host_in(header: str) -> str:
    """Return the name or address in a Host header, without its port."""
    try:
        return (urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return ""
