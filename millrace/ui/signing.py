"""Signing in and out: by a token, or by a link that works once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from millrace.ui.door import SESSION_SECONDS
from millrace.ui.site import Site

WRONG_SECONDS = 0.5
"""A wrong token takes so long to be told, and one after the other: nobody tries many."""


class Signing:
    """The page that signs in. `link` is the address that signs in once, told on standard error as it is made."""

    def __init__(self, site: Site, address: str) -> None:
        self._site = site
        self._address = address
        self._one_by_one = asyncio.Lock()

    def say_link(self) -> None:
        """Say where to go to be signed in, where no token was set."""
        door = self._site.door
        if not door.read_only and not door.has_token:
            sys.stderr.write(
                f"To change things, open this link, which works once: {self._address}sign-in?link={door.link_code()}\n"
            )
            sys.stderr.flush()

    async def page(self, request: Request) -> Response:
        """The form; or, with a link's code, the way in."""
        door = self._site.door
        if code := request.query_params.get("link", ""):
            async with self._one_by_one:
                if door.opens_by(code):
                    self.say_link()
                    return self._in(request, request.query_params.get("to", ""))
                await asyncio.sleep(WRONG_SECONDS)
            return self._form(
                request, "That link was used already, or is of an earlier start. The newest is in the terminal."
            )
        return self._form(request, "")

    async def sign_in(self, request: Request, form: Sequence[tuple[str, str]]) -> Response:
        """Take the token that was typed."""
        fields = dict(form)
        async with self._one_by_one:
            if not self._site.door.opens_to(fields.get("token", "")):
                await asyncio.sleep(WRONG_SECONDS)
                return self._form(request, "That is not the token.", 403)
        return self._in(request, fields.get("to", ""))

    async def sign_out(self, request: Request, form: Sequence[tuple[str, str]]) -> Response:
        """Forget the session in this browser."""
        if (refusal := self._site.refusal(request, dict(form))) is not None:
            return refusal
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(self._site.cookie)
        return answer

    def _form(self, request: Request, wrong: str, status: int = 200) -> Response:
        to = _here(request.query_params.get("to", ""))
        return self._site.page(request, "sign_in.html", status, to=to, wrong=wrong, door=self._site.door)

    def _in(self, request: Request, to: str) -> Response:
        answer = RedirectResponse(_here(to), 303)
        answer.set_cookie(
            self._site.cookie,
            self._site.door.session(),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer


def _here(to: str) -> str:
    """The address where it is one of this page, else the beginning: nobody is led elsewhere."""
    return to if to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable() else "/"
