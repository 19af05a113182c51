"""Doing: what the pages that put records back or drop them have in common: who may, what is asked, what is said."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from millrace.ui.letters import Filter
from millrace.ui.site import Site, to_sign_in
from millrace_pipeline.flows.flow import Flow

Verbs = Mapping[str, tuple[str, str]]
"""By the name of what can be done: what its button says, and what is said once it is done."""


def verb_in(request: Request, verbs: Verbs) -> str:
    """Return what the address asks to be done. Raises HTTPException."""
    verb: str = request.path_params["verb"]
    if verb not in verbs:
        raise HTTPException(404, "There is nothing of that name to be done.")
    return verb


def before_asking(site: Site, request: Request) -> Response | None:
    """Return what is answered to one who may not do anything here, or not yet; None to one who may."""
    if site.door.read_only:
        return site.page(request, "message.html", 403, title="Read only", text=site.door.read_only)
    if not site.session_of(request):
        query = f"?{request.url.query}" if request.url.query else ""
        return to_sign_in(f"{request.url.path}{query}")
    return None


def after_doing(site: Site, request: Request, words: str, done: int, *, all_done: bool, back: str) -> Response:
    """Say on the next page to how many it was done, and go there."""
    left = "" if all_done else "; more are left: do it again to go on"
    site.say(request, f"{done:,} {words}{left}")
    return RedirectResponse(back, 303)


def list_of(flow: Flow, kind: str, wanted: Filter) -> str:
    """Return the address of the list, filtered as it was."""
    return f"/flows/{flow.name}/{kind}?{wanted.query()}"
