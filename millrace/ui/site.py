"""Site: what all pages share: the flows, the watch, the door, and how a template becomes an answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qsl, quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from millrace.ages import age, span
from millrace.equation import crawl_line
from millrace.figures import number, rate, share
from millrace.server import Server, without_secrets
from millrace.ui.door import Door
from millrace.ui.visible import plain, visible
from millrace.ui.watch import Watch
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import Session
from millrace_pipeline.queue.changes import By


class Site:
    """The page of these flows, which reads as the user of `server` and writes as that of `operator_url`."""

    def __init__(self, flows: Mapping[str, Flow], server: Server, operator_url: str, door: Door, port: int) -> None:
        self.flows = flows
        self.server = server
        self.door = door
        self.watch = Watch(server.url, list(flows.values()))
        self.cookie = f"millrace-ui-{port}"
        """Cookies are shared by all ports of a host."""
        self._operator_url = operator_url
        self._said: dict[str, str] = {}
        self._lock = threading.Lock()

    @cached_property
    def templates(self) -> Environment:
        """The templates, which escape all that they are given."""
        made = Environment(
            loader=PackageLoader("millrace.ui"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        made.filters |= {
            "v": visible,
            "lines": lambda text: visible(text, lines=True),
            "plain": plain,
            "count": lambda count: f"{count:,}",
            "number": number,
            "rate": rate,
            "share": share,
            "crawl_line": crawl_line,
            "age": age,
            "span": span,
            "utc": lambda moment: f"{moment:%Y-%m-%d %H:%M:%S}",
            "moment": lambda seconds: f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}",
            "part": lambda text: quote(str(text), safe=""),
        }
        made.globals |= {"version": version("millrace"), "redis": without_secrets(self.server.url)}
        return made

    @contextmanager
    def reading(self, flow: Flow) -> Iterator[Session]:
        """The flow's queue, to look at it. It asks once: a person is waiting."""
        yield from _asking(self.server.url, flow)

    @contextmanager
    def writing(self, flow: Flow) -> Iterator[Session]:
        """The flow's queue as the user who may change it."""
        try:
            yield from _asking(self._operator_url, flow)
        finally:
            self.watch.forget(flow.name)

    def by(self, queue: Session) -> By:
        """Who changes something by the page: its host, and the user that Redis knows. Raises QueueError."""
        return By.here(queue, via="the page")

    def session_of(self, request: Request) -> str:
        """Return the session of who asks; empty where he isn't signed in."""
        session = request.cookies.get(self.cookie, "")
        return session if session and self.door.knows(session) else ""

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """Return the page that a template makes of these values."""
        session = self.session_of(request)
        return HTMLResponse(
            self.templates.get_template(template).render(
                {
                    "path": request.url.path,
                    "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
                    "signed_in": bool(session),
                    "read_only": self.door.read_only,
                    "word": self.door.form_word(session) if session else "",
                    "said": self._pop_said(session),
                    "live": "",
                    "retry": 0,
                    **values,
                }
            ),
            status,
        )

    def say(self, request: Request, text: str) -> None:
        """Have the next page of this session say what was done."""
        with self._lock:
            self._said[self.session_of(request)] = text

    def _pop_said(self, session: str) -> str:
        with self._lock:
            return self._said.pop(session, "") if session else ""

    def refusal(self, request: Request, form: Mapping[str, str]) -> Response | None:
        """Return what who may not change anything, or whose form is none of ours, is answered; None where he may."""
        if self.door.read_only:
            return self.page(request, "message.html", 403, title="Read only", text=self.door.read_only)
        session = self.session_of(request)
        if not session:
            return to_sign_in(request.url.path)
        if not self.door.is_form_of(session, form.get("word", "")):
            text = (
                "This form is from before you signed in, so nothing was done. Go back, reload the page, send it again."
            )
            return self.page(request, "message.html", 403, title="An old form", text=text)
        return None


async def form_of(request: Request) -> list[tuple[str, str]]:
    """Return the fields of the form that was sent; the guard has seen to its size."""
    body = await request.body()
    return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)


def to_sign_in(path: str) -> Response:
    """Return the way to the page that signs in and leads back here."""
    return RedirectResponse(f"/sign-in?to={quote(path, safe='/')}", 303)


def _asking(url: str, flow: Flow) -> Iterator[Session]:
    session = Session(url, flow.queue.list_name)
    session.give_up.set()
    try:
        yield session
    finally:
        session.close()
